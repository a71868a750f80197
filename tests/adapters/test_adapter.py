"""Adapters on disk and on their base: every method, both layouts of layers, every broken file."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging
from safetensors import numpy as writer

from lora_jax import methods, stacking, tree
from lora_jax.adapters import adapter as adapters
from lora_jax.adapters import native
from lora_jax.adapters.fingerprint import fingerprint
from lora_jax.adapters.native import load_adapter, save_adapter
from lora_jax.models import presets
from lora_jax.pretrained import safetensors

SIZES = dict(vocab_size=50, hidden_size=16, num_layers=2, num_heads=2, max_positions=32)
TOKENS = dict(prefix=3, infix=2)
FACTORS = dict(
  rank={'.*/query': 3, '.*': 2}, alpha={'.*layers.*/query': 6.0, '.*': 4.0}, rslora=True,
  targets=('.*/(query|value)',),
)  # fmt: skip
METHODS = {
  'full': {},
  'lora': FACTORS,
  'bitfit': {},
  'top_layers': dict(layers=1),
  'adapter_h': dict(bottleneck=4),
  'adapter_l': dict(bottleneck=4),
  'adapter_p': dict(bottleneck=4, activation='gelu'),
  'adapter_d': dict(bottleneck=4, drop=1),
  'prefix_embed': TOKENS,
  'prefix_layer': TOKENS,
  'lora+prefix_layer': FACTORS | TOKENS,
}
NUMBERED = ('top_layers', 'adapter_d')  # Of single layers, which scanned ones do not have.


def drawn(shapes, seed=0):
  draw = np.random.default_rng(seed).standard_normal
  return jax.tree.map(lambda x: 0.2 * draw(x.shape).astype(np.float32), shapes)


@functools.cache
def base(family='roberta', **sizes):
  """A model and its parameters, drawn without compiling anything."""
  own = dict(position_buckets=8, convolution=3) if family == 'deberta-v2' else {}
  config = presets.architecture(family, **SIZES | own | sizes)
  labels = {} if family == 'gpt2' else dict(num_labels=3)
  task = 'lm' if family == 'gpt2' else 'classification'
  model = presets.build(config, task=task, **labels)
  return model, drawn(jax.eval_shape(model.init, jax.random.key(0), presets.TOKENS)['params'])


def make(name='lora', family='roberta', options=None):
  """An adapter of a method, every leaf moved from where it began."""
  model, params = base(family)
  train = {} if name == 'full' else dict(train=model.head)
  options = dict(name=name, **METHODS[name], **train) | (options or {})
  init = methods.make(**options).init
  shapes = jax.eval_shape(lambda p: init(jax.random.key(1), model, p, presets.TOKENS), params)[1]
  return adapters.Adapter(
    method=options,
    trainable=drawn(shapes, seed=1),
    config=model.config,
    task='lm' if family == 'gpt2' else 'classification',
    num_labels=getattr(model, 'num_labels', 0),
    base='some/base',
    fingerprint=fingerprint(params, model.config),
  )


def scanned(family='roberta'):
  model, params = base(family)
  return model.clone(scan=True), stacking.stack(params, SIZES['num_layers'])


def same(found, expected):
  found, expected = tree.flatten(found), tree.flatten(expected)
  assert found.keys() == expected.keys()
  for path in expected:
    np.testing.assert_array_equal(found[path], expected[path], err_msg=path)


@pytest.fixture
def saved(tmp_path):
  save_adapter(tmp_path / 'saved', make())
  return tmp_path / 'saved'


def test_every_method_is_in_the_table():
  assert set(methods.METHODS) <= set(METHODS)


@pytest.mark.parametrize('name', METHODS)
def test_what_is_saved_is_loaded_and_goes_on_its_base(name, tmp_path):
  (model, params), adapter = base(), make(name)
  save_adapter(tmp_path / 'saved', adapter)
  found = load_adapter(tmp_path / 'saved', model=model, params=params)
  same(found.trainable, adapter.trainable)
  rest = dict(trainable=None, fingerprint=None)
  assert found._replace(**rest) == adapter._replace(**rest)
  assert {path.name for path in tmp_path.iterdir()} == {'saved'}
  assert {path.name for path in (tmp_path / 'saved').iterdir()} == {
    'adapter.json', 'adapter.safetensors'
  }  # fmt: skip

  method, frozen, trainable = adapters.attach(found, model, params)
  same(trainable, adapter.trainable)
  assert all(leaf is tree.flatten(params)[path] for path, leaf in tree.flatten(frozen).items())
  assert set(tree.flatten(params)) <= {*tree.flatten(frozen), *tree.flatten(trainable)}
  assert method.virtual == methods.make(**adapter.method).virtual

  if name in NUMBERED:
    with pytest.raises(ValueError, match=r'scan=False'):
      adapters.attach(found, *scanned())
    return
  # Through scanned layers and back.
  _, frozen, trainable = adapters.attach(found, *scanned())
  assert stacking.is_scanned(trainable) or name == 'prefix_embed'
  again = adapter._replace(trainable=trainable, method=stacking.scanned_patterns(adapter.method))
  save_adapter(tmp_path / 'again', again)
  same(load_adapter(tmp_path / 'again').trainable, adapter.trainable)


def test_a_loaded_adapter_computes_the_same_looped_and_scanned(saved):
  adapter = load_adapter(saved)
  ids = jnp.arange(12, dtype=jnp.int32).reshape(2, 6)
  logits = []
  for model, params in (base(), scanned()):
    method, frozen, trainable = adapters.attach(adapter, model, params)
    logits.append(jax.jit(methods.bind(model.apply, method))(frozen, trainable, ids))
  np.testing.assert_allclose(*logits, atol=1e-5)
  plain = jax.jit(base()[0].apply)({'params': base()[1]}, ids)
  assert np.abs(plain - logits[0]).max() > 1e-2


def test_patterns_of_scanned_layers_are_saved_as_those_of_looped_ones(tmp_path):
  model, params = scanned()
  options = dict(name='lora', rank=2, alpha={'encoder/layers/.*': 4.0}, train=model.head,
                 targets=('encoder/layers/attention/query',))  # fmt: skip
  method = methods.make(**options)
  _, trainable = method.init(jax.random.key(0), model, params, presets.TOKENS)
  adapter = make()._replace(method=options, trainable=trainable)
  save_adapter(tmp_path / 'saved', adapter)
  found = load_adapter(tmp_path / 'saved')
  assert found.method['targets'] == (r'encoder/layers_\d+/attention/query',)
  adapters.attach(found, *base())
  same(adapters.attach(found, model, params)[2], trainable)


@pytest.mark.parametrize('family', ['bert', 'deberta-v2', 'gpt2'])
def test_a_fingerprint_is_of_the_base_in_any_layout_and_dtype_and_head(family):
  model, params = base(family)
  print_of = lambda params: fingerprint(params, model.config)
  expected = print_of(params)
  assert json.loads(json.dumps(expected)) == expected
  assert not any('classifier' in name or 'pooler' in name for name in expected['shapes'])
  assert print_of(stacking.stack(params, 2)) == expected
  assert print_of(tree.cast(params, jnp.bfloat16)) == expected
  assert print_of(tree.cast(params, jnp.float16))['shapes'] == expected['shapes']
  leaves = tree.flatten(params)
  for path, leaf in leaves.items():
    changed = print_of(tree.unflatten(leaves | {path: leaf + 0.01}))
    head = any(part in path for part in ('classifier', 'pooler'))
    assert (changed == expected) == head, path


@pytest.mark.parametrize('name', ['lora', 'bitfit', 'full'])
def test_another_base_is_an_error_that_says_what_differs(name, tmp_path):
  model, params = base()
  save_adapter(tmp_path / 'saved', make(name))
  key = 'encoder/layers_1/attention/query/bias'
  leaves = tree.flatten(params)
  changed = tree.unflatten(leaves | {key: leaves[key] + 0.01})
  if name == 'lora':
    load = functools.partial(load_adapter, tmp_path / 'saved', model=model, params=changed)
    with pytest.raises(ValueError, match=r'some/base.*layers_\*/attention/query/bias.*other_base'):
      load()
    with pytest.raises(ValueError, match='other_base=True'):
      adapters.attach(load(other_base=True), model, changed)
    adapters.attach(load(other_base=True), model, changed, other_base=True)
  else:  # These bring that parameter along.
    adapters.attach(load_adapter(tmp_path / 'saved'), model, changed)


def test_another_architecture_and_another_head_are_told_apart():
  model, params = base()
  other = base(num_layers=1)
  with pytest.raises(ValueError, match="num_layers: 2 in the adapter's base, 1 in the model"):
    adapters.attach(make(), *other)
  two = {**params, 'classifier': jax.tree.map(lambda x: x[..., :2], params['classifier'])}
  with pytest.raises(ValueError, match=r'2 outputs, the adapter 3.*num_labels=3'):
    adapters.attach(make(), model.clone(num_labels=2), two)


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
    edited(sha256=native._digest(folder / native.TENSORS))(folder)

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
  'no folder': (shutil.rmtree, ['not an adapter', 'adapter.json', 'nothing']),
  'no description': (lambda f: (f / 'adapter.json').unlink(), ['It holds: adapter.safetensors']),
  'no tensors': (lambda f: (f / native.TENSORS).unlink(), ['adapter.safetensors is missing']),
  'cut description': (cut('adapter.json', 80), ['adapter.json', 'not valid JSON']),
  'cut header': (cut(native.TENSORS, 20), ['cut off within its header']),
  'cut tensors': (cut(native.TENSORS, -8), ['truncated']),
  'a flipped bit': (flip, ['sha256', 'corrupt']),
  'another format': (edited(format='other'), ["format='lora_jax adapter'"]),
  'a later version': (edited(version=2), ['version 2', 'version 1', 'export the run again']),
  'no method': (edited(method=None), ['method is None, expected dict']),
  'a method unknown': (edited(method={'name': 'lore'}), ["'lore'", 'nearest: lora']),
  'an option unknown': (edited(method=lambda m: m | {'ranks': 2}), ["no option ['ranks']"]),
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
}  # fmt: skip


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
