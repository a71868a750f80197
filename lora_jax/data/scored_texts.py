"""Files of predictions and of references, in the forms that are in use, and their alignment.

Predictions, one for each meaning representation (MR):
  plain lines, in the order of the references;
  `.csv`, with a header: `output`, and `mr` if the order is another;
  `.tsv`, the challenge's form, with the same columns. Each field may stand in double quotes; in
  single quotes if all fields of the file do.

References:
  `.csv` with the columns `mr` and `ref`: the references of one MR belong together, and MRs are in
  the order of their first rows;
  plain lines, with an empty line between two MRs' references;
  several plain files: line i of each is for prediction i, and is empty if that file has no
  reference for it.

A TSV may have empty lines: the challenge's `harv.tsv` ends its lines with two carriage returns, so
that every other line looks empty. Such lines hold no row (the row of an empty output has a tab), so
nothing is lost with them.
"""

from __future__ import annotations

import csv
import io
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from lora_jax.data import sources


class Predictions(NamedTuple):
  """Predicted texts of a file.

  Attributes:
    name: of the file.
    texts: one for each segment.
    lines: the line of the file on which each text begins.
    meanings: the MR of each text, if the file names them.
  """

  name: str
  texts: list[str]
  lines: list[int]
  meanings: list[str] | None


class References(NamedTuple):
  """Reference texts of one or several files; attributes as those of `Predictions`, by segment."""

  name: str
  texts: list[list[str]]
  lines: list[int]
  meanings: list[str] | None


def read_predictions(path: str, allow_empty: bool = False) -> Predictions:
  """Reads plain lines, CSV or TSV, as the file's name ends; the module describes the forms.

  Args:
    path: the file.
    allow_empty: whether empty predictions are allowed; otherwise they are errors.

  Raises:
    ValueError: for text that is not UTF-8, missing columns or an empty prediction, naming file and
      line.
    OSError: if the file cannot be read.
  """
  file = _read(path)
  ending = pathlib.Path(path).suffix.lower()
  if ending in ('.csv', '.tsv'):
    table = _read_tsv(file) if ending == '.tsv' else _read_csv(file, ('output',), ('mr',))
    columns = list(zip(*table.rows)) or [(), ()]
    meanings = list(columns[1]) if len(columns) > 1 else None
    predictions = Predictions(file.name, list(columns[0]), table.lines, meanings)
  else:
    lines = _lines(file)
    predictions = Predictions(file.name, lines, list(range(1, len(lines) + 1)), None)
  if not predictions.texts:
    raise ValueError(f'{file.name} holds no predictions')
  for line, prediction in zip(predictions.lines, predictions.texts):
    if not prediction.strip() and not allow_empty:
      raise ValueError(
        f'{file.name}, line {line}: an empty prediction. If the model answered with nothing, pass '
        '--allow_empty; otherwise remove the empty lines.'
      )
  return predictions


def read_references(paths: Sequence[str]) -> References:
  """Reads a CSV, a file of groups of lines, or several files line by line.

  Raises:
    ValueError: for text that is not UTF-8, missing columns, an empty reference or group, or files
      of unequal length, naming file and line.
    OSError: if a file cannot be read.
  """
  files = [_read(path) for path in paths]
  if empty := [file.name for file in files if not file.text.strip()]:
    raise ValueError(f'{empty[0]} holds no references')
  if len(files) > 1:
    return _parallel(files)
  file = files[0]
  if pathlib.Path(paths[0]).suffix.lower() != '.csv':
    return _grouped_lines(file)
  table = sources.read_csv(file, ('mr', 'ref'))
  groups: dict[str, list[str]] = {}
  lines: dict[str, int] = {}
  for row, (meaning, reference) in enumerate(table.rows):
    if not reference.strip() or not meaning.strip():
      raise ValueError(f'{table.where(row)}: an empty {"ref" if meaning.strip() else "mr"}')
    groups.setdefault(meaning, []).append(reference)
    lines.setdefault(meaning, table.lines[row])
  return References(file.name, list(groups.values()), list(lines.values()), list(groups))


def align(predictions: Predictions, references: References) -> list[str]:
  """The predictions in the order of the references: by MR if both files name it, else as they are.

  Raises:
    ValueError: if there are more or fewer predictions than segments, or an MR has two, naming the
      first that has no partner.
  """
  if predictions.meanings is not None and references.meanings is not None:
    return _by_meaning(predictions, predictions.meanings, references, references.meanings)
  found, expected = len(predictions.texts), len(references.texts)
  if found == expected:
    return predictions.texts
  more, count = (predictions, expected) if found > expected else (references, found)
  raise ValueError(
    f'{more.name}, line {more.lines[count]}: the first without a partner. Expected as many '
    f'predictions as segments; found {found} predictions in {predictions.name} and {expected} '
    f'segments ({sum(map(len, references.texts))} references) in {references.name}.'
  )


def _by_meaning(
  predictions: Predictions, predicted: list[str], references: References, wanted: list[str]
) -> list[str]:
  """The predictions in the order of the MRs of the references, `wanted`."""
  places: dict[str, int] = {}
  for i, meaning in enumerate(predicted):
    if meaning in places:
      raise ValueError(
        f'{predictions.name}, line {predictions.lines[i]}: a second prediction, after that of line '
        f'{predictions.lines[places[meaning]]}, for {meaning!r}'
      )
    places[meaning] = i
  if missing := [i for i, meaning in enumerate(wanted) if meaning not in places]:
    raise ValueError(
      f'{predictions.name}: no prediction for {len(missing)} of {len(references.texts)} MRs, the '
      f'first of them {wanted[missing[0]]!r} '
      f'({references.name}, line {references.lines[missing[0]]})'
    )
  if extra := set(places).difference(wanted):
    first = min(places[meaning] for meaning in extra)
    raise ValueError(
      f'{predictions.name}, line {predictions.lines[first]}: {references.name} has no references '
      f'for {predicted[first]!r}, nor for {len(extra) - 1} other MRs of the predictions'
    )
  return [predictions.texts[places[meaning]] for meaning in wanted]


def _parallel(files: Sequence[sources.Text]) -> References:
  """References of several files: line i of each is for segment i."""
  columns = [_lines(file) for file in files]
  shortest, longest = (
    pick(range(len(files)), key=lambda k: len(columns[k])) for pick in (min, max)
  )
  if len(columns[shortest]) != len(columns[longest]):
    raise ValueError(
      f'{files[shortest].name}, line {len(columns[shortest])}: the file ends, but '
      f'{files[longest].name} has {len(columns[longest])} lines. Expected files of equal length, '
      'with an empty line where a file has no reference.'
    )
  for i, texts in enumerate(zip(*columns)):
    if not any(reference.strip() for reference in texts):
      raise ValueError(f'{files[0].name}, line {i + 1}: empty here and in all other files')
  lines = list(range(1, len(columns[0]) + 1))
  return References(files[0].name, [list(texts) for texts in zip(*columns)], lines, None)


def _grouped_lines(file: sources.Text) -> References:
  """References with an empty line between groups; without such a line, one for each segment."""
  lines = _lines(file)
  while lines and not lines[-1].strip():
    lines.pop()
  groups: list[list[str]] = [[]]
  starts = [1]
  for number, line in enumerate(lines, start=1):
    if line.strip():
      groups[-1].append(line)
      continue
    if not groups[-1]:
      raise ValueError(
        f'{file.name}, line {number}: expected one empty line between two groups of references, '
        'found a second or one at the beginning'
      )
    groups.append([])
    starts.append(number + 1)
  if len(groups) == 1:
    groups, starts = [[line] for line in groups[0]], list(range(1, len(groups[0]) + 1))
  return References(file.name, groups, starts, None)


def _read_tsv(file: sources.Text) -> sources.Table:
  """Rows (output, MR) of the challenge's form, without empty lines."""
  numbered = [(i, line) for i, line in enumerate(_lines(file), start=1) if line.strip()]
  rows = [line.split('\t') for _, line in numbered]
  names = [sources.unquoted(name).strip().lower() for name in rows[0]] if rows else []
  if 'output' not in names:
    raise ValueError(
      f'{file.name}, line {numbered[0][0] if rows else 1}: expected a header with the columns MR '
      f'and output, separated by a tab; found {names}'
    )
  for (number, line), fields in zip(numbered, rows):
    if len(fields) != len(names):
      raise ValueError(
        f'{file.name}, line {number}: expected {len(names)} tab-separated fields, found '
        f'{len(fields)}: {line[:80]!r}'
      )
  picks = [names.index(name) for name in ('output', 'mr') if name in names]
  # A sentence may begin and end with an apostrophe, but if all fields do, these are quotes.
  single = all(re.fullmatch("'.*'", field) for fields in rows[1:] for field in fields)
  quote = "'" if single else '"'
  fields_of_rows = [
    tuple(sources.unquoted(fields[pick], quote) for pick in picks) for fields in rows[1:]
  ]
  return sources.Table(file.name, fields_of_rows, [number for number, _ in numbered[1:]])


def _read_csv(file: sources.Text, wanted: Sequence[str], optional: Sequence[str]) -> sources.Table:
  """Rows of the wanted columns and those of the optional ones that the file has."""
  header = next(csv.reader(io.StringIO(file.text, newline='')), [])
  names = [name.strip().lower() for name in header]
  return sources.read_csv(file, [*wanted, *(name for name in optional if name in names)])


def _lines(file: sources.Text) -> list[str]:
  return [line.rstrip('\r') for line in sources.split_lines(file)]


def _read(path: str) -> sources.Text:
  return sources.Text(path, sources.decode(pathlib.Path(path).read_bytes(), path))
