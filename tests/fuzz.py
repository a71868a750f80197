"""Reads damaged and hostile files: `python -m tests.fuzz --count=10000 [--reader=peft]`.

Each reader gets a valid file, changed at random: bytes flipped, cut, inserted or repeated; values
in JSON replaced; members of archives and headers changed and packed again, so that checksums and
lengths fit. It has to return a value, or raise a ValueError or an OSError that names the file,
within seconds and without executing anything or filling the memory.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import pathlib
import random
import resource
import signal
import struct
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from lora_jax import provenance
from lora_jax.adapters import formats, loralib, native, peft
from lora_jax.data import load_task, scored_texts, tokenizer_files
from lora_jax.pretrained import huggingface, load_model, pytorch_writer, safetensors
from lora_jax.report import runs
from lora_jax.train import rundir
from tests.adapters import toys
from tests.pretrained import pickled

SECONDS = 20  # Of one file; a reader that takes longer hangs.
GROWTH = 1 << 20  # KiB by which the process may grow in one file.
# What no reader does: start a process, connect, delete, or call what a pickle names.
FORBIDDEN = {
  'os.system', 'os.exec', 'os.fork', 'os.forkpty', 'os.posix_spawn', 'os.spawn', 'os.startfile',
  'subprocess.Popen', 'socket.connect', 'os.remove', 'os.rename', 'os.rmdir', 'shutil.rmtree',
  'pickle.find_class', 'ctypes.dlopen',
}  # fmt: skip
STRANGE = (
  None, True, [], {}, '', '\0', '../../etc/passwd', '(', 'a' * 5000, '\ud800', -1, 0, 1, 0.5, 1e308,
  float('nan'), float('inf'), 2**31, 2**60, 10**30, -(2**63), [[]], [None], ['.*'], {'a': 1},
)  # fmt: skip


class Reader(NamedTuple):
  """A reader of files.

  Attributes:
    write: writes valid files into a folder.
    read: reads them.
    files: those that are changed, one at a time.
  """

  write: Callable[[pathlib.Path], object]
  read: Callable[[pathlib.Path], object]
  files: tuple[str, ...]


class Report(NamedTuple):
  """What came of a number of files: how many were read or refused, and all that is wrong."""

  read: int
  refused: int
  wrong: list[str]


class Hang(BaseException):
  """A reader took longer than `SECONDS`."""


def fuzz(reader: Reader, count: int, seed: int) -> Report:
  """Reads `count` changed files."""
  drawn = random.Random(seed)
  read = refused = 0
  wrong = []
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name) / 'case'
    folder.mkdir()
    reader.write(folder)
    originals = {file: (folder / file).read_bytes() for file in reader.files}
    reader.read(folder)  # It is valid.
    for number in range(count):
      file = reader.files[number % len(reader.files)]
      content = mutated(originals[file], drawn)
      (folder / file).write_bytes(content)
      problem = watched(lambda: reader.read(folder), (file, str(folder)))
      (folder / file).write_bytes(originals[file])
      if problem is None:
        read += 1
      elif not problem:
        refused += 1
      else:
        wrong.append(f'seed {seed}, change {number} of {file} ({len(content)} bytes): {problem}')
  return Report(read, refused, wrong)


def watched(read: Callable[[], object], names: tuple[str, ...]) -> str | None:
  """None if a value is read, '' if it is refused by an error that holds a name, else a problem."""
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  with _deadline(), _events() as seen:
    try:
      read()
      problem = None
    except (ValueError, OSError) as error:
      named = any(name in str(error) for name in names)
      problem = '' if named else f'unnamed: {type(error).__name__}: {error}'
    except Hang:
      problem = f'hang, longer than {SECONDS} s'
    except Exception as error:
      where = traceback.extract_tb(error.__traceback__)[-1]
      place = f'{pathlib.Path(where.filename).name}:{where.lineno}'
      problem = f'unnamed: {type(error).__name__}: {str(error)[:200]} at {place}'
  if seen:
    return f'executed: {seen}'
  if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > GROWTH:
    return 'memory: grew by more than a GiB'
  return problem


def mutated(content: bytes, drawn: random.Random) -> bytes:
  """The content of a file with a few changes in its own format, or in its bytes."""
  ways = [_bytes]
  if content[:2] == b'PK':
    ways += [_zip] * 4
  elif content[:1] in b'{[' and len(content) < 1 << 20:
    ways += [_json] * 3
  elif len(content) > 8 and content[8:9] == b'{':
    ways += [_safetensors] * 3
  for _ in range(drawn.choice((1, 1, 1, 2, 5))):
    content = drawn.choice(ways)(content, drawn)
  return content


def _bytes(content: bytes, drawn: random.Random) -> bytes:
  if not content:
    return drawn.randbytes(drawn.randrange(1, 64))
  at = drawn.randrange(min(len(content), drawn.choice((64, 4096, len(content)))) or 1)
  kind = drawn.randrange(6)
  if kind == 0:
    return content[:at] + bytes([content[at] ^ 1 << drawn.randrange(8)]) + content[at + 1 :]
  if kind == 1:
    return content[:at]
  if kind == 2:
    return content[:at] + drawn.randbytes(drawn.randrange(1, 16)) + content[at:]
  if kind == 3:
    return content[:at] + content[at + drawn.randrange(1, 64) :]
  if kind == 4:
    return content[:at] + content[at : at + drawn.randrange(1, 64)] * 2 + content[at:]
  special = (b'\xff' * 8, b'\0' * 8, b'\xef\xbb\xbf', b'\r\n', b'\t', b'"', b'\x7f' + b'\xff' * 7)
  return content[:at] + drawn.choice(special) + content[at + 8 :]


def _json(content: bytes, drawn: random.Random) -> bytes:
  try:
    value = json.loads(content)
  except ValueError:
    return _bytes(content, drawn)
  return json.dumps(_changed(value, drawn)).encode('utf-8', 'surrogatepass')


def _changed(value: Any, drawn: random.Random) -> Any:
  """The JSON value with one of its parts replaced, removed, repeated or nested."""
  if isinstance(value, dict) and value and drawn.random() < 0.85:
    key = drawn.choice(list(value))
    kind = drawn.random()
    if kind < 0.1:
      return {name: x for name, x in value.items() if name != key}
    if kind < 0.2:
      return {f'{name}x' if name == key else name: x for name, x in value.items()}
    return value | {key: _changed(value[key], drawn)}
  if isinstance(value, list) and value and drawn.random() < 0.7:
    at = drawn.randrange(len(value))
    if drawn.random() < 0.2:
      return value[:at] + value[at + 1 :] * drawn.randrange(3)
    return [*value[:at], _changed(value[at], drawn), *value[at + 1 :]]
  if drawn.random() < 0.1:
    for _ in range(drawn.choice((1, 50, 900))):
      value = [value]
    return value
  return drawn.choice(STRANGE)


def _safetensors(content: bytes, drawn: random.Random) -> bytes:
  if len(content) < 8:
    return _bytes(content, drawn)
  length = struct.unpack('<Q', content[:8])[0]
  if length > len(content) - 8:
    return _bytes(content, drawn)
  header = _json(content[8 : 8 + length], drawn)
  claimed = drawn.choice((len(header), len(header), len(header), 2**60, 0, len(content) * 2))
  return struct.pack('<Q', claimed) + header + content[8 + length :]


def _zip(content: bytes, drawn: random.Random) -> bytes:
  """One member changed, and the archive packed again."""
  try:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
      members = {name: archive.read(name) for name in archive.namelist()}
  except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError):
    return _bytes(content, drawn)
  if not members:
    return _bytes(content, drawn)
  chosen = drawn.choice(sorted(members, key=lambda name: not name.endswith('.pkl'))[:3])
  if drawn.random() < 0.1:
    del members[chosen]
  elif drawn.random() < 0.1:
    members[drawn.choice(('../evil', '/etc/evil', 'a/' * 300, 'b'))] = members.pop(chosen)
  else:
    members[chosen] = mutated(members[chosen], drawn)
  packed = io.BytesIO()
  with zipfile.ZipFile(packed, 'w') as archive, contextlib.suppress(ValueError):
    for name, data in members.items():
      archive.writestr(name, data)
  return packed.getvalue()


_watching: list[list[str]] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
  if not _watching:
    return
  mode = arguments[1] if event == 'open' and len(arguments) > 1 else ''
  if event in FORBIDDEN or (isinstance(mode, str) and set(mode) & set('wax+')):
    _watching[-1].append(f'{event} {arguments!r}'[:200])


@contextlib.contextmanager
def _events() -> Iterator[list[str]]:
  """The forbidden events of the block."""
  if not _hooked:
    sys.addaudithook(_audit)
    _hooked.append(True)
  seen: list[str] = []
  _watching.append(seen)
  try:
    yield seen
  finally:
    _watching.pop()


_hooked: list[bool] = []


@contextlib.contextmanager
def _deadline() -> Iterator[None]:
  def stop(*_: object) -> None:
    raise Hang

  before = signal.signal(signal.SIGALRM, stop)
  signal.setitimer(signal.ITIMER_REAL, SECONDS)
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def _base(folder: pathlib.Path, *, torch: bool = False, sharded: bool = False) -> None:
  """The toy BERT, as one file or in two shards."""
  model, params = toys.model_of('bert')
  huggingface.save_model(folder, model, params)
  single = folder / safetensors.SINGLE
  tensors = {name: np.array(x) for name, x in safetensors.Tensors(single).items()}
  if torch:
    pytorch_writer.write(folder / 'pytorch_model.bin', tensors)
  if sharded:
    names = sorted(tensors)
    parts = {'a.safetensors': names[::2], 'b.safetensors': names[1::2]}
    for file, part in parts.items():
      safetensors_save({name: tensors[name] for name in part}, folder / file)
    shard_of = {name: file for file, part in parts.items() for name in part}
    (folder / safetensors.INDEX).write_text(json.dumps({'weight_map': shard_of}))
  if torch or sharded:
    single.unlink()


def safetensors_save(tensors: dict[str, np.ndarray], path: pathlib.Path) -> None:
  from safetensors import numpy as writer

  writer.save_file(tensors, path)


def _read_base(folder: pathlib.Path) -> object:
  return load_model(folder, task='classification')


def _hostile(folder: pathlib.Path) -> None:
  """A PyTorch file whose pickle would run a command and write a file."""
  path = folder / 'pytorch_model.bin'
  _base(folder, torch=True)
  with zipfile.ZipFile(path) as archive:
    members = {name: archive.read(name) for name in archive.namelist()}
  name = next(name for name in members if name.endswith('.pkl'))
  call = pickled.Call(pickled.Global('os', 'system'), f'touch {folder}/executed')
  members[name] = pickled.pickled(
    {'a': call, 'b': pickled.Call(pickled.Global('builtins', 'eval'), '1')}
  )
  with zipfile.ZipFile(path, 'w') as archive:
    for name, data in members.items():
      archive.writestr(name, data)


def _read_hostile(folder: pathlib.Path) -> object:
  try:
    return _read_base(folder)
  except ValueError:
    if (folder / 'executed').exists():
      raise RuntimeError('executed') from None
    return None


def _data(task: str, names: str, content: str, tokenizer: str = 'gpt2') -> Reader:
  """A task whose files, for training and for evaluation, are the same."""

  def write(folder: pathlib.Path) -> None:
    for name in names.split():
      (folder / name).parent.mkdir(exist_ok=True)
      (folder / name).write_text(content)

  def read(folder: pathlib.Path) -> object:
    tokens = tokenizer_files.load_tokenizer(toys.GOLDEN / 'tokens' / tokenizer)
    return load_task(task, tokens, data_dir=str(folder))

  return Reader(write, read, tuple(names.split()))


def _tokenizer(name: str, *files: str) -> Reader:
  source = toys.GOLDEN / name

  def write(folder: pathlib.Path) -> None:
    for file in source.iterdir():
      if file.is_file() and file.name != 'tokens.json':
        (folder / file.name).write_bytes(file.read_bytes())

  read = lambda folder: tokenizer_files.load_tokenizer(folder).encode(['A text, [SEP] of words.'])
  return Reader(write, read, files)


def _zipped_tokenizer() -> Reader:
  def write(folder: pathlib.Path) -> None:
    with zipfile.ZipFile(folder / 'tokenizer.zip', 'w') as archive:
      archive.write(toys.GOLDEN / 'tokens' / 'bert' / 'vocab.txt', 'vocab.txt')

  read = lambda folder: tokenizer_files.load_tokenizer(folder / 'tokenizer.zip').encode(['A text.'])
  return Reader(write, read, ('tokenizer.zip',))


def _json_file(file: str, value: object, read: Callable[[pathlib.Path], object]) -> Reader:
  return Reader(lambda folder: (folder / file).write_text(json.dumps(value)), read, (file,))


E2E = 'mr,ref\n"name[The Eagle], food[French]",The Eagle serves French food.\n"name[A B]",A B is.\n'
TRIPLE = {'subject': 'Aarhus', 'property': 'leaderName', 'object': 'Jacob_Bundsgaard'}
ENTRY = {
  'category': 'City',
  'modifiedtripleset': [TRIPLE],
  'lexicalisations': [{'comment': 'good', 'lex': 'The leader of Aarhus is Jacob Bundsgaard.'}],
}
DART = {'tripleset': [['A', 'IN', '1']], 'annotations': [{'source': 'x', 'text': 'A is in 1.'}]}
CHAT = {'id': '1', 'summary': 'Ann is late.', 'dialogue': 'Ann: Sorry!\r\nBob:  No problem'}
SENTENCES = 'sentence\tlabel\n' + ''.join(f'a film {i}\t{i % 2}\n' for i in range(9))
PAIRS = 'index\tsentence1\tsentence2\tlabel\n' + ''.join(
  f'{i}\tone {i}\tother\t{("entailment", "not_entailment")[i % 2]}\n' for i in range(9)
)
INPUT = {'path': 'a', 'bytes': 1, 'sha256': 'b', 'read': 'c', 'replaced': ['d']}
CONFIG = {'task': 'rte', 'method': {'rank': 8}, 'model': {'name': 'x', 'fresh': {'layers': 2}}}
RUN = {
  'experiment': 'glue', 'task': 'rte', 'model': 'x', 'method': 'lora', 'seed': 0, 'steps': 3,
  'history': [{'step': 3, 'dev/accuracy': 0.5}], 'config': CONFIG,
}  # fmt: skip

TABLE = {'id': '1', 'header': ['Player', 'No.'], 'types': ['text', 'real'], 'rows': []}
QUESTION = {
  'phase': 1, 'table_id': '1', 'question': 'Who wore 4?',
  'sql': {'sel': 0, 'agg': 3, 'conds': [[1, 0, 4]]},
}  # fmt: skip
WIKISQL = ('train.jsonl', 'train.tables.jsonl', 'dev.jsonl', 'dev.tables.jsonl')


def _write_wikisql(folder: pathlib.Path) -> None:
  for name in WIKISQL:
    (folder / name).write_text(json.dumps(TABLE if 'tables' in name else QUESTION) + '\n')


READERS: dict[str, Reader] = {
  'safetensors': Reader(_base, _read_base, ('model.safetensors', 'config.json')),
  'shards': Reader(
    lambda folder: _base(folder, sharded=True), _read_base, (safetensors.INDEX, 'a.safetensors')
  ),
  'pytorch': Reader(lambda folder: _base(folder, torch=True), _read_base, ('pytorch_model.bin',)),
  'pickle': Reader(_hostile, _read_hostile, ('pytorch_model.bin',)),
  'peft': Reader(
    lambda folder: peft.write(toys.make('bert'), folder),
    lambda folder: formats.read_adapter(folder, config=toys.config_of('bert')),
    ('adapter_config.json', 'adapter_model.safetensors'),
  ),
  'loralib': Reader(
    lambda folder: loralib.write(toys.make('roberta'), folder / 'a.bin'),
    lambda folder: formats.read_adapter(
      folder / 'a.bin', config=toys.config_of('roberta'), alpha=8
    ),
    ('a.bin',),
  ),
  'adapter': Reader(
    lambda folder: native.save_adapter(folder, toys.make('gpt2')),
    formats.read_adapter,
    (native.DESCRIPTION, native.TENSORS),
  ),
  'sst2': _data('sst2', 'SST-2/train.tsv SST-2/dev.tsv', SENTENCES, 'bert'),
  'rte': _data('rte', 'RTE/train.tsv RTE/dev.tsv', PAIRS, 'bert'),
  'e2e': _data('e2e', 'trainset.csv devset.csv', E2E),
  'webnlg': _data('webnlg', 'train.json dev.json', json.dumps({'entries': [{'1': ENTRY}]})),
  'dart': _data(
    'dart', 'dart-v1.1.1-full-train.json dart-v1.1.1-full-dev.json', json.dumps([DART])
  ),
  'samsum': _data('samsum', 'train.json val.json', json.dumps([CHAT])),
  'wikisql': Reader(_write_wikisql, _data('wikisql', '', '').read, WIKISQL),
  'tokenizer.json': _tokenizer('tokens/padded', 'tokenizer.json'),
  'vocab.txt': _tokenizer('tokens/bert', 'vocab.txt'),
  'merges.txt': _tokenizer('tokens/gpt2', 'merges.txt', 'vocab.json'),
  'spm.model': _tokenizer('sentencepiece', 'spm.model'),
  'tokenizer.zip': _zipped_tokenizer(),
  'config.json': _json_file('config.json', CONFIG, rundir.read_config),
  'result.json': _json_file('result.json', RUN, rundir.read_result),
  'provenance.json': _json_file(provenance.FILE, {'base/a': INPUT}, provenance.read_record),
  'runs': _json_file('run.json', RUN, runs.read),
  'texts': Reader(
    lambda folder: (folder / 'texts.txt').write_text('One text.\n\nOther.\n'),
    lambda folder: scored_texts.read_predictions(str(folder / 'texts.txt')),
    ('texts.txt',),
  ),
}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--count', type=int, default=10_000, help='files in all')
  parser.add_argument('--reader', choices=list(READERS), help='one reader; default: all')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--show', type=int, default=5, help='problems to print for each reader')
  given = parser.parse_args()
  chosen = [given.reader] if given.reader else list(READERS)
  total = collections.Counter()
  for name in chosen:
    report = fuzz(READERS[name], -(-given.count // len(chosen)), given.seed)
    total.update(read=report.read, refused=report.refused, wrong=len(report.wrong))
    print(f'{name:16} {report.read:6} read {report.refused:6} refused {len(report.wrong):4} wrong')
    for line in report.wrong[: given.show]:
      print(f'  {line}')
  print(f'{"all":16} {total["read"]:6} read {total["refused"]:6} refused {total["wrong"]:4} wrong')
  sys.exit(1 if total['wrong'] else 0)


if __name__ == '__main__':
  main()
