"""Where rows come from: official archives and files, or data that TFDS has prepared.

Both give plain columns of strings and numbers; what they mean is the business of `glue` and `e2e`.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import pathlib
import zipfile
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

SOURCES = ('files', 'tfds')


class Text(NamedTuple):
  """A decoded text file and the name it goes by in errors."""

  name: str
  text: str


class Table(NamedTuple):
  """Rows of a text file, each a tuple of fields in the order of the columns asked for."""

  name: str
  rows: list[tuple[str, ...]]
  lines: list[int]  # the line of the file on which each row begins, counted from 1

  def where(self, row: int) -> str:
    return f'{self.name}, line {self.lines[row]}'


def check_source(source: str) -> None:
  """Raises ValueError unless `source` is a known one."""
  if source not in SOURCES:
    raise ValueError(f'Unknown data source {source!r}{nearest(source, SOURCES)}')


def check_files(task: str, source: str, archives: str) -> None:
  """Raises ValueError unless `source` is 'files', for a task that is read from them alone."""
  check_source(source)
  if source != 'files':
    raise ValueError(f"{task} is read from {archives} alone: use config.data.source='files'")


def check_split(task: str, split: str, known: Iterable[str]) -> None:
  """Raises ValueError unless `split` is one of a task's."""
  if split not in (known := list(known)):
    raise ValueError(f'{task} has no split {split!r}{nearest(split, known)}')


def nearest(name: str, known: Sequence[str]) -> str:
  """The end of an error about an unknown name: the nearest known ones, then all of them."""
  near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
  meant = f'; did you mean {" or ".join(map(repr, near))}?' if near else '.'
  return f'{meant} Known: {", ".join(map(str, known))}.'


def find_text(folder: str | pathlib.Path, archives: Sequence[str], member: str) -> Text:
  """Reads `member` ('RTE/train.tsv') from a folder, unpacked or inside one of `archives`.

  Looked for as `folder/RTE/train.tsv`, as `folder/train.tsv` if the folder itself is the archive's
  (named `RTE`, or the archive has no folder), and in `folder/RTE.zip`, which is not unpacked.

  Raises:
    FileNotFoundError: naming every place that was looked at.
    ValueError: if an archive is damaged or the text is not UTF-8 (the line is named).
  """
  if not str(folder):
    raise FileNotFoundError(
      f'config.data.dir is empty: it must name the folder that holds {archives[0]} or {member}'
    )
  folder = pathlib.Path(folder).expanduser()
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
      return Text(str(path), decode(path.read_bytes(), str(path)))
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
    raise ValueError(f'{path} is truncated or no zip archive ({error}); fetch it again') from error
  return Text(f'{path}:{found[0]}', decode(data, f'{path}:{found[0]}'))


def decode(data: bytes, name: str) -> str:
  """UTF-8, with or without a byte order mark.

  Raises:
    ValueError: naming file, line and byte where the data is something else.
  """
  try:
    return data.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    line = data.count(b'\n', 0, error.start) + 1
    raise ValueError(
      f'{name}, line {line}: expected UTF-8, found byte 0x{data[error.start]:02x}. Convert the '
      'file (iconv -f latin1 -t utf-8) or fetch the official one.'
    ) from error


def read_tsv(
  file: Text,
  columns: Sequence[str],
  header: bool = True,
  width: int = 0,
  skip_incomplete: bool = False,
) -> Table:
  """Columns of a tab-separated file without quoting (GLUE's files hold unbalanced `"`).

  Args:
    columns: names in the header; without a header, positions counted from 0 as strings.
    width: number of fields of a file without a header.
    skip_incomplete: drop rows with fields missing instead of refusing the file. GLUE's QQP has a
      few; TFDS and Hugging Face drop them as well.

  Raises:
    ValueError: naming the file, the line, and the columns expected and found.
  """
  # Not splitlines(): sentences hold U+2028, U+0085 and other characters that it breaks at.
  lines = file.text.split('\n')
  if lines and not lines[-1]:
    lines.pop()
  lines = [line.removesuffix('\r') for line in lines]
  if header:
    names = lines[0].split('\t') if lines else []
    if missing := [column for column in columns if column not in names]:
      raise ValueError(
        f'{file.name}, line 1: expected a header with the columns {", ".join(columns)}; '
        f'{", ".join(missing)} missing in {names}'
      )
    picks, width = [names.index(column) for column in columns], len(names)
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
  reader = csv.reader(io.StringIO(file.text, newline=''), strict=True)
  rows, numbers, line = [], [], 1
  try:
    names = [name.strip().lower() for name in next(reader, [])]
    if missing := [column for column in columns if column not in names]:
      raise ValueError(
        f'{file.name}, line 1: expected a header with the columns {", ".join(columns)}; '
        f'{", ".join(missing)} missing in {names}'
      )
    picks = [names.index(column) for column in columns]
    line = reader.line_num + 1
    for fields in reader:
      if fields:
        if len(fields) != len(names):
          raise ValueError(
            f'{file.name}, line {line}: expected {len(names)} comma-separated fields, '
            f'found {len(fields)}: {",".join(fields)[:80]!r}'
          )
        rows.append(tuple(fields[i] for i in picks))
        numbers.append(line)
      line = reader.line_num + 1
  except csv.Error as error:
    raise ValueError(f'{file.name}, line {line}: not CSV ({error})') from error
  return Table(file.name, rows, numbers)


def read_json(file: Text) -> Any:
  """What a JSON file holds.

  Raises:
    ValueError: naming the file and the line where it is damaged.
  """
  try:
    return json.loads(file.text)
  except json.JSONDecodeError as error:
    raise ValueError(
      f'{file.name}, line {error.lineno}: not JSON ({error.msg}); fetch the file again'
    ) from error


def get(value: Any, key: str, kind: type, where: str) -> Any:
  """`value[key]`, of a type that the file must have there.

  Raises:
    ValueError: beginning with `where`, if it is missing or of another type.
  """
  if key not in expect(value, dict, where):
    raise ValueError(f'{where}: expected the key {key!r}, found {", ".join(value) or "none"}')
  return expect(value[key], kind, f'{where}, {key}')


def expect(value: Any, kind: type, where: str) -> Any:
  """The value itself, or a ValueError that begins with `where` if it is of another type."""
  if not isinstance(value, kind):
    names = {dict: 'an object', list: 'a list', str: 'a string'}
    raise ValueError(f'{where}: expected {names[kind]}, found {str(value)[:60]!r}')
  return value


class Prepared(NamedTuple):
  """A split that TFDS has prepared: records, and the features that describe them."""

  name: str
  features: Any
  records: Sequence[dict[str, Any]]


def read_tfds(name: str, folder: str | pathlib.Path, split: str) -> Prepared:
  """A split of data that TFDS has prepared as array_record; no TensorFlow is imported.

  Args:
    name: `glue/rte`.
    folder: TFDS's data_dir; empty for its own default.

  Raises:
    FileNotFoundError: if it is not prepared, or in another format, with the command that does it.
    ValueError: if there is no such split.
  """
  import tensorflow_datasets as tfds  # Takes a second, and only this source needs it.

  if name.startswith('glue/'):
    import tensorflow_datasets.text.glue  # tfds.builder finds no `glue` without it.

  data_dir = str(pathlib.Path(folder).expanduser()) if str(folder) else None
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
  records = builder.as_data_source(split=split)
  return Prepared(f'{builder.data_path}:{split}', builder.info.features, records)
