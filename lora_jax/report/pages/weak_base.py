"""The page of runs on bases that know nothing: trained here from scratch on little text."""

from __future__ import annotations

from collections.abc import Sequence

from lora_jax.report.document import Block, Page, Table
from lora_jax.report.pages import ablations, text_generation
from lora_jax.result_schema import RunResult

ABOUT = """These bases are small GPT-2s trained here from scratch, for an epoch of WikiText-2 and
WebNLG or of a part of them, when no pretrained language model was available. LoRA adapts what a
base knows; these know next to nothing of the task's language, so the runs say nothing of the
paper's comparisons, and stand apart from its tables."""
ROWS = """The E2E test set, as in [table 3](table-3.md). Bold: the best of a column."""


def pages(found: Sequence[RunResult]) -> list[Page]:
  """The page of all runs on such bases; none without one."""
  blocks: list[Block] = [ABOUT]
  decoded = [run for run in found if run['experiment'] == 'e2e' and 'generated' in run]
  for model, own in text_generation.by_model(decoded).items():
    rows = text_generation.own_rows('3', own, {})
    blocks += [f'### {model}', Table(rows, ROWS)]
    details = text_generation.details(own)
    blocks.append(Table(details, 'How each was obtained', folded=True))
  for grid in ablations.rank_grids(found):
    blocks += ablations.of_ranks(grid)
  if not blocks[1:]:
    return []
  state = ', '.join(text_generation.by_model(found))
  return [Page('weak-base', 'LoRA on a base that knows nothing', state, blocks)]
