"""The paper's practical claims for GPT-3 175B (section 4.2), worked out and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ml_collections import config_dict

from lora_jax import tree
from lora_jax.cost import search, shapes

# Table 12's methods in the sizes of table 4, and the r=4 of section 4.2.
METHODS: dict[str, dict[str, Any]] = {
  'full': {},
  'lora r=4': dict(rank=4),
  'lora r=1': dict(rank=1),
  'lora r=8': dict(rank=8),
  'bitfit': {},
  'prefix_embed': dict(prefix=256, infix=8),
  'prefix_layer': dict(prefix=8, infix=8),
  'adapter_h 1': dict(bottleneck=1),
  'adapter_h 8': dict(bottleneck=8),
}
PAPER = {  # Trained parameters, as tables 4 and 15 print them.
  'full': '175,255.8M', 'lora r=4': '18.8M', 'lora r=1': '4.7M', 'lora r=8': '37.7M',
  'bitfit': '14.2M', 'prefix_embed': '3.2M', 'prefix_layer': '20.2M', 'adapter_h 1': '7.1M',
  'adapter_h 8': '40.1M',
}  # fmt: skip
SLICES = ('v5e', 'v5p')
BATCH, LENGTH, TASKS = 8, 2048, 100


def measure(
  configure: Callable[[str, dict[str, Any]], config_dict.ConfigDict],
  say: Callable[[str], None],
  sliced: tuple[str, ...] = ('full', 'lora r=4'),
  **options: Any,
) -> dict[str, Any]:
  """A row for each method: counts, bytes of each kind, and the smallest slices that fit.

  Args:
    configure: the config of a method by its name and options.
    say: told of each plan as it is made.
    sliced: methods whose slices are looked for; each compiles a few times.
    **options: of `memory.plan`.
  """
  rows = {}
  for name, chosen in METHODS.items():
    config = configure(name.split()[0], chosen)
    row = sizes(config) | {'paper_trained': PAPER[name]}
    for kind in SLICES if name in sliced else ():
      tried = []
      for one in search.smallest_slice(config, kind, **options):
        tried.append(one)
        say(f'{name}: {one["topology"]} {"fits" if one["fits"] else "does not fit"}')
      row[kind] = {'fits': tried[-1]['fits'], 'tried': tried}
    rows[name] = row
    say(f'{name}: {row["trained"]:,} trained')
  return {'claims': rows, 'batch_size': BATCH, 'length': LENGTH, 'tasks': TASKS}


def sizes(config: config_dict.ConfigDict) -> dict[str, int]:
  """Counts and bytes of a method, over all devices together.

  The state is what stays between steps: base, trained leaves, Adam's two moments; the gradient
  comes on top. Of a task served beside others only what is trained is stored.
  """
  made = shapes.abstract_job(config)
  trained, base = tree.nbytes(made.trainable), tree.nbytes(made.frozen)
  total = made.summary.trainable + made.summary.frozen
  low = 2 * made.summary.trainable  # What is trained, in the base's 16 bits.
  return {
    'trained': made.summary.trainable,
    'total': total,
    'state_bytes': base + 3 * trained,
    'gradient_bytes': trained,
    'checkpoint_bytes': low,
    'checkpoint_bytes_float32': trained,
    'tasks_bytes': TASKS * low + (2 * total if base else 0),
  }
