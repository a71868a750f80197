"""WikiSQL (Zhong et al., 2017): a table's columns and a question in, SQL out (paper, section 5.5).

A context is the table's column names joined by ` | `, a line break, and the question; the target is
the query (metrics/sql.py). The paper names the parts of its input but not their form, so the form
is our choice. Queries name columns: in a table with two columns of one name they mean the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from lora_jax.data import sources
from lora_jax.data.data_to_text import Example
from lora_jax.metrics import sql

SPLITS = ('train', 'dev', 'test')


def read(split: str, source: str, data_dir: str) -> list[Example]:
  """Rows of a split, in the order of its file.

  Raises:
    ValueError: for an unknown split or a malformed line, naming file and line.
    FileNotFoundError: if the files are not there, naming the places looked at.
  """
  sources.check_files('wikisql', source, 'what its data.tar.bz2 unpacks to')
  sources.check_split('wikisql', split, SPLITS)
  archives = ('wikisql.zip', 'data.zip')
  columns = {}
  for where, table in _lines(sources.find_text(data_dir, archives, f'{split}.tables.jsonl')):
    header = sources.get(table, 'header', list, where)
    columns[sources.get(table, 'id', str, where)] = [
      sources.expect(name, str, f'{where}, header') for name in header
    ]
  file = sources.find_text(data_dir, archives, f'{split}.jsonl')
  rows = [_row(value, columns, where) for where, value in _lines(file)]
  if not rows:
    raise ValueError(f'{file.name}: expected questions, found none')
  return rows


def _row(value: object, tables: dict[str, list[str]], where: str) -> Example:
  name = sources.get(value, 'table_id', str, where)
  if name not in tables:
    raise ValueError(f'{where}: table {name!r} is not among the {len(tables)} of .tables.jsonl')
  header = tables[name]
  query = sources.get(value, 'sql', dict, where)

  def pick(known: Sequence[str], number: object, what: str) -> str:
    if not isinstance(number, int) or not 0 <= number < len(known):
      raise ValueError(f'{where}: expected {what} from 0 to {len(known) - 1}, found {number!r}')
    return known[number]

  conditions = []
  for condition in sources.get(query, 'conds', list, where):
    if len(sources.expect(condition, list, where)) != 3:
      raise ValueError(f'{where}: expected [column, operator, value], found {condition}')
    column, operator, wanted = condition
    column = pick(header, column, 'a column of a condition')
    conditions.append((column, pick(sql.OPERATORS, operator, 'an operator'), str(wanted)))
  form = sql.Query(
    pick(sql.AGGREGATIONS, query.get('agg'), 'an aggregation'),
    pick(header, query.get('sel'), 'a selected column'),
    tuple(conditions),
  )
  question = ' '.join(sources.get_text(value, 'question', where).split())
  return Example(f'{" | ".join(header)}\n{question}', str(form))


def _lines(file: sources.Text) -> Iterator[tuple[str, object]]:
  """For each line that is not blank, its name in errors and its JSON value."""
  for number, line in enumerate(file.text.split('\n'), start=1):
    if not line.strip():
      continue
    where = f'{file.name}, line {number}'
    try:
      yield where, json.loads(line)
    except RecursionError:
      raise ValueError(f'{where}: JSON that is nested too deeply') from None
    except json.JSONDecodeError as error:
      raise ValueError(f'{where}: not JSON ({error.msg}). Download the file again.') from error
