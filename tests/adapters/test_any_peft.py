"""PEFT's folders of one's own models: theirs is computed as there, ours comes back as it was."""

import json
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors import numpy as writer

from lora_jax import bitfit, load_peft, lora, params, save_peft
from lora_jax.adapters import peft, peft_file
from lora_jax.pretrained import safetensors
from tests.adapters import toys
from tests.adapters.toys import ADAPTERS, model_of
from tests.nnx.toys import IDS, KEY, Stack, disturbed

CASE = 'peft.llama.all'
SHORT = {'query': 'q', 'key': 'k', 'value': 'v', 'output': 'o'}
LLAMA = {
  **{
    rf'decoder/layers_(\d+)/attention/{name}': rf'model.layers.\1.self_attn.{short}_proj'
    for name, short in SHORT.items()
  },
  r'decoder/layers_(\d+)/mlp/(\w+)': r'model.layers.\1.mlp.\2_proj',
}
STACKS = {
  'loop': {r'layers_(\d+)/(\w+)': r'model.layers.\1.\2', 'embeddings/word': 'embed'},
  'scan': {r'layers/(\w+)': r'model.layers.{layer}.\1', 'embeddings/word': 'embed'},
}
TARGETS = (r'layers(_\d)?/(query|up)', 'embeddings/word')
METHOD = lora(rank={'.*query': 2, '.*': 3}, alpha=4.0, targets=TARGETS, rslora=True, dropout=0.1)


def tensors_of(folder):
  return dict(safetensors.Tensors(folder / peft_file.TENSORS))


def test_theirs_is_computed_as_there_and_comes_back_as_it_was(tmp_path):
  model, values = model_of('llama')
  tokens = jax.ShapeDtypeStruct((1, 4), np.int32)
  method, *parts = load_peft(ADAPTERS / CASE, model, tokens, names=LLAMA, params=values)
  inputs, valid = toys.inputs_of('llama')
  found = toys.computed(model, method, *parts, inputs)[valid]
  np.testing.assert_allclose(found, toys.expected(CASE), atol=1e-5)
  save_peft(tmp_path, method, parts[1], model, tokens, names=LLAMA, base_name='toys/llama')
  theirs, ours = tensors_of(ADAPTERS / CASE), tensors_of(tmp_path)
  assert theirs.keys() == ours.keys()
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)
  again = peft.read(tmp_path, model.config)  # The package's own reader finds it whole.
  assert again.method['rank'] == 4 and again.base == 'toys/llama'


@pytest.mark.parametrize('layout', STACKS)
def test_factors_of_an_nnx_module_come_back(layout, tmp_path):
  model, names = Stack(layout), STACKS[layout]
  frozen, trainable = METHOD.init(KEY, model, IDS)
  trainable = disturbed(trainable)
  save_peft(tmp_path, METHOD, trainable, model, IDS, names=names)
  config = json.loads((tmp_path / peft.CONFIG).read_text())
  layers = [f'model.layers.{i}.{name}' for i in range(2) for name in ('query', 'up')]
  assert sorted(config['target_modules']) == ['embed', *layers]
  assert config['r'] == 3 and config['rank_pattern'] == {'query': 2}
  assert 'base_model.model.embed.lora_embedding_A' in tensors_of(tmp_path)
  method, *parts = load_peft(tmp_path, model, IDS, names=names)
  jax.tree.map(np.testing.assert_array_equal, parts, [frozen, trainable])
  jax.tree.map(np.testing.assert_array_equal, method.merge(*parts), METHOD.merge(frozen, trainable))
  assert method.options['dropout'] == 0.1


class Kinds(nnx.Module):
  def __init__(self):
    rngs = nnx.Rngs(0)
    self.wide = nnx.LinearGeneral(6, (2, 3), rngs=rngs)
    self.heads = nnx.Einsum('...nh,dnh->...d', (6, 2, 3), rngs=rngs)
    self.conv = nnx.Conv(6, 2, (3,), rngs=rngs)

  def __call__(self, x):
    return self.conv(self.heads(self.wide(x)))


def test_a_file_holds_the_update_of_the_weight_as_a_matrix(tmp_path):
  model, x = Kinds(), jnp.ones((1, 4, 6))
  method = lora(rank=2, alpha=4.0, targets='wide|heads')
  frozen, trainable = method.init(KEY, model, x)
  trainable = disturbed(trainable)
  save_peft(tmp_path, method, trainable, model, x, names={'wide|heads': r'm.\g<0>'})
  tensors, merged = tensors_of(tmp_path), method.merge(frozen, trainable)
  for name, outputs in (('wide', 6), ('heads', 6)):
    a, b = (tensors[f'base_model.model.m.{name}.lora_{part}.weight'] for part in 'AB')
    assert a.shape == (2, 6) and b.shape == (outputs, 2)
    update = merged[name]['kernel'] - params(model)[name]['kernel']
    rows = update.reshape(6, 6)  # [in, out] of `wide`, [out, in] of `heads`.
    np.testing.assert_allclose(2 * b @ a, rows.T if name == 'wide' else rows, atol=1e-5)


def save(folder, method=METHOD, names=STACKS['loop'], model=None):
  model = model or Stack('loop')
  trainable = method.init(KEY, model, IDS)[1]
  save_peft(folder, method, trainable, model, IDS, names=names)


def test_what_the_format_cannot_hold_is_named(tmp_path):
  head = lora(rank=1, alpha=1, targets=TARGETS, train='classifier/.*')
  with pytest.raises(ValueError, match=r"factors of lora alone.*'train': 'classifier/.\*'"):
    save(tmp_path, head)
  with pytest.raises(ValueError, match="this is 'bitfit'"):
    save(tmp_path, bitfit())
  with pytest.raises(ValueError, match='no pattern in names matches layers_0/query, layers_0/up'):
    save(tmp_path, names={'embeddings/word': 'embed'})
  with pytest.raises(ValueError, match=r"layers/query: .*'a': the text for layers in one stack"):
    save(tmp_path, names={'.*': 'a'}, model=Stack('scan'))
  x, method = jnp.ones((1, 4, 6)), lora(rank=2, alpha=4.0, targets='conv')
  with pytest.raises(ValueError, match='conv: a table of names is for layers whose weight'):
    trainable = method.init(KEY, Kinds(), x)[1]
    save_peft(tmp_path, method, trainable, Kinds(), x, names={'.*': 'a'})
  assert not list(tmp_path.iterdir())


def test_options_may_be_lists(tmp_path):
  options = {name: x for name, x in METHOD.options.items() if name != 'name'}
  save(tmp_path / 'lists', lora(**{**options, 'targets': [*TARGETS], 'train': []}))
  save(tmp_path / 'tuples')
  for name in (peft.CONFIG, peft_file.TENSORS):
    assert (tmp_path / 'lists' / name).read_bytes() == (tmp_path / 'tuples' / name).read_bytes()


def test_a_folder_that_does_not_fit_is_named(tmp_path):
  save(tmp_path)
  read = lambda model, names=STACKS['loop'], **more: load_peft(
    tmp_path, model, IDS, names=names, **more
  )
  with pytest.raises(ValueError, match='a Linen model needs its parameters'):
    read(nn.Dense(2))
  with pytest.raises(ValueError, match=r'unexpected embed.lora_embedding_A.*by the table of names'):
    read(Stack('loop'), {r'layers_(\d+)/(\w+)': r'model.layers.\1.\2'})
  with pytest.raises(ValueError, match='none of its tensors is of a layer by the table'):
    read(Stack('loop'), {})
  with pytest.raises(ValueError, match='not all of the stacked layers of layers/query, layers/up'):
    read(Stack('scan', depth=3), STACKS['scan'])
  path = tmp_path / peft.CONFIG
  whole = json.loads(path.read_text())
  for change, message in (
    ({'rank_pattern': {}}, 'rank 3 by adapter_config.json, 2 by its tensors'),
    ({'use_dora': True}, "DoRA is read for this package's models alone"),
  ):
    path.write_text(json.dumps(whole | change))
    with pytest.raises(ValueError, match=message):
      read(Stack('loop'))
  alpha = {'model.layers.1.query': 8.0}
  path.write_text(json.dumps(whole | {'alpha_pattern': alpha}))
  assert read(Stack('loop'))[0].options['alpha'][r'layers_1/query'] == 8.0
  with pytest.raises(ValueError, match='layers/query: its stacked layers differ in rank or alpha'):
    read(Stack('scan'), STACKS['scan'])


def test_a_folder_that_lacks_tensors_says_which(tmp_path):
  save(tmp_path)
  tensors = tensors_of(tmp_path)
  one = [key for key in tensors if 'model.layers.1.query' in key]
  for lost in (one, one[:1], one[1:]):
    left = {key: np.array(x) for key, x in tensors.items() if key not in lost}
    writer.save_file(left, tmp_path / peft_file.TENSORS, metadata={'format': 'pt'})
    names = '.*'.join(re.escape(key.removeprefix(peft_file.PREFIX)) for key in sorted(lost))
    with pytest.raises(ValueError, match=rf'missing {names} \(\d, \d\)$'):
      load_peft(tmp_path, Stack('loop'), IDS, names=STACKS['loop'])


def test_the_base_that_peft_saves_of_words_is_compared_with_the_model(tmp_path):
  model = Stack('loop')
  save(tmp_path, model=model)
  read = lambda: load_peft(tmp_path, model, IDS, names=STACKS['loop'])
  tensors = {key: np.array(x) for key, x in tensors_of(tmp_path).items()}
  table = np.array(params(model)['embeddings']['word']['embedding'])
  query = np.array(params(model)['layers_0']['query']['kernel'])
  add = lambda name, x: writer.save_file(
    tensors | {f'{peft_file.PREFIX}{name}': np.ascontiguousarray(x)}, tmp_path / peft_file.TENSORS
  )
  for name, x in (('embed.base_layer.weight', table), ('model.layers.0.query.weight', query.T)):
    add(name, x)
    read()
    add(name, x + 1)
    with pytest.raises(ValueError, match=r'another weight than .* of the model has'):
      read()
  add('norm.weight', table)
  config = tmp_path / peft.CONFIG
  config.write_text(json.dumps(json.loads(config.read_text()) | {'modules_to_save': ['norm']}))
  with pytest.raises(ValueError, match=r'unexpected norm\.weight .*modules_to_save nothing is'):
    read()


def test_tied_words_have_factors_here_alone(tmp_path):
  model, values = model_of('llama')
  tokens = jax.ShapeDtypeStruct((1, 4), np.int32)
  names = LLAMA | {'embeddings/word': 'model.embed_tokens'}
  # A table of names may name what the adapter does not adapt.
  method, *_ = load_peft(ADAPTERS / CASE, model, tokens, names=names, params=values)
  method = lora(rank=2, alpha=4.0, targets=('.*/query', 'embeddings/word'))
  _, trainable = method.init(KEY, model, values, tokens)
  with pytest.raises(ValueError, match=r'embeddings/word: .* as its output layer as well'):
    save_peft(tmp_path, method, trainable, model, tokens, names=names)


def test_layers_that_would_have_one_name_are_refused(tmp_path):
  """The last of them would be in the file in place of all."""
  names = {r'layers_(\d+)/query': 'model.layers.query', **STACKS['loop']}
  with pytest.raises(
    ValueError, match=r"one name to several layers, 'model.layers.query' to layers_0"
  ):
    save(tmp_path, names=names)


def test_a_whole_name_that_ends_another_is_one_module(tmp_path):
  """`embed` is adapted and `model.embed` is not; the file lists whole names."""
  names = {'embeddings/word': 'embed', r'layers_0/query': 'model.embed'}
  method = lora(rank=2, alpha=1.0, targets='embeddings/word')
  save(tmp_path, method, names)
  _, _, found = load_peft(tmp_path, Stack('loop'), IDS, names=names)
  assert [*found] == ['embeddings']
