"""Files of a user's own, rows with named columns: JSON lines, CSV and TSV, by their endings."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from lora_jax import files, provenance
from lora_jax.data import sources

ENDINGS = ('.jsonl', '.csv', '.tsv')
ROLES = ('text', 'pair', 'label', 'number', 'prompt', 'completion', 'messages')
Row = dict[str, object]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files:
  """The section `own` of a config: the files, and the names of their columns."""

  data: str = ''
  dev: str = ''
  test: str = ''
  dev_rows: int = 0
  dev_seed: int = 0
  text: str = 'text'
  pair: str = 'pair'
  label: str = 'label'
  number: str = 'number'
  prompt: str = 'prompt'
  completion: str = 'completion'
  messages: str = 'messages'

  def column(self, role: str) -> str:
    """The name of a column, as files have it."""
    return str(getattr(self, role)).strip().lower()

  @property
  def named(self) -> set[str]:
    """The roles whose columns the user has named."""
    return {role for role in ROLES if self.column(role) not in ('', role)}


class Records(NamedTuple):
  """The rows of a file.

  Attributes:
    name: the file's name in errors.
    columns: their names, in lower case; every row has all of them.
    rows: values by column: texts, or of JSON lines any value.
    lines: the line of the file on which each row begins, counted from 1.
  """

  name: str
  columns: tuple[str, ...]
  rows: list[Row]
  lines: list[int]

  def where(self, row: int) -> str:
    """A row's place, for errors."""
    return f'{self.name}, line {self.lines[row]}'


def read(file: str, what: str) -> Records:
  """Reads a file; what was read once is kept while the file does not change.

  A JSON line is an object. CSV has a header and `"` quotes, in which a field may hold line breaks.
  TSV has a header and a row on each line; a field in quotes from end to end loses them. Empty lines
  are no rows.

  Args:
    file: its path, with one of `ENDINGS`.
    what: what it is read for, which is its name in a run's record.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: naming file and line, for text that is not UTF-8, a row without the columns of the
      first one, a file without rows, or another ending.
  """
  path = files.on_disk(file)
  if path.suffix.lower() not in ENDINGS:
    raise ValueError(
      f'{what} {file}: expected a file whose name ends in {", ".join(ENDINGS)}; .jsonl holds an '
      'object on each line'
    )
  if not path.is_file():
    raise FileNotFoundError(f'{what}: there is no file {file}')
  provenance.note(path, what)
  status = path.stat()
  return _read(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4)
def _read(path: pathlib.Path, modified: int, size: int) -> Records:
  del modified, size
  text = sources.Text(str(path), sources.decode(path.read_bytes(), str(path)))
  rows = {'.jsonl': _json_lines, '.csv': _csv, '.tsv': _tsv}[path.suffix.lower()](text)
  found = Records(str(path), (), [], [])
  for line, row in rows:
    where = f'{path}, line {line}'
    if not found.columns:
      found = found._replace(columns=tuple(row))
    elif row.keys() != set(found.columns):
      raise ValueError(
        f'{where}: expected the columns of line {found.lines[0]} ({", ".join(found.columns)}), '
        f'found {", ".join(row) or "none"}'
      )
    found.rows.append(row)
    found.lines.append(line)
  if not found.rows:
    raise ValueError(f'{path}: expected rows, found none')
  return found


def _json_lines(file: sources.Text) -> Iterator[tuple[int, Row]]:
  for line, text in enumerate(sources.split_lines(file), start=1):
    if not text.strip():
      continue
    where = f'{file.name}, line {line}'
    try:
      value = files.parse_json(text)
    except ValueError as error:
      raise ValueError(f'{where}: expected an object in JSON ({error}): {text[:80]!r}') from error
    value = sources.expect(value, dict, where)
    for column in [column for column in value if isinstance(value[column], str)]:
      sources.expect(value[column], str, f'{where}, {column}')
    yield line, _named(list(value), list(value.values()), where)


def _csv(file: sources.Text) -> Iterator[tuple[int, Row]]:
  rows = sources.csv_rows(file)
  _, names = next(rows, (1, []))
  for line, fields in rows:
    yield line, _named(names, fields, f'{file.name}, line 1')


def _tsv(file: sources.Text) -> Iterator[tuple[int, Row]]:
  names: list[str] = []
  for line, text in enumerate(sources.split_lines(file), start=1):
    if not text.strip():
      continue
    fields = [sources.unquoted(field) for field in text.removesuffix('\r').split('\t')]
    names = names or fields
    if len(fields) != len(names):
      raise ValueError(
        f'{file.name}, line {line}: expected {len(names)} tab-separated fields, found '
        f'{len(fields)}: {text[:80]!r}. Texts with line breaks or tabs go into a .csv or .jsonl.'
      )
    if fields is not names:
      yield line, _named(names, fields, f'{file.name}, line 1')


def _named(names: list[str], values: list[object] | list[str], where: str) -> Row:
  plain = [name.strip().lower() for name in names]
  if len(set(plain)) < len(plain):
    raise ValueError(f'{where}: two columns have the same name: {", ".join(names)}')
  return dict(zip(plain, values))
