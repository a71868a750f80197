"""Every reader of files, with valid files for it to begin with: `READERS`."""

from __future__ import annotations

import json
import pathlib
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from safetensors.numpy import save_file

from lora_jax import provenance
from lora_jax.adapters import formats, loralib, native, peft
from lora_jax.data import load_task, records, scored_texts, tokenizer_files
from lora_jax.pretrained import huggingface, load_model, pytorch_writer, safetensors
from lora_jax.report import runs
from lora_jax.train import rundir
from tests.adapters import toys
from tests.pretrained import gguf_toys, pickled


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
      save_file({name: tensors[name] for name in part}, folder / file)
    shard_of = {name: file for file, part in parts.items() for name in part}
    (folder / safetensors.INDEX).write_text(json.dumps({'weight_map': shard_of}))
  if torch or sharded:
    single.unlink()


def _read_base(folder: pathlib.Path) -> object:
  return load_model(folder, task='classification')


def _read_gguf(folder: pathlib.Path) -> object:
  tokenizer_files.load_tokenizer(folder / 'model.gguf').encode(['A text.'])
  return load_model(folder / 'model.gguf', task='lm')


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


def _own(name: str, content: str) -> Reader:
  """A user's own file."""

  def read(folder: pathlib.Path) -> object:
    tokens = tokenizer_files.load_tokenizer(toys.GOLDEN / 'tokens' / 'bert')
    return load_task('own/a', tokens, own=records.Files(data=str(folder / name)))

  return Reader(lambda folder: (folder / name).write_text(content), read, (name,))


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
CONFIG = {'task': 'rte', 'method': {'name': 'lora', 'rank': 8}, 'model': {'name': 'x'}}
SCORES = {'step': 3, 'dev/accuracy': 0.5}
RUN = {
  'experiment': 'glue', 'task': 'rte', 'model': 'x', 'method': 'lora', 'seed': 0, 'steps': 3,
  'metric': 'dev/accuracy', 'best': SCORES, 'last': SCORES, 'history': [SCORES], 'config': CONFIG,
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
  'gguf': Reader(
    lambda folder: gguf_toys.write(folder / 'model.gguf', 'llama-untied'),
    _read_gguf,
    ('model.gguf',),
  ),
  'peft': Reader(
    lambda folder: peft.write(toys.make('bert'), folder),
    lambda folder: formats.load_adapter(folder, config=toys.config_of('bert')),
    ('adapter_config.json', 'adapter_model.safetensors'),
  ),
  'loralib': Reader(
    lambda folder: loralib.write(toys.make('roberta'), folder / 'a.bin'),
    lambda folder: formats.load_adapter(
      folder / 'a.bin', config=toys.config_of('roberta'), alpha=8
    ),
    ('a.bin',),
  ),
  'adapter': Reader(
    lambda folder: native.save_adapter(folder, toys.make('gpt2')),
    formats.load_adapter,
    (native.DESCRIPTION, native.TENSORS),
  ),
  'sst2': _data('sst2', 'SST-2/train.tsv SST-2/dev.tsv', SENTENCES, 'bert'),
  'rte': _data('rte', 'RTE/train.tsv RTE/dev.tsv', PAIRS, 'bert'),
  'e2e': _data('e2e', 'trainset.csv devset.csv', E2E),
  'webnlg': _data('webnlg', 'train.json dev.json', json.dumps({'entries': [{'1': ENTRY}]})),
  'dart': _data(
    'dart', 'dart-v1.1.1-full-train.json dart-v1.1.1-full-dev.json', json.dumps([DART])
  ),
  'own.csv': _own('a.csv', SENTENCES.replace('sentence\t', 'text\t').replace('\t', ',')),
  'own.tsv': _own('a.tsv', SENTENCES.replace('sentence\tlabel', 'text\tnumber')),
  'own.jsonl': _own(
    'a.jsonl',
    (json.dumps({'prompt': 'A b', 'completion': 'c d'}) + '\n') * 2
    + json.dumps({'prompt': 'A', 'completion': 'c'})
    + '\n',
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
    lambda folder: (folder / 'texts.txt').write_text('One text.\nOther.\n'),
    lambda folder: scored_texts.read_predictions(str(folder / 'texts.txt')),
    ('texts.txt',),
  ),
}
