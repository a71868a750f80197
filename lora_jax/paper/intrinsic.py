"""Published intrinsic dimensions, from which the paper's section 1 draws its conclusion.

Aghajanyan et al. (2020), arXiv 2012.13255 v1, table 1: transcribed from a summary of that version,
and in accord with its abstract ("200 trainable parameters" of RoBERTa on MRPC).
"""

from __future__ import annotations

from typing import NamedTuple

from lora_jax.paper.printed import Printed

SHARE = 0.9  # Of full fine-tuning's score, that d90 is defined by.
COLUMNS = ('MRPC, said', 'QQP, said', 'MRPC, did', 'QQP, did')


class Row(NamedTuple):
  """A model with its layers and width, and the d90 of each of `COLUMNS`."""

  model: str
  layers: int
  width: int
  d90: tuple[int, int, int, int]

  @property
  def lora(self) -> int:
    """Parameters of LoRA of rank 1 on query and value: two factors of two matrices a layer."""
    return self.layers * 2 * 2 * self.width


ROWS = (
  Row('BERT-base', 12, 768, (1608, 8030, 1861, 9295)),
  Row('BERT-large', 24, 1024, (1037, 1200, 2493, 1389)),
  Row('RoBERTa-base', 12, 768, (896, 896, 1000, 1389)),
  Row('RoBERTa-large', 24, 1024, (207, 774, 322, 774)),
)
TABLE = Printed(
  'Published d90 (Aghajanyan et al., 2020, arXiv 2012.13255, table 1, transcribed from a summary '
  'of it), and the parameters of LoRA of rank 1 on query and value of the same models',
  tuple(
    {'model': row.model}
    | {name: f'{d:,}' for name, d in zip(COLUMNS, row.d90)}
    | {'LoRA, r=1': f'{row.lora:,}'}
    for row in ROWS
  ),
)
