"""The paper's practical claims for GPT-3 175B (section 4.2), worked out and compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import config_dict

from lora_jax import tree
from lora_jax.cost import search, shapes
from lora_jax.paper import claims, settings
from lora_jax.result_schema import ClaimRow, Claims

SLICES = ('v5e', 'v5p')
BATCH, LENGTH = 8, settings.GPT3_LENGTHS['samsum']  # The longest of table 12.


def measure(
  configure: Callable[[str, Mapping[str, int]], config_dict.ConfigDict],
  say: Callable[[str], None],
  sliced: Sequence[str] = ('full', 'lora r=4'),
  **options: Any,
) -> Claims:
  """A row for each method: counts, bytes of each kind, and the smallest slices that fit.

  Args:
    configure: makes the config of a method of its name and options.
    say: called with a line about each plan as it is made.
    sliced: methods whose slices are looked for; each compiles a few times.
    **options: of `memory.plan`.
  """
  rows: dict[str, ClaimRow] = {}
  for name, sizes in claims.METHODS.items():
    config = configure(name.split()[0], sizes)
    row = count_bytes(config)
    row['paper_trained'] = claims.PRINTED[name]
    for kind in SLICES if name in sliced else ():
      tried: list[Any] = []
      for one in search.smallest_slice(config, kind, **options):
        slice = search.as_json(one)
        tried.append(slice)
        say(f'{name}: {slice["topology"]} {"fits" if slice["fits"] else "does not fit"}')
      row[kind] = {'fits': tried[-1]['fits'], 'tried': tried}
    rows[name] = row
    say(f'{name}: {row["trained"]:,} trained')
  return {'claims': rows, 'batch_size': BATCH, 'length': LENGTH, 'tasks': claims.TASKS}


def count_bytes(config: config_dict.ConfigDict) -> ClaimRow:
  """Counts and bytes of a method, over all devices together.

  The state is what stays between steps: the base, the trainable parameters and Adam's two moments
  of them; the gradient comes on top. Of a task that is served beside others, the trainable
  parameters alone are stored.
  """
  made = shapes.abstract_job(config)
  trained, base = tree.nbytes(made.trainable), tree.nbytes(made.frozen)
  total = made.summary.trainable + made.summary.frozen
  low = 2 * made.summary.trainable  # In the 16 bits of the base.
  return {
    'trained': made.summary.trainable,
    'total': total,
    'state_bytes': base + 3 * trained,
    'gradient_bytes': trained,
    'checkpoint_bytes': low,
    'checkpoint_bytes_float32': trained,
    'tasks_bytes': claims.TASKS * low + (2 * total if base else 0),
  }
