"""Adapters of one's own models on disk: saved, read onto the base, refused on another."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import adapter_l, bind, compose, load, lora, params, save, tree, vera
from lora_jax.adapters.native import DESCRIPTION, TENSORS
from lora_jax.methods import Method
from tests.methods import toys
from tests.nnx.toys import IDS, KEY, Stack, disturbed

METHODS = {
  'lora': lora(rank={'.*query': 2, '.*': 1}, alpha=3.0, targets=('.*query', '.*value')),
  'vera': vera(rank=2, targets='.*query'),
  'compose': compose(lora(rank=1, alpha=1, targets='.*query'), adapter_l(bottleneck=2)),
}


def linen():
  model, x = toys.CASES['loop']
  return model, model.init(KEY, x)['params'], x


def adapted(name):
  model, method = Stack(), METHODS[name]
  frozen, trainable = method.init(KEY, model, IDS)
  return model, method, frozen, disturbed(trainable)


@pytest.mark.parametrize('name', METHODS)
def test_what_was_saved_is_read_onto_an_nnx_module(name, tmp_path):
  model, method, frozen, trainable = adapted(name)
  save(tmp_path / 'a', method, trainable, frozen=frozen)
  again, *parts = load(tmp_path / 'a', model)
  jax.tree.map(np.testing.assert_array_equal, parts, [frozen, trainable])
  expected, found = (jax.jit(bind(model, one)) for one in (method, again))
  np.testing.assert_array_equal(found(*parts, IDS), expected(frozen, trainable, IDS))


def test_and_onto_a_linen_model(tmp_path):
  model, values, x = linen()
  method = lora(rank=2, alpha=3.0, train='classifier/.*')
  frozen, trainable = method.init(KEY, model, values, x)
  trainable = tree.cast(disturbed(trainable), jnp.bfloat16)
  save(tmp_path, method, trainable, frozen=frozen)
  again, *parts = load(tmp_path, model, values)
  jax.tree.map(np.testing.assert_array_equal, parts, [frozen, trainable])
  assert {str(x.dtype) for x in jax.tree.leaves(parts[1])} == {'bfloat16'}
  assert again.options == method.options
  with pytest.raises(ValueError, match='a Linen model needs its parameters'):
    load(tmp_path, model)


def test_another_base_is_refused_unless_it_is_wanted(tmp_path):
  model, method, frozen, trainable = adapted('lora')
  save(tmp_path, method, trainable, frozen=frozen)
  other = jax.tree.map(lambda x: x + 0.1, params(model))
  with pytest.raises(ValueError, match=r'differ in values of 1\d of its .*other_base=True'):
    load(tmp_path, model, other)
  assert load(tmp_path, model, other, other_base=True)[2].keys() == trainable.keys()


def test_a_model_without_the_layers_is_told_which(tmp_path):
  _, method, _, trainable = adapted('lora')
  save(tmp_path, method, trainable)
  model, values, _ = linen()
  with pytest.raises(ValueError, match=r'no layer layers_0/.*Known: .*classifier'):
    load(tmp_path, nn.Dense(3), {'classifier': values['classifier']})
  with pytest.raises(ValueError, match=r'misshapen|no layer'):
    load(tmp_path, model, {'layers_0': {'query': {'bias': jnp.ones(1)}}})


@pytest.mark.parametrize('name', ['lora', 'vera'])
def test_a_model_with_more_layers_is_told_which(name, tmp_path):
  """Their factors were not missed: without any a layer is computed as it is."""
  model, method, frozen, trainable = adapted(name)
  save(tmp_path / 'a', method, trainable)
  deeper = Stack(depth=4)
  first = r'adapts layers_2/query, .*layers_3/.* fewer layers.*other_base=True'
  with pytest.raises(ValueError, match=first):
    load(tmp_path / 'a', deeper)
  load(tmp_path / 'a', deeper, other_base=True)
  save(tmp_path / 'b', method, trainable, frozen=frozen)
  with pytest.raises(ValueError, match='not the base that was trained on'):
    load(tmp_path / 'b', deeper)
  one = lora(rank=1, alpha=1, targets='layers_0/query')  # Where it was asked for, that is right.
  save(tmp_path / 'c', one, one.init(KEY, model, IDS)[1])
  load(tmp_path / 'c', deeper)


@pytest.mark.parametrize('make', [lora, vera], ids=['lora', 'vera'])
def test_factors_that_do_not_fit_the_weights_are_named(make, tmp_path):
  """An update of one column would be broadcast to all, and ids beyond a table give NaN."""
  options = {'rank': 2, 'targets': 'dense|embed', **({'alpha': 4.0} if make is lora else {})}
  if make is vera:
    options['targets'] = 'dense'
  ids = jnp.zeros((1, 2), int)

  class Small(nn.Module):
    rows: int
    width: int

    @nn.compact
    def __call__(self, ids):
      return nn.Dense(self.width, name='dense')(nn.Embed(self.rows, 4, name='embed')(ids))

  values = {size: Small(*size).init(KEY, ids)['params'] for size in ((5, 1), (5, 3), (6, 1))}
  method = make(**options)
  save(tmp_path / 'a', method, method.init(KEY, Small(5, 1), values[5, 1], ids)[1])
  load(tmp_path / 'a', Small(5, 1), values[5, 1])
  with pytest.raises(ValueError, match=r'does not fit the model: dense/\w+ \(.* weight \(4, 3\)'):
    load(tmp_path / 'a', Small(5, 3), values[5, 3])
  if make is lora:
    with pytest.raises(ValueError, match=r'embed/lora_a \(5, 2\) .* weight \(6, 4\)'):
      load(tmp_path / 'a', Small(6, 1), values[6, 1])
    half = method.init(KEY, Small(5, 1), values[5, 1], ids)[1]
    del half['dense']['lora_b']
    save(tmp_path / 'b', method, half)
    with pytest.raises(ValueError, match='missing dense/lora_b'):
      load(tmp_path / 'b', Small(5, 1), values[5, 1])


def by_hand():
  method = METHODS['lora']
  return Method(init=method.init, merge=method.merge)


def test_mistakes_are_named_and_nothing_is_written(tmp_path):
  _, method, _, trainable = adapted('lora')
  for unknown in (by_hand(), compose(by_hand(), method)):
    with pytest.raises(ValueError, match='does not know its options'):
      save(tmp_path / 'a', unknown, trainable)
  with pytest.raises(ValueError, match='NaN or infinity in layers_0/query/lora_a'):
    save(tmp_path / 'a', method, jax.tree.map(lambda x: x * jnp.nan, trainable))
  assert not (tmp_path / 'a').exists()
  save(tmp_path / 'a', method, trainable)
  with pytest.raises(FileExistsError):
    save(tmp_path / 'a', method, trainable)


def test_damaged_folders_are_named(tmp_path):
  model, method, _, trainable = adapted('lora')
  with pytest.raises(FileNotFoundError, match=f'holds no {DESCRIPTION}'):
    load(tmp_path, model)
  save(tmp_path, method, trainable)
  whole = json.loads((tmp_path / DESCRIPTION).read_text())
  for change, message in (
    ({'format': 'x'}, "format 'x'.*load_adapter"),
    ({'method': 3}, 'method is 3, expected dict'),
    ({'sha256': '0'}, 'is not the file that was saved'),
    ({'method': {'name': 'lroa'}}, f"{DESCRIPTION}.*unknown method 'lroa'. Did you mean 'lora'"),
  ):
    (tmp_path / DESCRIPTION).write_text(json.dumps(whole | change))
    with pytest.raises(ValueError, match=message):
      load(tmp_path, model)
  (tmp_path / DESCRIPTION).write_text(json.dumps(whole))
  (tmp_path / TENSORS).unlink()
  with pytest.raises(FileNotFoundError, match=f'{TENSORS} is missing'):
    load(tmp_path, model)
