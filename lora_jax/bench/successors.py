"""Step time and memory of LoRA's successors over those of LoRA, timed in pairs."""

from __future__ import annotations

import copy
import functools
import statistics
from collections.abc import Mapping

from ml_collections import ConfigDict

from lora_jax.bench.steps import Case, Make, Variant, build
from lora_jax.bench.timing import Measured, Rounds, Row
from lora_jax.cost import program

# Seconds of a step over LoRA's that are aimed at, and ranks of VeRA: at 1024, its paper's, already
# the FLOPs are beyond the aim.
AIMS = {'lora_plus': 1.0, 'lora_fa': 1.0, 'pissa': 1.15, 'dora': 1.3, 'vera': 1.05}
VERA_RANKS = (128, 1024)


def makers(
  lora: ConfigDict, vera: ConfigDict, changes: Mapping[str, Mapping[str, object]]
) -> dict[str, Make]:
  """What makes the step of each variant, by name and, of VeRA, rank.

  Args:
    lora, vera: a config of each of the two methods.
    changes: what a variant changes in the config of its method, by its name.
  """
  made = {}
  for name in AIMS:
    for rank in VERA_RANKS if name == 'vera' else (lora.method.rank,):
      config = copy.deepcopy(vera if name == 'vera' else lora)
      config.update_from_flattened_dict({'method.rank': rank, **changes[name]})
      made[f'vera r={rank}' if name == 'vera' else name] = functools.partial(Variant, config)
  return made


def compare(makers: Mapping[str, Make], plain: Make, case: Case, rounds: Rounds) -> Measured:
  """The step of each variant and of plain LoRA, one right after the other.

  What else the machine does slows both of a pair, so the ratio of a pair is taken, not that of two
  medians. Programs are compiled one at a time.

  Args:
    makers: make the step of each variant; `AIMS` has the first words of their names.
    plain: makes that of plain LoRA.
    case, rounds: as for `steps.build`; a round is a pair of each variant.
  """
  name_of_plain = 'lora'
  variants, skipped = build({**makers, name_of_plain: plain}, case, rounds)
  batch = case.times(rounds.steps_per_call)
  base = variants.pop(name_of_plain, None)
  if base is None:
    raise ValueError(f'plain LoRA cannot run here: {skipped[name_of_plain]}')
  times: dict[str, list[float]] = {name: [] for name in (*variants, name_of_plain)}
  ratios: dict[str, list[float]] = {name: [] for name in variants}
  for counted in range(-1, rounds.count):
    for name, variant in variants.items():
      taken, of_plain = (one.seconds(batch, rounds.dispatches) for one in (variant, base))
      if counted >= 0:
        times[name].append(taken)
        times[name_of_plain].append(of_plain)
        ratios[name].append(taken / of_plain)
  rows: dict[str, Row] = {}
  for name, variant in {**variants, name_of_plain: base}.items():
    compiled = variant.program(batch).compiled
    rows[name] = {
      'seconds': statistics.median(times[name]) if times[name] else float('nan'),
      'temporary_bytes': program.size(compiled).temporary,
      'flops': program.flops(compiled),
      'trained': variant.trained,
    }
  for name, values in ratios.items():
    rows[name]['seconds_ratio'] = statistics.median(values)
    for key in ('temporary_bytes', 'flops'):
      rows[name][f'{key}_ratio'] = rows[name][key] / rows[name_of_plain][key]
    rows[name]['aim'] = AIMS[name.partition(' ')[0]]
  note = (
    'Ratios to plain LoRA; that of seconds is the median over pairs of steps, one right after the '
    'other. temporary_bytes is what the compiled step keeps while it runs: activations, most of '
    f'all. Seconds of a step are {rounds}.'
  )
  return Measured(rows, note, skipped)
