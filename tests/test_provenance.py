"""Provenance: every file that is read is on record, and none is exchanged without a word."""

import hashlib
import json
import shutil
import sys

import pytest

from lora_jax import provenance
from lora_jax.adapters import native
from lora_jax.models import presets
from lora_jax.pretrained import huggingface
from lora_jax.train import export, job, run_adapter, warm_start
from tests.train.runs import save_run

OPENED = []  # Paths of all files that Python opened while the list is `watched`.
WATCHED = []


def watch(event, arguments):
  if WATCHED and event == 'open' and isinstance(arguments[0], str):
    OPENED.append(arguments[0])


@pytest.fixture(scope='module')
def places(tmp_path_factory, folder):
  """A folder with a base, data and a tokenizer of its own."""
  root = tmp_path_factory.mktemp('places')
  shutil.copytree(folder, root / 'data')
  (root / 'data' / 'vocab').rename(root / 'tokenizer')
  config = presets.architecture(
    'bert', vocab_size=64, hidden_size=16, num_layers=2, num_heads=2, max_positions=32
  )
  model, params = huggingface.fresh_model(config, task='classification', num_labels=2)
  huggingface.save_model(root / 'base', model, params)
  return root


@pytest.fixture
def config(make_config, places, tmp_path):
  """A config of these files, copied so that a test can change them."""
  root = tmp_path / 'places'
  shutil.copytree(places, root)
  return make_config(
    **{
      'model.name': str(root / 'base'),
      'data.dir': str(root / 'data'),
      'data.tokenizer': str(root / 'tokenizer'),
    }
  )


def load(config):
  with provenance.recording() as read:
    work = job.load(config)
    if config.init_adapter:
      warm_start.warm_start(work, config.init_adapter)
  return work, read.inputs()


def save(config, workdir):
  """A run directory of the config with its record of inputs, without a step."""
  work, found = load(config)
  save_run(workdir, config, work.trainable)
  (workdir / provenance.FILE).write_text(json.dumps(found))
  return work


def test_every_file_that_is_opened_is_noted(config, tmp_path):
  above = tmp_path / 'places' / 'run'
  save(config, above)
  native.save_adapter(tmp_path / 'places' / 'adapter', run_adapter.from_run(above))
  sys.addaudithook(watch)
  for changes in (
    {'init_adapter': str(tmp_path / 'places' / 'adapter')},
    {'model.name': str(above)},
  ):
    OPENED.clear()
    WATCHED.append(True)
    with config.unlocked():
      config.update_from_flattened_dict(changes)
    _, found = load(config)
    WATCHED.clear()
    opened = {path for path in OPENED if path.startswith(str(tmp_path))}
    unnoted = {path for path in opened if path not in {x['path'] for x in found.values()}}
    # What a run records about itself says nothing that its other files do not.
    assert {path.rsplit('/', 1)[-1] for path in unnoted} <= {provenance.FILE, '_METADATA'}, unnoted
    assert len(opened) > 5


def test_names_and_digests(config, tmp_path):
  _, found = load(config)
  assert list(found) == [
    'base/config.json',
    'base/model.safetensors',
    'data/SST-2/dev.tsv',
    'data/SST-2/train.tsv',
    'tokenizer/vocab.txt',
  ]
  for one in found.values():
    with open(one['path'], 'rb') as file:
      content = file.read()
    assert one['bytes'] == len(content)
    assert one['sha256'] == hashlib.sha256(content).hexdigest()


def test_an_archive_and_what_it_unpacks_to_are_the_same_data(config, tmp_path):
  _, unpacked = load(config)
  data = tmp_path / 'places' / 'data'
  shutil.make_archive(data / 'SST-2', 'zip', data, 'SST-2')
  shutil.rmtree(data / 'SST-2')
  _, packed = load(config)
  name = 'data/SST-2/dev.tsv'
  assert packed[name]['path'] == f'{data}/SST-2.zip:SST-2/dev.tsv'
  assert packed[name]['sha256'] == unpacked[name]['sha256']
  assert packed.keys() == unpacked.keys()


@pytest.mark.parametrize(
  'name',
  ['base/config.json', 'base/model.safetensors', 'data/SST-2/dev.tsv', 'tokenizer/vocab.txt'],
)
def test_a_changed_file_is_refused_by_name_or_allowed(config, tmp_path, name):
  run = tmp_path / 'run'
  save(config, run)
  job.load_run(run)  # Nothing changed.
  path = tmp_path / 'places' / name
  content = path.read_bytes()
  if path.suffix == '.safetensors':
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # Its last bit but seven.
  elif path.suffix == '.json':
    path.write_bytes(content + b'\n')
  elif path.suffix == '.tsv':
    path.write_bytes(content[:-2] + (b'0' if content[-2:-1] == b'1' else b'1') + b'\n')
  else:
    path.write_bytes(content.replace(b'film\nplot', b'plot\nfilm'))
  with pytest.raises(ValueError, match=f'{name}: {path}.*is not what was read first, at 2'):
    job.load_run(run)
  with provenance.changes_allowed():
    work, _ = job.load_run(run)
    if name.startswith('base/'):  # This export reads nothing else.
      exported = export.export_run(run, tmp_path / 'out')
      assert exported['changed_inputs'] == work.changed
  assert len(work.changed) == 1 and name in work.changed[0]
  path.write_bytes(content)
  assert job.load_run(run)[0].changed == []


def test_another_file_of_the_base_and_a_split_that_was_not_read(config, tmp_path):
  run, places = tmp_path / 'run', tmp_path / 'places'
  save(config, run)
  shutil.copy(places / 'data' / 'SST-2' / 'train.tsv', places / 'data' / 'SST-2' / 'test.tsv')
  recorded = json.loads((run / provenance.FILE).read_text())
  found = {name: recorded['data/SST-2/dev.tsv'] for name in ('data/SST-2/test.tsv', 'base/new.bin')}
  with pytest.raises(ValueError, match=r'base/new.bin.*was not read before; read were base/config'):
    provenance.check(run, found, whole=False)
  del found['base/new.bin']
  assert provenance.check(run, found, whole=False) == []
  with pytest.raises(
    ValueError, match=r'tokenizer/vocab.txt.* was read before and is not read now'
  ):
    provenance.check(run, found, whole=True)


def test_a_base_that_is_a_run_whose_own_base_changed(config, tmp_path):
  below = tmp_path / 'below'
  save(config, below)
  with config.unlocked():
    config.model.name = str(below)
  run = tmp_path / 'run'
  save(config, run)
  recorded = provenance.read_record(run)
  assert {'base/config.json', 'base/base/model.safetensors'} <= recorded.keys()
  assert any(name.startswith('base/checkpoint/trainable') for name in recorded)
  path = tmp_path / 'places' / 'base' / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:-1] + b'\x7f')
  with pytest.raises(ValueError, match=f'{below} was made from other files'):
    job.load_run(run)


def test_the_first_record_is_kept_and_a_replacement_is_recorded(config, tmp_path):
  _, found = load(config)
  later = {name: {**one, 'read': 'later'} for name, one in found.items()}
  assert provenance.updated(found, later) == found
  later['base/config.json'] = {**later['base/config.json'], 'sha256': 'other'}
  twice = {**later, 'base/config.json': {**later['base/config.json'], 'sha256': 'third'}}
  new = provenance.updated(provenance.updated(found, later), twice)
  first = found['base/config.json']['sha256']
  assert new['base/config.json']['replaced'] == [first, 'other']
  assert new['base/model.safetensors'] == found['base/model.safetensors']


@pytest.mark.parametrize(
  'content', ['[]', '{"base/config.json": {}}', '{"base/config.json": 1}', '']
)
def test_a_damaged_record_is_a_named_error(tmp_path, content):
  (tmp_path / provenance.FILE).write_text(content)
  with pytest.raises(ValueError, match=f'{tmp_path}/{provenance.FILE}'):
    provenance.check(tmp_path, {}, whole=True)


def test_nothing_is_read_twice_where_nobody_records(tmp_path):
  provenance.note(tmp_path / 'absent')  # Would fail in the thread.
  with provenance.recording() as read:
    provenance.note(tmp_path / 'absent')
  with pytest.raises(OSError, match='absent'):
    read.inputs()
