"""This project's format: what is saved is loaded, and every broken file is named."""

import json
import shutil

import jax
import numpy as np
import pytest
from absl import logging
from safetensors import numpy as writer

from lora_jax import methods, stacking, tree
from lora_jax.adapters import native
from lora_jax.adapters.adapter import attach
from lora_jax.adapters.formats import load_adapter
from lora_jax.adapters.native import save_adapter
from lora_jax.models import presets
from lora_jax.pretrained import safetensors
from tests.adapters.bases import METHODS, NUMBERED, base, make, same, scanned


@pytest.fixture
def saved(tmp_path):
  save_adapter(tmp_path / 'saved', make())
  return tmp_path / 'saved'


@pytest.mark.parametrize('name', METHODS)
def test_what_is_saved_is_loaded(name, tmp_path):
  (model, params), adapter = base(), make(name)
  save_adapter(tmp_path / 'saved', adapter)
  found = load_adapter(tmp_path / 'saved', model=model, params=params)
  same(found.trainable, adapter.trainable)
  rest = dict(trainable=None, fingerprint=None)
  assert found._replace(**rest) == adapter._replace(**rest)
  names = lambda folder: {path.name for path in folder.iterdir()}
  assert names(tmp_path) == {'saved'}
  assert names(tmp_path / 'saved') == {'adapter.json', 'adapter.safetensors'}
  if name not in NUMBERED:  # Through scanned layers and back.
    _, _, trainable = attach(found, *scanned())
    patterns = stacking.scanned_patterns(adapter.method)
    save_adapter(tmp_path / 'again', adapter._replace(trainable=trainable, method=patterns))
    same(load_adapter(tmp_path / 'again').trainable, adapter.trainable)


def test_a_base_that_is_given_is_checked(saved):
  model, params = base()
  load_adapter(saved, model=model, params=params)
  other = jax.tree.map(lambda x: x + 0.01, params)
  with pytest.raises(ValueError, match='other_base=True'):
    load_adapter(saved, model=model, params=other)
  load_adapter(saved, model=model, params=other, other_base=True)


def test_patterns_of_scanned_layers_are_saved_as_those_of_looped_ones(tmp_path):
  model, params = scanned()
  options = dict(name='lora', rank=2, alpha={'encoder/layers/.*': 4.0}, train=model.head)
  options['targets'] = ('encoder/layers/attention/query',)
  method = methods.make(**options)
  _, trainable = method.init(jax.random.key(0), model, params, presets.TOKENS)
  adapter = make()._replace(method=options, trainable=trainable)
  save_adapter(tmp_path / 'saved', adapter)
  found = load_adapter(tmp_path / 'saved')
  assert found.method['targets'] == (r'encoder/layers_\d+/attention/query',)
  attach(found, *base())
  same(attach(found, model, params)[2], trainable)


def test_an_adapter_that_does_nothing_is_named(tmp_path, monkeypatch):
  said = []
  monkeypatch.setattr(logging, 'warning', lambda text, *args: said.append(text % args))
  leaves = tree.flatten(make().trainable)
  zero = {path: 0 * leaf if 'lora_b' in path else leaf for path, leaf in leaves.items()}
  save_adapter(tmp_path / 'zero', make()._replace(trainable=tree.unflatten(zero)))
  load_adapter(tmp_path / 'zero')
  assert [text for text in said if 'zero' in text and 'nothing' in text]
  said.clear()
  key = 'encoder/layers_0/attention/query/lora_b'
  save_adapter(
    tmp_path / 'one', make()._replace(trainable=tree.unflatten(zero | {key: leaves[key]}))
  )
  load_adapter(tmp_path / 'one')
  assert not said


def edited(**changes):
  def edit(folder):
    values = json.loads((folder / 'adapter.json').read_text())
    for name, value in changes.items():
      values[name] = value(values[name]) if callable(value) else value
    (folder / 'adapter.json').write_text(json.dumps(values))

  return edit


def retensored(change):
  """Other tensors, saved properly."""

  def edit(folder):
    leaves = {k: np.array(x) for k, x in safetensors.Tensors(folder / native.TENSORS).items()}
    writer.save_file(change(leaves), folder / native.TENSORS)
    edited(sha256=native.digest(folder / native.TENSORS))(folder)

  return edit


def cut(name, size):
  def edit(folder):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:size])

  return edit


def flip(folder):
  content = bytearray((folder / native.TENSORS).read_bytes())
  content[-9] ^= 1
  (folder / native.TENSORS).write_bytes(content)


A, B = (f'encoder/layers_1/attention/query/lora_{x}' for x in 'ab')
BROKEN = {
  'no folder': (shutil.rmtree, ['no such folder']),
  'no description': (lambda f: (f / 'adapter.json').unlink(), ['holds: adapter.safetensors']),
  'no tensors': (lambda f: (f / native.TENSORS).unlink(), ['adapter.safetensors is missing']),
  'cut description': (cut('adapter.json', 80), ['adapter.json', 'not valid JSON']),
  'cut header': (cut(native.TENSORS, 20), ['cut off within its header']),
  'cut tensors': (cut(native.TENSORS, -8), ['truncated']),
  'a flipped bit': (flip, ['sha256', 'corrupt']),
  'another format': (edited(format='other'), ["format='lora_jax adapter'"]),
  'a later version': (edited(version=2), ['version 2', 'version 1', 'export the run again']),
  'no method': (edited(method=None), ['method is None, expected dict']),
  'a method unknown': (edited(method={'name': 'lore'}), ["'lore'", "Did you mean 'lora'"]),
  'an option unknown': (
    edited(method=lambda m: m | {'ranks': 2}),
    ["'ranks'. Did you mean 'rank'"],
  ),
  'a family unknown': (edited(architecture={'family': 'berta'}), ["'berta'", 'bert']),
  'a size of text': (edited(architecture=lambda a: a | {'hidden_size': '16'}), ['architecture']),
  'another rank': (edited(method=lambda m: m | {'rank': 5}), [A, '(16, 3), expected (16, 5)']),
  'another task': (edited(task='lm'), ["task='lm'", 'classification']),
  'other labels': (edited(num_labels=2), ['classifier/output/kernel is (16, 3), expected (16, 2)']),
  'tensors amiss': (
    retensored(lambda x: {k: v for k, v in x.items() if k != A} | {B: x[B].T, 'new': x[A]}),
    [f'missing {A} (16, 3)', 'unexpected new (16, 3)', f'misshapen {B} is (16, 3)'],
  ),
  'another dtype': (retensored(lambda x: x | {A: x[A].astype(np.float16)}), ['float16']),
}


@pytest.mark.parametrize('case', BROKEN)
def test_what_is_broken_is_said_in_one_message(case, saved):
  breaks, words = BROKEN[case]
  breaks(saved)
  with pytest.raises((ValueError, FileNotFoundError)) as error:
    load_adapter(saved)
  assert all(word in str(error.value) for word in words), error.value
  assert str(saved) in str(error.value)


def test_nothing_is_written_that_could_not_be_read(tmp_path, monkeypatch):
  adapter = make()
  leaves = tree.flatten(adapter.trainable)
  with pytest.raises(ValueError, match=f'missing {A}'):
    less = {path: leaf for path, leaf in leaves.items() if path != A}
    save_adapter(tmp_path / 'saved', adapter._replace(trainable=tree.unflatten(less)))
  (tmp_path / 'full').mkdir()
  (tmp_path / 'full' / 'file').touch()
  with pytest.raises(FileExistsError, match='exists already'):
    save_adapter(tmp_path / 'full', adapter)
  monkeypatch.setattr(json, 'dumps', lambda *args, **kwargs: 1 / 0)  # In the middle of writing.
  with pytest.raises(ZeroDivisionError):
    save_adapter(tmp_path / 'saved', adapter)
  assert {path.name for path in tmp_path.iterdir()} == {'full'}


def test_a_number_that_is_none_is_named(saved):
  path = 'encoder/layers_1/attention/query/lora_b'
  tensors = {name: np.array(x) for name, x in safetensors.Tensors(saved / native.TENSORS).items()}
  tensors[path][0] = np.nan
  writer.save_file(tensors, saved / native.TENSORS)
  description = json.loads((saved / native.DESCRIPTION).read_text())
  description['sha256'] = native.digest(saved / native.TENSORS)
  (saved / native.DESCRIPTION).write_text(json.dumps(description))
  with pytest.raises(ValueError, match=f'saved/adapter.safetensors: NaN or infinity in {path}'):
    load_adapter(saved)
  adapter = make()._replace(trainable=tree.unflatten(tensors))
  with pytest.raises(ValueError, match=f'the adapter: NaN or infinity in {path}'):
    save_adapter(saved.parent / 'again', adapter)
