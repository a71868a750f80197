"""The tables of published models: which run is of which row, and ours beside the paper's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lora_jax.paper import entries, printed
from lora_jax.report import runs, scores
from lora_jax.result_schema import RunResult

TABLES = {
  '2': entries.TABLE_2,
  '3': entries.TABLE_3,
  '13': entries.TABLE_13,
  '14': entries.TABLE_14,
}
QUOTED = 'quoted'
OBTAINED = 'How ours was obtained; an entry has each setting by itself, in the order of these rows'
MARKS = """Quoted: taken by the paper from earlier work, without settings. Where ours stands beside
a value, the difference is in brackets, bold if larger than the paper's spread and ours together."""


def row_of(table: str, run: RunResult) -> entries.Entry | None:
  """The row of a run of one of the paper's models: that of its method with the nearest count."""
  same = [
    row
    for row in TABLES[table]
    if (row.model, row.method) == (runs.model_name(run), run['method'])
    and row.adapter_setup == run['paper_table'].endswith('†')
  ]
  trained = run['parameters']['trainable_without_head'] / 1e6
  return min(same, key=lambda row: abs(printed.millions(row.printed) - trained), default=None)


def rows(
  table: str, columns: Sequence[str], values: Callable[[entries.Entry, str], list[list[float]]]
) -> list[dict[str, str]]:
  """The paper's rows, with ours beside a value where `values` has some, and how much was run.

  Args:
    table: the number of the table.
    columns: of the table, that we measure.
    values: of a row and a column our scores, of each setting those of its seeds.
  """
  shown = []
  for row, texts in zip(TABLES[table], printed.TABLES[table].rows, strict=True):
    own = {column: values(row, column) for column in columns}
    done = sum(map(bool, own.values()))
    state = QUOTED if row.quoted else 'not run'
    if done:
      state = 'run' if done == len(columns) else f'{done} of {len(columns)} run'
    beside = {column: scores.beside(texts[column], *own[column]) for column in columns}
    shown.append({**texts, **beside, 'ours': state})
  return shown


def settings(group: Sequence[RunResult], found: Sequence[RunResult]) -> dict[str, str]:
  """What tells the runs of one setting from the others of a table, as a column."""
  first = group[0]
  return {'settings': ', '.join(filter(None, (first['preset'], runs.settings(first, found))))}
