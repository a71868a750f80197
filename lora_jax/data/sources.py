"""Where rows come from: official archives and files, or data that TFDS has prepared.

Both give plain columns of strings and numbers, which the modules of the tasks interpret.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import pathlib
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from lora_jax import extras, files, provenance
from lora_jax.errors import nearest

SOURCES = ('files', 'tfds')
T = TypeVar('T')


class Text(NamedTuple):
  """A decoded text file, and its name in errors."""

  name: str
  text: str


class Table(NamedTuple):
  """Rows of a text file.

  Attributes:
    name: the file's name in errors.
    rows: the fields of each row, in the order in which the columns were asked for.
    lines: the line of the file on which each row begins, counted from 1.
  """

  name: str
  rows: list[tuple[str, ...]]
  lines: list[int]

  def where(self, row: int) -> str:
    """A row's place, for errors."""
    return f'{self.name}, line {self.lines[row]}'


def check_source(source: str) -> None:
  """Raises a ValueError unless `source` is 'files' or 'tfds'."""
  if source not in SOURCES:
    raise ValueError(f'unknown data source {source!r}. {nearest(source, SOURCES)}')


def check_files(task: str, source: str, archives: str) -> None:
  """Raises a ValueError unless `source` is 'files', for a task that TFDS does not have."""
  check_source(source)
  if source != 'files':
    raise ValueError(f"{task} is read from {archives} alone: use config.data.source='files'")


def check_split(task: str, split: str, known: Iterable[str]) -> None:
  """Raises a ValueError unless `split` is one of a task's."""
  if split not in (known := list(known)):
    raise ValueError(f'{task} has no split {split!r}. {nearest(split, known)}')


def find_text(folder: str | pathlib.Path, archives: Sequence[str], member: str) -> Text:
  """Reads `member` ('RTE/train.tsv') from a folder, unpacked or inside one of `archives`.

  The places are `folder/RTE/train.tsv`; `folder/train.tsv`, if the folder itself is the archive's
  (it is named `RTE`, or the archive has no folder); and `folder/RTE.zip`, which is not unpacked.

  Raises:
    FileNotFoundError: if it is in none of these places, naming them.
    ValueError: if an archive is damaged or the text is not UTF-8 (the line is named).
  """
  if not str(folder):
    raise FileNotFoundError(
      f'config.data.dir is empty: it must name the folder that holds {archives[0]} or {member}'
    )
  folder = files.on_disk(folder)
  if not folder.is_dir():
    raise FileNotFoundError(f'config.data.dir {str(folder)!r} is not a folder')
  base = pathlib.PurePosixPath(member)
  paths = [folder / member]
  if str(base.parent) == folder.name:
    paths.append(folder / base.name)
  if str(base.parent) == '.':  # Unpacked with `unzip -d NAME`, or by a file manager.
    paths += [folder / pathlib.Path(archive).stem / member for archive in archives]
  for path in paths:
    if path.is_file():
      return _text(str(path), member, path.read_bytes())
  for archive in archives:
    path = folder / archive
    if path.is_file():
      return _from_archive(path, member)
  looked = [str(p) for p in paths] + [str(folder / a) for a in archives]
  raise FileNotFoundError(
    f'No {member}. Looked for {", ".join(looked)}. Put the official archive there, or what it '
    'unpacks to.'
  )


def _from_archive(path: pathlib.Path, member: str) -> Text:
  try:
    with zipfile.ZipFile(path) as archive:
      names = archive.namelist()
      found = [n for n in names if n == member or n.endswith('/' + member)]
      if not found:
        raise FileNotFoundError(f'{path} holds no {member}; it holds {", ".join(sorted(names))}')
      data = archive.read(found[0])
  except (zipfile.BadZipFile, EOFError, OSError) as error:
    if isinstance(error, FileNotFoundError):
      raise
    raise ValueError(
      f'{path} is truncated or not a zip archive ({error}). Download it again.'
    ) from error
  return _text(f'{path}:{found[0]}', member, data)


def _text(name: str, member: str, data: bytes) -> Text:
  provenance.note(name, member, data)
  return Text(name, decode(data, name))


def _encoding(data: bytes) -> str:
  """A guess of the encoding of text that is not UTF-8."""
  return 'utf-16' if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else 'latin1'


def decode(data: bytes, name: str) -> str:
  """The text of UTF-8, with or without a byte order mark.

  Raises:
    ValueError: if the data is not UTF-8 or holds a NUL byte, naming file, line and byte.
  """
  try:
    text = data.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    line = data.count(b'\n', 0, error.start) + 1
    raise ValueError(
      f'{name}, line {line}: expected UTF-8, found byte 0x{data[error.start]:02x}. Convert the '
      f'file (iconv -f {_encoding(data)} -t utf-8), or download it again if it is an official one.'
    ) from error
  if (place := text.find('\0')) >= 0:
    line = text.count('\n', 0, place) + 1
    raise ValueError(
      f'{name}, line {line}: expected text, found a NUL byte. Convert the file to UTF-8 if it is '
      'UTF-16, or download it again if it is an official one.'
    )
  return text


def read_tsv(
  file: Text,
  columns: Sequence[str],
  header: bool = True,
  width: int = 0,
  skip_incomplete: bool = False,
) -> Table:
  """Columns of a tab-separated file without quoting (GLUE's files hold unbalanced `"`).

  Args:
    file: the text.
    columns: names in the header; without a header, positions counted from 0 as strings.
    header: whether the first line names the columns.
    width: the number of fields of a file without a header.
    skip_incomplete: drop rows with missing fields instead of refusing the file. GLUE's QQP has a
      few; TFDS and Hugging Face drop them as well.

  Raises:
    ValueError: naming the file, the line, and the columns expected and found.
  """
  lines = [line.removesuffix('\r') for line in split_lines(file)]
  if header:
    names = lines[0].split('\t') if lines else []
    picks, width = _find_columns(file, names, columns), len(names)
  else:
    picks = [int(column) for column in columns]
  rows, numbers = [], []
  for number, line in enumerate(lines[header:], start=1 + header):
    fields = line.split('\t')
    if len(fields) != width:
      if skip_incomplete:
        continue
      raise ValueError(
        f'{file.name}, line {number}: expected {width} tab-separated fields, '
        f'found {len(fields)}: {line[:80]!r}'
      )
    rows.append(tuple(fields[i] for i in picks))
    numbers.append(number)
  return Table(file.name, rows, numbers)


def read_csv(file: Text, columns: Sequence[str]) -> Table:
  """Columns of a comma-separated file with `"` quotes; fields may hold line breaks.

  Raises:
    ValueError: naming the file, the line, and the columns expected and found.
  """
  found = csv_rows(file)
  names = [name.strip().lower() for name in next(found, (1, []))[1]]
  picks = _find_columns(file, names, columns)
  table = Table(file.name, [], [])
  for line, fields in found:
    table.rows.append(tuple(fields[i] for i in picks))
    table.lines.append(line)
  return table


def csv_rows(file: Text) -> Iterator[tuple[int, list[str]]]:
  """The rows of a comma-separated file with `"` quotes, its header too, and their lines.

  Empty lines are no rows.

  Raises:
    ValueError: naming file and line, if it is not CSV or a row is not as wide as the first.
  """
  # Of the whole process; 131,072 characters by default.
  csv.field_size_limit(max(csv.field_size_limit(), len(file.text) + 1))
  reader = csv.reader(io.StringIO(file.text, newline=''), strict=True)
  width, line = 0, 1
  try:
    for fields in reader:
      width = width or len(fields)
      if fields and len(fields) != width:
        raise ValueError(
          f'{file.name}, line {line}: expected {width} comma-separated fields, '
          f'found {len(fields)}: {",".join(fields)[:80]!r}'
        )
      if fields:
        yield line, fields
      line = reader.line_num + 1
  except csv.Error as error:
    raise ValueError(f'{file.name}, line {line}: not CSV ({error})') from error


def unquoted(field: str, quote: str = '"') -> str:
  """The content of a field in quotes; a field that is not in `"` from end to end, as it is.

  A field in other quotes may hold single ones, so that the caller has to know that it is quoted.
  """
  if quote == '"' and not re.fullmatch('"(?:[^"]|"")*"', field):
    return field
  return field[1:-1].replace(quote * 2, quote)


def split_lines(file: Text) -> list[str]:
  """The lines of a file, which may end in a carriage return."""
  # Not splitlines(): sentences hold U+2028, U+0085 and other characters that it breaks at.
  lines = file.text.split('\n')
  return lines[:-1] if not lines[-1] else lines


def _find_columns(file: Text, names: Sequence[str], columns: Sequence[str]) -> list[int]:
  """The places of columns in a header."""
  if missing := [column for column in columns if column not in names]:
    raise ValueError(
      f'{file.name}, line 1: expected a header with the columns {", ".join(columns)}; '
      f'{", ".join(missing)} missing in {names}'
    )
  return [names.index(column) for column in columns]


def read_json(file: Text) -> object:
  """The value of a JSON file.

  Raises:
    ValueError: if it is damaged, naming the file and the line.
  """
  try:
    return json.loads(file.text)
  except RecursionError:
    raise ValueError(f'{file.name}: JSON that is nested too deeply') from None
  except json.JSONDecodeError as error:
    raise ValueError(
      f'{file.name}, line {error.lineno}: not JSON ({error.msg}). Download the file again.'
    ) from error


def get(value: object, key: str, kind: type[T], where: str) -> T:
  """`value[key]`, which must be of type `kind`.

  Raises:
    ValueError: beginning with `where`, if it is missing or of another type.
  """
  found = expect(value, dict, where)
  if key not in found:
    raise ValueError(f'{where}: expected the key {key!r}, found {", ".join(found) or "none"}')
  return expect(found[key], kind, f'{where}, {key}')


def get_text(value: object, key: str, where: str) -> str:
  """As `get`, of a text, without the spaces around it; an empty one is refused."""
  text = get(value, key, str, where).strip()
  if not text:
    raise ValueError(f'{where}, {key}: expected a text, found an empty one')
  return text


def expect(value: object, kind: type[T], where: str) -> T:
  """The value, if it is of type `kind`; else raises a ValueError that begins with `where`."""
  if not isinstance(value, kind):
    names = {dict: 'an object', list: 'a list', str: 'a string'}
    raise ValueError(f'{where}: expected {names[kind]}, found {str(value)[:60]!r}')
  if isinstance(value, str) and re.search('[\ud800-\udfff]', value):
    raise ValueError(f'{where}: expected text, found half of a surrogate pair in {value[:60]!r}')
  return value


class Prepared(NamedTuple):
  """A split that TFDS has prepared: records, and the features that describe them."""

  name: str
  features: Mapping[str, Any]  # TFDS's own classes, which take a second to import.
  records: Sequence[dict[str, Any]]


def read_tfds(name: str, folder: str | pathlib.Path, split: str) -> Prepared:
  """Reads a split of data that TFDS has prepared as array_record, without importing TensorFlow.

  Args:
    name: `glue/rte`.
    folder: TFDS's data_dir; empty for TFDS's default.
    split: TFDS's name of the split.

  Raises:
    FileNotFoundError: if it is not prepared, or in another format, giving the command to run.
    ValueError: if there is no such split.
  """
  extras.require('tensorflow_datasets', 'array_record')
  import tensorflow_datasets as tfds  # Takes a second, and only this source needs it.

  if name.startswith('glue/'):
    import tensorflow_datasets.text.glue  # tfds.builder finds no `glue` without it.

  data_dir = str(files.on_disk(folder)) if str(folder) else None
  builder = tfds.builder(name, data_dir=data_dir)
  random_access = (tfds.core.FileFormat.ARRAY_RECORD, tfds.core.FileFormat.PARQUET)
  if not builder.is_prepared() or builder.info.file_format not in random_access:
    found = f'found {builder.info.file_format.value}' if builder.is_prepared() else 'found nothing'
    raise FileNotFoundError(
      f'{builder.data_path}: expected {name} prepared by TFDS as array_record, {found}. Prepare '
      'it once, where TensorFlow is installed: tfds build '
      f'{name} --file_format=array_record --data_dir={data_dir or "~/tensorflow_datasets"}'
    )
  if split not in builder.info.splits:
    raise ValueError(f'{builder.data_path}: no split {split!r}, found {list(builder.info.splits)}')
  for path in builder.info.splits[split].filepaths:
    provenance.note(path)
  records = cast(Sequence[dict[str, Any]], builder.as_data_source(split=split))
  return Prepared(f'{builder.data_path}:{split}', builder.info.features, records)
