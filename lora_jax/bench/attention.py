"""Seconds of a train step by the implementation of attention."""

from __future__ import annotations

from collections.abc import Callable

from lora_jax.bench.steps import Case, Make, build, times
from lora_jax.bench.timing import Measured, Rounds, Row

BASE = 'xla'


def compare(
  maker: Callable[[str], Make],
  implementations: tuple[str, ...],
  cases: dict[str, Case],
  rounds: Rounds,
  jobs: int = 1,
) -> Measured:
  """Each implementation on each layout of a batch; one that cannot run here is skipped.

  Args:
    maker: of the name of an implementation, makes the step.
    implementations: their names, `xla` among them.
    cases: a batch by the name of its layout.
    rounds, jobs: as for `steps.build`.
  """
  rows: dict[str, Row] = {}
  skipped: dict[str, str] = {}
  for layout, case in cases.items():
    makers = {name: maker(name) for name in implementations}
    variants, reasons = build(makers, case, rounds, jobs)
    skipped |= {f'{layout}, {name}': reason for name, reason in reasons.items()}
    seconds = times(variants, case, rounds)
    for name, variant in variants.items():
      size = variant.size(case.times(rounds.steps_per_call))
      rows[f'{layout}, {name}'] = {
        'seconds': seconds[name],
        **({'seconds_ratio': seconds[name] / seconds[BASE]} if BASE in seconds else {}),
        'peak_bytes': size['peak_bytes'],
      }
  note = (
    'Seconds of a step by attention; ratios are to `xla` on the same batch, below 1 is faster. '
    'padded: one example of half to all of the columns in each row; packed: three in each row, '
    f'which see their own tokens only. Seconds are {rounds}.'
  )
  return Measured(rows, note, skipped)
