"""What a method matched and how many parameters it trains, as numbers and as a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lora_jax import tree
from lora_jax.methods.base import Method


class Row(NamedTuple):
  """One pattern: the module or leaf paths that it matched, and the parameters trained there."""

  pattern: str
  matched: tuple[str, ...]
  parameters: int


class Summary(NamedTuple):
  """Counts of the trained and the frozen parameters. `str(summary)` is a table.

  Attributes:
    rows: one for each pattern, in the method's order, and one for trained parameters that no
      pattern matches; a parameter counts for the first pattern that matches it.
    trainable: number of trained parameters, the task head's included.
    head: number of trained parameters of the task head, which the paper's tables leave out.
    frozen, frozen_bytes: number and bytes of the parameters that stay, those of the method too.
    low_precision: number of trained parameters by dtype, for dtypes of less than 32 bits.
  """

  rows: tuple[Row, ...]
  trainable: int
  head: int
  frozen: int
  frozen_bytes: int
  low_precision: Mapping[str, int]

  def __str__(self) -> str:
    width = max([len('pattern'), *(len(row.pattern) for row in self.rows)])
    lines = [f'{"pattern":{width}}  matched  parameters']
    lines += [
      f'{row.pattern:{width}}  {len(row.matched):7,}  {row.parameters:10,}' for row in self.rows
    ]
    total = self.trainable + self.frozen
    head = f', of them {self.head:,} in the task head' if self.head else ''
    lines.append(
      f'trained {self.trainable:,} of {total:,} ({self.trainable / max(total, 1):.3%}){head}; '
      f'frozen {self.frozen:,} ({self.frozen_bytes / 1e6:,.1f} MB)'
    )
    lines += [
      f'{number:,} of the trained are {dtype}, in which small steps round to nothing: give them to '
      '`init` as float32'
      for dtype, number in self.low_precision.items()
    ]
    return '\n'.join(lines)


def summarize(
  method: Method, frozen: tree.Params, trainable: tree.Params, head: str | Sequence[str] = ()
) -> Summary:
  """Counts the parameters that `method.init` returned, per pattern and in all.

  Args:
    method: the method.
    frozen: its frozen part (arrays or shapes).
    trainable: its trained part.
    head: regular expressions of the paths of the task head's leaves (`model.head`).
  """
  everything = tree.flatten(trainable)
  kept = {path: leaf for path, leaf in everything.items() if method.fixed(path)}
  leaves = {path: leaf for path, leaf in everything.items() if path not in kept}
  left = dict(leaves)
  rows = []
  for pattern in method.patterns:
    matched: dict[str, None] = {}
    parameters = 0
    for path in list(left):
      module = path.rpartition('/')[0]
      name = next((name for name in (module, path) if re.fullmatch(pattern, name)), None)
      if name is not None:
        matched[name] = None
        parameters += tree.count({path: left.pop(path)})
    rows.append(Row(pattern, tuple(matched), parameters))
  if left:  # Leaves that an option trains, not a pattern: the biases of LoRA.
    rows.append(Row('(others)', tuple(left), tree.count(left)))
  in_head = {
    p: x for p, x in leaves.items() if any(re.fullmatch(q, p) for q in tree.as_patterns(head))
  }
  low_precision: dict[str, int] = {}
  for path, leaf in leaves.items():
    if leaf.dtype.itemsize < 4:
      number = low_precision.get(str(leaf.dtype), 0)
      low_precision[str(leaf.dtype)] = number + tree.count({path: leaf})
  return Summary(
    tuple(rows),
    tree.count(leaves),
    tree.count(in_head),
    tree.count(frozen) + tree.count(kept),
    tree.nbytes(frozen) + tree.nbytes(kept),
    low_precision,
  )
