"""WikiSQL's queries as text, and their logical form (Zhong et al., 2017).

A query has one column, an aggregation or none, and conditions joined by AND. It is written as

    SELECT COUNT("Position") FROM table WHERE "Years in Toronto" = '1995-96' AND "No." > '4'

with a quote doubled inside a name or value. Two queries have the same logical form if column,
aggregation and the set of conditions are equal, values compared in lower case, as the official
evaluation does without --ordered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

# In the order of their numbers in the files.
AGGREGATIONS = ('', 'MAX', 'MIN', 'COUNT', 'SUM', 'AVG')
OPERATORS = ('=', '>', '<', 'OP')

_NAME = r'"((?:[^"]|"")+)"'
_VALUE = r"'((?:[^']|'')*)'"
_CONDITION = re.compile(rf'{_NAME}\s*(=|>|<|OP)\s*{_VALUE}')
_HEAD = re.compile(
  rf'\s*SELECT\s+(?:({"|".join(AGGREGATIONS[1:])})\s*\(\s*{_NAME}\s*\)|{_NAME})\s+FROM\s+table\b\s*',
  re.IGNORECASE,
)


class Query(NamedTuple):
  """A query: aggregation ('' for none), column, and conditions (column, operator, value)."""

  aggregation: str
  column: str
  conditions: tuple[tuple[str, str, str], ...] = ()

  def __str__(self) -> str:
    column = _quoted(self.column, '"')
    selected = f'{self.aggregation}({column})' if self.aggregation else column
    conditions = ' AND '.join(
      f'{_quoted(name, chr(34))} {operator} {_quoted(value, chr(39))}'
      for name, operator, value in self.conditions
    )
    return f'SELECT {selected} FROM table' + (f' WHERE {conditions}' if conditions else '')

  def same(self, other: Query) -> bool:
    """Whether the logical forms are equal."""
    form = lambda query: (
      query.aggregation,
      _plain(query.column),
      {
        (_plain(name), operator, _plain(value).lower())
        for name, operator, value in query.conditions
      },
    )
    return form(self) == form(other)


def parse(text: str) -> Query:
  """The query that a text is.

  Raises:
    ValueError: if it is not a query, saying what was expected and what was found.
  """
  head = _HEAD.match(text)
  if head is None:
    raise ValueError(f'expected SELECT "column" FROM table, found {text[:60]!r}')
  aggregation = (head[1] or '').upper()
  column, rest = _unquoted(head[2] or head[3], '"'), text[head.end() :].strip()
  conditions: list[tuple[str, str, str]] = []
  word = 'WHERE'
  while rest:
    if not re.match(rf'{word}\b', rest, re.IGNORECASE):
      raise ValueError(f'expected {word} or the end, found {rest[:60]!r}')
    rest = rest[len(word) :].strip()
    found = _CONDITION.match(rest)
    if found is None:
      raise ValueError(f'expected "column" {" ".join(OPERATORS)} \'value\', found {rest[:60]!r}')
    conditions.append((_unquoted(found[1], '"'), found[2].upper(), _unquoted(found[3], "'")))
    rest, word = rest[found.end() :].strip(), 'AND'
  return Query(aggregation, column, tuple(conditions))


def logical_form(
  predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[float, float]:
  """(accuracy of the logical form, share of predictions that are queries), both in [0, 1].

  Every reference counts, so a question that occurs twice in the file counts twice, as in the
  official evaluation.

  Raises:
    ValueError: if a reference is not a query.
  """
  right = parsed = total = 0
  for prediction, queries in zip(predictions, references, strict=True):
    wanted = [parse(query) for query in queries]
    total += len(wanted)
    try:
      found = parse(prediction)
    except ValueError:
      continue
    parsed += len(wanted)
    right += sum(found.same(query) for query in wanted)
  return right / total, parsed / total


def _quoted(text: str, quote: str) -> str:
  return quote + text.replace(quote, quote * 2) + quote


def _unquoted(text: str, quote: str) -> str:
  return text.replace(quote * 2, quote)


def _plain(text: str) -> str:
  """The text with single spaces, as generated texts have them."""
  return ' '.join(text.split())
