"""Files and folders appear whole or not at all: their bytes reach the disk before their names."""

import os

import pytest

from configs import own
from lora_jax import files
from lora_jax.adapters import formats
from lora_jax.data import records, sources, tokenizer_files
from lora_jax.pretrained import huggingface
from lora_jax.train import job


def names(folder):
  return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def synchronized(monkeypatch):
  """Paths that were synchronized to the disk, and the renames after them, in order."""
  done = []
  fsync, replace = os.fsync, os.replace
  path_of = lambda descriptor: os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))
  monkeypatch.setattr(os, 'fsync', lambda fd: (done.append(path_of(fd)), fsync(fd)))
  renamed = lambda a, b: (done.append(f'-> {os.path.basename(b)}'), replace(a, b))
  monkeypatch.setattr(os, 'replace', renamed)
  return done


def test_a_file_is_replaced_as_a_whole(tmp_path):
  path = tmp_path / 'new' / 'x.txt'
  files.write_atomic(path, 'old ä')
  with pytest.raises(RuntimeError), files.atomic(path) as file:
    file.write(b'half')
    file.flush()
    assert path.read_text(encoding='utf-8') == 'old ä'
    raise RuntimeError
  assert path.read_text(encoding='utf-8') == 'old ä'
  files.write_atomic(path, b'new')
  assert path.read_bytes() == b'new'
  assert names(path.parent) == ['x.txt']


def test_json_there_and_back(tmp_path):
  files.write_json(tmp_path / 'x.json', {'a': [1, 2.5], 'b': None})
  assert files.read_json(tmp_path / 'x.json') == {'a': [1, 2.5], 'b': None}
  assert (tmp_path / 'x.json').read_text().endswith('}\n')
  (tmp_path / 'x.json').write_text('{"a": ')
  with pytest.raises(ValueError, match=r'x.json: not valid JSON'):
    files.read_json(tmp_path / 'x.json')


def test_a_folder_appears_as_a_whole(tmp_path):
  with files.new_folder(tmp_path / 'out') as part:
    (part / 'x').write_text('1')
    (part / 'x').chmod(0o600)
    assert not (tmp_path / 'out').exists()
  assert names(tmp_path) == ['out'] and names(tmp_path / 'out') == ['x']
  allowed = (tmp_path / 'out').stat().st_mode & 0o666
  assert (tmp_path / 'out' / 'x').stat().st_mode & 0o777 == allowed
  with pytest.raises(RuntimeError), files.new_folder(tmp_path / 'other') as part:
    (part / 'x').write_text('1')
    raise RuntimeError
  assert names(tmp_path) == ['out']


@pytest.mark.skipif(not os.path.isdir('/proc/self/fd'), reason='needs /proc of Linux')
def test_bytes_are_on_the_disk_before_they_have_a_name(synchronized, tmp_path):
  files.write_atomic(tmp_path / 'x', 'x')
  part = f'.x.{os.getpid()}.part'
  assert synchronized == [part, '-> x']
  synchronized.clear()
  with files.new_folder(tmp_path / 'out') as folder:
    (folder / 'x').write_text('1')
  assert synchronized == ['x', f'.out.{os.getpid()}.part', '-> out']


def test_a_place_has_to_be_free_and_on_the_disk(tmp_path):
  assert files.check_new(tmp_path / 'empty') == tmp_path / 'empty'
  (tmp_path / 'empty').mkdir()
  files.check_new(tmp_path / 'empty')
  (tmp_path / 'empty' / 'x').touch()
  for path in (tmp_path / 'empty', tmp_path / 'empty' / 'x'):
    with pytest.raises(FileExistsError, match=r'exists already\. Name a new folder'):
      files.check_new(path)
  with pytest.raises(ValueError, match='expected a folder on a local disk'):
    files.check_new('gs://bucket/x')


@pytest.mark.parametrize(
  'content, problem',
  [
    (b'{"a": 1, "b": {"a": 2, "a": 3}}', 'an object has two values of a'),
    (b'[' * 100_000, 'nested too deeply'),
    (b'{"a": "\xff"}', 'utf-8'),
    (b'1' * 10_000, 'digits'),
  ],
)
def test_json_that_does_not_say_one_thing(content, problem, tmp_path):
  (tmp_path / 'x.json').write_bytes(content)
  with pytest.raises(ValueError, match=f'x.json: not valid JSON .*{problem}'):
    files.read_json(tmp_path / 'x.json')


def tokenizer_of(path):
  config = own.get_config()
  config.data.tokenizer = path
  return job.tokenizer_path(config)


READERS = {
  'data': lambda path: sources.find_text(path, ['RTE.zip'], 'RTE/train.tsv'),
  'own data': lambda path: records.read(f'{path}.jsonl', 'train'),
  'tokenizer': tokenizer_files.load_tokenizer,
  "config's tokenizer": tokenizer_of,
  'model': huggingface.locate,
  'adapter': formats.load_adapter,
}


@pytest.mark.parametrize('what', READERS)
def test_what_is_read_from_the_disk_alone_is_named_as_it_was_given(what):
  """It was said to be missing, as gs:/bucket/x, and not that it is never looked for there."""
  with pytest.raises(ValueError, match=r'^gs://bucket/x.*: expected a place on the disk.*Copy it'):
    READERS[what]('gs://bucket/x')


def test_a_folder_that_does_not_fit_on_the_disk_is_named(tmp_path, full_disk):
  """A model card or a tokenizer's file ended an export by an error of no file."""
  refused = pytest.raises(OSError, match=r"bytes are free\): '.*/out'")
  with refused, files.new_folder(tmp_path / 'out') as part:
    (part / 'README.md').write_text('a card')
  assert not list(tmp_path.iterdir())
