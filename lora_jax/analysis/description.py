"""What the JSON of an analysis says of its runs, and what its numbers mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_jax import tree
from lora_jax.analysis.factors import Update

DIGITS = 5
DEFINITIONS = {
  'phi': '||U1[:, :i]^T U2[:, :j]||_F^2 / min(i, j), row i, column j, from 1 (equation 4)',
  'chance': 'expected phi of random subspaces, max(i, j) / dimension',
  'of': "a: U are the right-singular vectors of the paper's A (section 7.2); update: those of dW; "
  "b: the left-singular vectors of the paper's B, in the layer's output",
  'input': 'right-singular vectors of dW as the paper writes it (W x)',
  'output': 'left-singular vectors of dW as the paper writes it',
  'update': 'dW = scale * B A: alpha / r is in its norm and singular values',
  'table7': 'Frobenius norms; on_X = ||U^T W V^T|| with the top `rank` directions of X',
  'amplification': '||dW|| / on_update',
  'effective_rank': 'exp of the entropy of s / sum(s) (Roy & Vetterli 2007)',
  'stable_rank': '||dW||_F^2 / ||dW||_2^2',
}


def describe(
  updates: Sequence[Update], trainable: tree.Params, method: Mapping[str, Any]
) -> dict[str, Any]:
  """A run's method, and the ranks, scales, matrices and number of parameters of its updates."""
  return {
    'method': dict(method),
    'ranks': sorted({update.rank for update in updates}),
    'scales': sorted({update.scale for update in updates}),
    'trained': sorted({update.matrix for update in updates}),
    'parameters': sum(update.a.size + update.b.size for update in updates),
    'leaves': len(tree.paths(trainable)),
  }


def check_bases(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
  """Raises a ValueError if the descriptions of two runs name different bases."""
  names = [Path(run['model']).name for run in (first, second)]
  fresh = [run.get('fresh') for run in (first, second)]
  if names[0] == names[1] and fresh[0] == fresh[1]:
    return
  what = names if names[0] != names[1] else [f'fresh, {each}' for each in fresh]
  raise ValueError(
    f'the runs are on different bases, {first["run"]} on {what[0]} and {second["run"]} on '
    f'{what[1]}: directions in one are not directions in the other. If it is one base under two '
    'names, say --other_base.'
  )


def round_floats(value: Any) -> Any:
  """JSON with its floats rounded to `DIGITS` significant digits, enough for pictures and tables."""
  if isinstance(value, dict):
    return {key: round_floats(item) for key, item in value.items()}
  if isinstance(value, list):
    return [round_floats(item) for item in value]
  return float(f'{value:.{DIGITS}g}') if isinstance(value, float) else value
