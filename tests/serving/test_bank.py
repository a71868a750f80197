"""Laws of the bank: a mixed batch is each example alone, and an adapter changes no other."""

import functools
import itertools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import methods, quantization, tree
from lora_jax.adapters.adapter import Adapter
from lora_jax.adapters.fingerprint import fingerprint
from lora_jax.serving import BASE, Bank
from tests.methods.toys import CASES
from tests.serving.toys import (
  CHECKED,
  LENGTH,
  NAMES,
  OPTIONS,
  ROWS,
  SIZES,
  alone,
  bank_of,
  base,
  drawn,
  inputs,
  make,
  mixed,
  scanned,
)

FAST = (('bert', False), ('gpt2', True))
CASES_OF_LAYERS = [
  pytest.param(*case, marks=[] if case in FAST else pytest.mark.slow)
  for case in itertools.product(('bert', 'gpt2'), (False, True))
]


@pytest.mark.parametrize('family, scan', CASES_OF_LAYERS)
def test_a_mixed_batch_is_each_example_alone(family, scan):
  bank, found = bank_of(family, scan), mixed(family, scan)
  assert bank.names == list(OPTIONS)
  assert bank.rank == 4
  for row, name in enumerate(NAMES):
    if name not in CHECKED[family]:
      continue
    expected, own = alone(name, family, row), found[row]
    if family != 'gpt2':
      outside = own[bank.labels(name) :]
      own, expected = own[: bank.labels(name)], expected[: bank.labels(name)]
      assert np.isneginf(outside).all()
      assert len(own) == OPTIONS.get(name, (2,))[0]
    np.testing.assert_allclose(own, expected, atol=1e-5 * max(1, np.abs(expected).max()))
    if name != BASE:  # The adapters do something: the law is not trivial.
      other = alone(BASE, family, row)
      width = min(other.shape[-1], expected.shape[-1])
      assert np.abs(expected[..., :width] - other[..., :width]).max() > 1e-3, name


def test_putting_in_and_out_touches_one_adapter_and_compiles_nothing():
  model, params = scanned('bert')
  adapters = {name: make(name, 'bert') for name in OPTIONS}
  bank = Bank.of(model, params, adapters, capacity=len(OPTIONS) + 1)
  rows = len(OPTIONS)
  ids = np.repeat(inputs()['input_ids'][:1], rows, axis=0)
  ask = lambda names: dict(zip(names, np.asarray(bank(names, ids))))
  before = ask(list(OPTIONS))
  compiled = bank.compilations, bank._run._cache_size(), bank._put._cache_size()

  bank.replace('rs', make('rs', 'bert', seed=5))
  after = ask(list(OPTIONS))
  changed = [name for name in OPTIONS if not np.array_equal(before[name], after[name])]
  assert changed == ['rs']

  bank.remove('small')
  bank.add('other', make('small', 'bert', seed=7))
  bank.add('again', make('small', 'bert'))
  names = ['other', 'again', 'rs', 'ranks', 'early']
  after_all = ask(names)
  for name in names[2:]:
    np.testing.assert_array_equal(after_all[name], after[name])
  np.testing.assert_array_equal(after_all['again'], before['small'])
  assert not np.array_equal(after_all['other'], before['small'])
  assert compiled == (bank.compilations, bank._run._cache_size(), bank._put._cache_size())
  assert compiled == (2, 1, 1)

  # An adapter that leaves nothing behind: a wide one's slot, taken by a narrow one.
  bank.replace('rs', make('small', 'bert'))
  np.testing.assert_array_equal(ask(['rs', 'again', 'rs', 'rs', 'rs'])['rs'], before['small'])

  with pytest.raises(ValueError, match=r'full, its capacity is 6.*grow\(capacity\)'):
    bank.add('one more', adapters['small'])
  bank.grow(8)
  bank.add('one more', adapters['small'])
  grown = ask(['one more', *names[1:]])
  np.testing.assert_array_equal(grown['one more'], before['small'])
  np.testing.assert_array_equal(grown['ranks'], before['ranks'])
  assert bank.compilations == 4
  with pytest.raises(ValueError, match=r'grow\(7\): the capacity is 8'):
    bank.grow(7)


@pytest.mark.parametrize('scan', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_frozen_kernel_is_one_operand_of_one_product(scan):
  """No copy for each example in the compiled program: only what is trained has an axis of them."""
  bank = bank_of('bert', scan)
  args = bank._frozen, bank.arrays, np.zeros(ROWS, np.int32), np.zeros(ROWS, np.int32)
  text = bank._run.lower(*args, (), inputs()).compile().as_text()
  shapes = {tuple(map(int, found.split(','))) for found in re.findall(r'f32\[([\d,]+)\]', text)}
  own = {tuple(x.shape[1:]) for x in bank.arrays.values()}
  frozen = {tuple(x.shape[-2:]) for x in jax.tree.leaves(bank._frozen) if x.ndim > 1} - own
  assert (16, 64) in frozen and (50, 16) in frozen
  copies = [shape for shape in shapes if ROWS in shape[:-2] and shape[-2:] in frozen]
  assert not copies
  products = [line for line in text.splitlines() if ' dot(' in line]
  whole = [line for line in products if f'f32[{ROWS * LENGTH},64]' in line.split(' dot(')[0]]
  assert len(whole) == (1 if scan else SIZES['num_layers'] - 1), products  # mlp/up, all tokens.


KINDS = ('vmap', 'einsum-two-in', 'conv-groups', 'embed-tied')


@pytest.mark.parametrize('name', KINDS)
def test_any_model_that_lora_adapts(name):
  model, x = CASES[name]
  params = drawn(jax.eval_shape(model.init, jax.random.key(0), x)['params'])
  bank = Bank(model, params, x, capacity=2, rank=3)
  ways = {'one': dict(rank=1, alpha=2.0), 'two': dict(rank=3, alpha=4.0, rslora=True)}
  expected = {BASE: jax.jit(model.apply)({'params': params}, x)}
  for way, options in ways.items():
    method = methods.lora(**options)
    init = lambda params, method=method: method.init(jax.random.key(1), model, params, x)[1]
    trainable = drawn(jax.eval_shape(init, params), seed=len(expected))
    expected[way] = jax.jit(methods.bind(model.apply, method))(params, trainable, x)
    bank.add(way, Adapter(dict(name='lora', **options), trainable, None, ''))
  names = ['two', 'one', BASE, 'two'][: len(x)]
  found = bank(names, x)
  for row, way in enumerate(names):
    np.testing.assert_allclose(found[row], expected[way][row], rtol=1e-5, atol=1e-5)


def test_arguments_that_are_no_arrays_and_no_head():
  class Model(nn.Module):
    @nn.compact
    def __call__(self, x, train):
      x = nn.Dense(4, name='query')(x)
      return {'y': nn.Dropout(0.5)(x, deterministic=not train)}

  model, x = Model(), jnp.ones((2, 3))
  params = model.init(jax.random.key(0), x, train=False)['params']
  bank = Bank(model, params, x, capacity=1, rank=1, static={'train': False})
  np.testing.assert_allclose(
    bank([BASE, BASE], x)['y'], model.apply({'params': params}, x, train=False)['y'], atol=1e-6
  )


def with_leaf(adapter, path, value):
  leaves = tree.flatten(adapter.trainable)
  return adapter._replace(trainable=tree.unflatten(leaves | {path: value}))


QUERY = 'encoder/layers_0/attention/query'
SMALL = functools.partial(make, 'small', 'bert')
REFUSED = {
  "trained by 'bitfit'": lambda: SMALL()._replace(method={'name': 'bitfit'}),
  "'small' is in the bank": lambda: ('small', SMALL()),
  "the name 'base' is reserved": lambda: (BASE, SMALL()),
  'has 4 labels; the bank has room for 1 to 3': lambda: SMALL()._replace(num_labels=4),
  r'lora_b: \(1, 15\), the bank has \(4, 16\)': lambda: with_leaf(
    SMALL(), f'{QUERY}/lora_b', np.ones((1, 15), 'f')
  ),
  r'lora_a: \(16, 9\), the bank has \(16, 4\) of rank up to 4': lambda: with_leaf(
    SMALL(), f'{QUERY}/lora_a', np.ones((16, 9), 'f')
  ),
  'query/lora_b: not finite': lambda: with_leaf(
    SMALL(), f'{QUERY}/lora_b', np.full((1, 16), np.nan, 'f')
  ),
  'pooler/kernel: missing': lambda: SMALL()._replace(
    trainable={key: x for key, x in SMALL().trainable.items() if key != 'pooler'}
  ),
  "mlp_norm/scale: the bank's targets and train leave no place": lambda: with_leaf(
    SMALL(), 'encoder/layers_0/mlp_norm/scale', np.ones(16, 'f')
  ),
  'not the base .toy. that the adapter was trained on': lambda: SMALL()._replace(
    fingerprint=fingerprint(drawn(base('bert')[1], 9), SMALL().config)
  ),
  "family: roberta in the adapter's base, bert in the model": lambda: make('small', 'roberta'),
}


@pytest.mark.parametrize('message', REFUSED)
def test_what_does_not_fit_is_refused_and_leaves_the_bank_as_it_was(message):
  bank, expected = bank_of('bert'), mixed('bert')
  case = REFUSED[message]()
  name, adapter = ('new', case) if isinstance(case, Adapter) else case
  with pytest.raises(ValueError, match=message):
    bank.add(name, adapter)
  assert bank.names == list(OPTIONS)
  np.testing.assert_array_equal(bank(NAMES, **inputs()), expected)


def test_another_base_can_be_meant():
  model, params = base('bert')
  adapter = SMALL()._replace(fingerprint=fingerprint(drawn(params, 9), model.config))
  bank = Bank.of(model, params, {'meant': adapter}, other_base=True)
  assert bank.names == ['meant']


CALLS = {
  r"adapter 'smal'. Did you mean 'small'\? Known: base, small": lambda bank: bank(['smal'] * ROWS),
  '2 names of adapters, but an input of shape': lambda bank: bank(['small', 'rs'], **inputs()),
  "unknown adapter 'x'": lambda bank: bank.remove('x'),
  "unknown adapter 'y'": lambda bank: bank.replace('y', SMALL()),
  'cannot be removed': lambda bank: bank.remove(BASE),
  "replaced: the name 'base' is reserved": lambda bank: bank.replace(BASE, SMALL()),
  'capacity=0': lambda bank: Bank(*base('bert'), capacity=0, rank=1),
  'rank=0': lambda bank: Bank(*base('bert'), capacity=1, rank=0),
  'num_labels=1: the base has 2': lambda bank: Bank(
    *base('bert'), capacity=1, rank=1, num_labels=1
  ),
  'num_labels=2: the base has no labels': lambda bank: Bank(
    *base('gpt2'), capacity=1, rank=1, num_labels=2
  ),
  "'quary' matches no module": lambda bank: Bank(
    *base('bert'), capacity=1, rank=1, targets='quary'
  ),
}


@pytest.mark.parametrize('message', CALLS)
def test_mistakes_say_what_is_wrong(message):
  with pytest.raises(ValueError, match=message):
    CALLS[message](bank_of('bert'))


def test_a_quantized_base_is_served_in_its_codes():
  """Each example is that of the dequantized base; adapters of the base as it was are refused."""
  model, params = scanned('bert')
  coded = quantization.quantize(params, 'nf4')
  adapters = {name: make(name, 'bert') for name in ('rs', 'early')}
  words = (
    r"'rs': .*differ in values: quantize=none in the adapter's base, quantize=nf4 in the model"
  )
  with pytest.raises(ValueError, match=words):
    Bank.of(model, coded, adapters)
  names = ('rs', BASE, 'early', 'rs', BASE, 'early')
  found, expected = (
    np.asarray(Bank.of(model, base, adapters, other_base=True)(names, **inputs()))
    for base in (coded, quantization.exact(coded))
  )
  finite = np.isfinite(expected)
  np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-4, atol=1e-4)
  known = fingerprint(coded, model.config)
  own = {name: adapter._replace(fingerprint=known) for name, adapter in adapters.items()}
  assert Bank.of(model, coded, own).names == ['rs', 'early']
