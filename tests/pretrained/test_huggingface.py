"""Loading folders in Hugging Face layout: layouts, dtypes, and everything that can be wrong."""

import dataclasses
import json
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as writer

from lora_jax import tree
from lora_jax.pretrained import (
  fresh_model,
  huggingface,
  load_model,
  names,
  pytorch_writer,
  safetensors,
)

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'models'
TASKS = {'bert': 'classification', 'roberta': 'classification', 'gpt2': 'lm'}


def tensors(case):
  return {name: np.array(x) for name, x in safetensors.read(GOLDEN / case).items()}


def write(folder, case, changed, config=None):
  """The golden checkpoint with other tensors, and with other keys in its config.json."""
  folder.mkdir(exist_ok=True)
  writer.save_file(changed, folder / safetensors.SINGLE)
  values = json.loads((GOLDEN / case / 'config.json').read_text()) | (config or {})
  (folder / 'config.json').write_text(json.dumps(values))
  return folder


def load(folder, case, **options):
  return load_model(folder, task=TASKS[case], **options)


def same(found, expected):
  found, expected = tree.flatten(found), tree.flatten(expected)
  assert found.keys() == expected.keys()
  for path in expected:
    np.testing.assert_array_equal(found[path], expected[path], err_msg=path)


@pytest.mark.parametrize('case', TASKS)
def test_the_tree_is_that_of_init(case):
  for scan in (False, True):
    model, params = load(GOLDEN / case, case, scan=scan)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), int))['params']
    found, expected = tree.flatten(params), tree.flatten(shapes)
    assert found.keys() == expected.keys()
    for path, leaf in expected.items():
      assert (found[path].shape, found[path].dtype) == (leaf.shape, leaf.dtype), path


@pytest.mark.parametrize('case', TASKS)
def test_stacked_layers_hold_the_looped_ones(case):
  looped = tree.flatten(load(GOLDEN / case, case)[1])
  for path, leaf in tree.flatten(load(GOLDEN / case, case, scan=True)[1]).items():
    for layer in range(2):
      one = looped[path.replace('/layers/', f'/layers_{layer}/')]
      np.testing.assert_array_equal(leaf[layer] if '/layers/' in path else leaf, one)


@pytest.mark.parametrize('case', TASKS)
def test_prefix_or_none_makes_no_difference(case, tmp_path):
  expected = load(GOLDEN / case, case)[1]
  prefix = names.PREFIXES[case]
  turned = {
    name.removeprefix(prefix) if name.startswith(prefix) else name: x
    for name, x in tensors(case).items()
  }
  assert turned.keys() != tensors(case).keys()
  same(load(write(tmp_path, case, turned), case)[1], expected)


def test_shards_of_gpt2(tmp_path):
  everything = tensors('gpt2')
  names = sorted(everything)
  shards = {'model-1.safetensors': names[::2], 'model-2.safetensors': names[1::2]}
  for file, members in shards.items():
    writer.save_file({name: everything[name] for name in members}, tmp_path / file)
  index = {'weight_map': {name: file for file, members in shards.items() for name in members}}
  (tmp_path / safetensors.INDEX).write_text(json.dumps(index))
  shutil.copy(GOLDEN / 'gpt2' / 'config.json', tmp_path)
  same(load(tmp_path, 'gpt2')[1], load(GOLDEN / 'gpt2', 'gpt2')[1])


@pytest.mark.parametrize('dtype', [np.float16, ml_dtypes.bfloat16])
def test_low_precision_checkpoints(dtype, tmp_path):
  low = {name: x.astype(dtype) for name, x in tensors('bert').items()}
  _, params = load(write(tmp_path, 'bert', low), 'bert')
  expected = jax.tree.map(
    lambda x: x.astype(dtype).astype(np.float32), load(GOLDEN / 'bert', 'bert')[1]
  )
  assert all(x.dtype == np.float32 for x in jax.tree.leaves(params))
  same(params, expected)


def test_param_dtype_casts_what_is_stored(tmp_path):
  _, params = load(GOLDEN / 'bert', 'bert', param_dtype='bfloat16')
  _, full = load(GOLDEN / 'bert', 'bert')
  path = 'encoder/layers_1/mlp/up/kernel'
  found, expected = (tree.flatten(p)[path] for p in (params, full))
  assert found.dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(found, expected.astype(ml_dtypes.bfloat16))


def test_old_names_of_norms(tmp_path):
  rename = lambda name: re.sub(
    r'LayerNorm\.(weight|bias)', lambda m: f'LayerNorm.{old_names[m[1]]}', name
  )
  old_names = {'weight': 'gamma', 'bias': 'beta'}
  old = {rename(name): x for name, x in tensors('bert').items()}
  assert 'bert.embeddings.LayerNorm.gamma' in old
  same(load(write(tmp_path, 'bert', old), 'bert')[1], load(GOLDEN / 'bert', 'bert')[1])


@pytest.mark.parametrize('pickled', [False, True])
@pytest.mark.parametrize(
  'case, first, second',
  [
    ('bert', 'bert.embeddings.word_embeddings.weight', 'embeddings.word_embeddings.weight'),
    ('bert', 'bert.embeddings.LayerNorm.weight', 'bert.embeddings.LayerNorm.gamma'),
    ('gpt2', 'transformer.h.0.attn.c_attn.bias', 'h.0.attn.c_attn.bias'),
  ],
)
def test_two_tensors_of_one_parameter_have_one_value(case, first, second, pickled, tmp_path):
  every = tensors(case)
  folder = write(tmp_path, case, every)

  def rewrite(x):
    changed = every | {second: x}
    if pickled:
      (folder / safetensors.SINGLE).unlink(missing_ok=True)
      pytorch_writer.write(folder / 'pytorch_model.bin', changed)
    else:
      writer.save_file(changed, folder / safetensors.SINGLE)

  rewrite(every[first])
  same(load(folder, case)[1], load(GOLDEN / case, case)[1])
  rewrite(every[first] + np.float32(1e-3))
  with pytest.raises(ValueError, match='are one parameter, but their values differ') as error:
    load(folder, case)
  assert (
    str(folder) in str(error.value) and first in str(error.value) and second in str(error.value)
  )


@pytest.mark.parametrize('dtype', [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_named(value, dtype, tmp_path):
  name = 'bert.encoder.layer.1.attention.self.query.weight'
  broken = {key: x.astype(dtype) for key, x in tensors('bert').items()}
  broken[name][3, 5] = value
  with pytest.raises(ValueError, match=f'{tmp_path}: {name}: NaN or infinity'):
    load(write(tmp_path, 'bert', broken), 'bert')


def test_a_tensor_of_whole_numbers_is_no_weight(tmp_path):
  name = 'bert.encoder.layer.0.attention.self.query.weight'
  quantized = tensors('bert') | {name: np.ones((24, 24), np.int8)}
  with pytest.raises(ValueError, match=f'expected floating-point tensors, but {name} is int8'):
    load(write(tmp_path, 'bert', quantized), 'bert')


@pytest.mark.parametrize('case', ['bert', 'roberta'])
def test_a_checkpoint_without_head_gets_one_from_the_seed(case, tmp_path):
  body = {name: x for name, x in tensors(case).items() if not name.startswith('classifier')}
  extra = {
    'bert': {'cls.predictions.bias': np.zeros(61, np.float32)},
    'roberta': {'lm_head.bias': np.zeros(61, np.float32)},
  }[case]
  extra[f'{case}.embeddings.position_ids'] = np.arange(16)[None]
  folder = write(tmp_path, case, body | extra)
  model, first = load(folder, case, num_labels=5, seed=0)
  (_, again), (_, other) = (load(folder, case, num_labels=5, seed=seed) for seed in (0, 1))
  same(first, again)
  kernels = [
    leaf
    for path, leaf in tree.flatten(first).items()
    if path.startswith('classifier') and path.endswith('kernel')
  ]
  assert kernels[-1].shape == (24, 5)
  assert 0.01 < np.std(kernels[-1]) < 0.03  # initializer_range 0.02
  changed = {
    path
    for path, leaf in tree.flatten(first).items()
    if not np.array_equal(leaf, tree.flatten(other)[path])
  }
  assert changed and all(path.startswith('classifier') and 'kernel' in path for path in changed)
  # As a model that is fresh all over would have drawn it.
  _, fresh = fresh_model(model.config, task=TASKS[case], num_labels=5, seed=0)
  same(
    {'classifier': first['classifier']},
    {'classifier': jax.tree.map(np.asarray, fresh['classifier'])},
  )


def test_the_pooler_is_pretrained_where_there_is_one(tmp_path):
  body = {name: x for name, x in tensors('bert').items() if not name.startswith('classifier')}
  _, params = load(write(tmp_path, 'bert', body), 'bert')
  np.testing.assert_array_equal(params['pooler']['kernel'], body['bert.pooler.dense.weight'].T)


def test_a_head_of_another_shape(tmp_path):
  with pytest.raises(
    ValueError, match=r'misshapen .*classifier.out_proj.weight is \(2, 24\)'
  ) as error:
    load(GOLDEN / 'roberta', 'roberta', num_labels=3)
  assert 'expected (3, 24)' in str(error.value) and 'fresh_head=True' in str(error.value)
  _, params = load(GOLDEN / 'roberta', 'roberta', num_labels=3, fresh_head=True)
  assert params['classifier']['output']['kernel'].shape == (24, 3)
  old = tensors('roberta')['classifier.dense.weight'].T  # It goes with its output layer.
  assert not np.array_equal(params['classifier']['dense']['kernel'], old)


def named(tmp_path, names):
  id2label = {str(i): name for i, name in enumerate(names)}
  return write(tmp_path, 'bert', tensors('bert'), {'id2label': id2label})


def test_a_fresh_head_replaces_one_of_the_same_shape():
  _, own = load(GOLDEN / 'bert', 'bert')
  _, fresh = load(GOLDEN / 'bert', 'bert', fresh_head=True)
  assert not np.array_equal(fresh['classifier']['kernel'], own['classifier']['kernel'])
  own.pop('classifier')
  fresh.pop('classifier')
  same(fresh, own)  # The pooler is the base's.


def test_a_head_that_is_kept_has_the_classes_by_name(tmp_path):
  folder = named(tmp_path, ('CONTRADICTION', 'Neutral', 'entailment'))
  _, own = load(folder, 'bert')
  wanted = ('entailment', 'neutral', 'contradiction')
  _, kept = load(folder, 'bert', label_names=wanted)
  for leaf in ('kernel', 'bias'):
    np.testing.assert_array_equal(
      kept['classifier'][leaf], own['classifier'][leaf][..., jnp.array([2, 1, 0])]
    )
  with pytest.raises(ValueError, match=r'has the classes CONTRADICTION.* task has a, b, c'):
    load(folder, 'bert', label_names=('a', 'b', 'c'))


def test_a_head_without_names_is_kept_as_it_is(tmp_path, caplog):
  caplog.set_level('INFO')
  folder = named(tmp_path, ('LABEL_0', 'LABEL_1', 'LABEL_2'))
  same(load(folder, 'bert', label_names=('a', 'b', 'c'))[1], load(folder, 'bert')[1])
  assert 'names no classes' in caplog.text


def test_a_head_that_is_missing_cannot_be_kept(tmp_path):
  body = {name: x for name, x in tensors('bert').items() if not name.startswith('classifier')}
  with pytest.raises(ValueError, match='has no classification head'):
    load(write(tmp_path, 'bert', body), 'bert', label_names=())


def test_everything_that_does_not_fit_is_in_one_message(tmp_path):
  broken = tensors('bert')
  del broken['bert.encoder.layer.1.output.dense.bias']
  del broken['bert.embeddings.word_embeddings.weight']
  del broken['classifier.bias']  # Half a head is not a head that is absent.
  broken['bert.encoder.layer.0.intermediate.dense.weight'] = np.zeros((7, 24), np.float32)
  broken['bert.encoder.layer.2.output.dense.bias'] = np.zeros(24, np.float32)
  broken['adapter.weight'] = np.zeros(1, np.float32)
  with pytest.raises(ValueError) as error:
    load(write(tmp_path, 'bert', broken), 'bert')
  message = str(error.value)
  assert str(tmp_path) in message
  missing, unexpected, misshapen = message.split('; ')
  for name in ('word_embeddings.weight', 'layer.1.output.dense.bias', 'classifier.bias'):
    assert name in missing
  assert 'adapter.weight' in unexpected and 'encoder.layer.2.output.dense.bias' in unexpected
  assert 'intermediate.dense.weight is (7, 24), expected (40, 24)' in misshapen


def test_a_fused_projection_of_the_wrong_width(tmp_path):
  broken = tensors('gpt2')
  broken['transformer.h.0.attn.c_attn.weight'] = np.zeros((24, 73), np.float32)
  with pytest.raises(ValueError, match=r'c_attn.weight is \(24, 73\), expected \(24, 72\)'):
    load(write(tmp_path, 'gpt2', broken), 'gpt2')


def test_gpt2_buffers_and_tied_output(tmp_path):
  extra = tensors('gpt2') | {
    'transformer.h.0.attn.bias': np.ones((1, 1, 16, 16), np.float32),
    'transformer.h.1.attn.masked_bias': np.array(-1e4, np.float32),
    'lm_head.weight': tensors('gpt2')['transformer.wte.weight'],
  }
  same(load(write(tmp_path, 'gpt2', extra), 'gpt2')[1], load(GOLDEN / 'gpt2', 'gpt2')[1])
  extra['lm_head.weight'] = extra['lm_head.weight'] + 1
  with pytest.raises(ValueError, match=r'lm_head.weight differs from wte.weight'):
    load(write(tmp_path, 'gpt2', extra), 'gpt2')


@pytest.mark.parametrize(
  'call, message',
  [
    (
      lambda: load_model('roberta-bas', task='lm'),
      "'roberta-bas' is neither .* Did you mean 'roberta-base'",
    ),
    (lambda: load_model(GOLDEN / 'bert', task='lm'), "task='lm': a bert model does classification"),
    (lambda: load_model(GOLDEN / 'gpt2', task='regression'), 'a gpt2 model does lm'),
    (lambda: load_model(GOLDEN / 'bert', task='regression', num_labels=2), 'num_labels=2: regres'),
    (lambda: load_model(GOLDEN / 'bert', task='classification', num_labels=0), 'num_labels=0'),
    (
      lambda: load_model(GOLDEN / 'bert', task='classification', scann=True),
      "no option 'scann'. Did you mean 'scan'",
    ),
    (lambda: load_model(GOLDEN / 'gpt2', task='lm', remat='all'), "remat='all': choose one of"),
    (
      lambda: load_model(GOLDEN / 'gpt2', task='lm', classifier_dropout=0.1),
      'classifier_dropout: a language model',
    ),
    (lambda: fresh_model({'family': 'gpt3'}, task='lm'), "family='gpt3': .* Did you mean 'gpt2'"),
    (
      lambda: fresh_model({'family': 'gpt2', 'num_layer': 2}, task='lm'),
      "'num_layer'. Did you mean 'num_layers'",
    ),
  ],
)
def test_names_and_options(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_a_folder_without_config(tmp_path):
  with pytest.raises(FileNotFoundError, match=f'{tmp_path.name}: no config.json'):
    load(tmp_path, 'bert')


def test_a_preset_that_cannot_be_fetched(monkeypatch, tmp_path):
  from huggingface_hub import constants

  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
  with pytest.raises(
    ConnectionError, match=r"'roberta-base': could not fetch FacebookAI/roberta"
  ) as error:
    huggingface.locate('roberta-base')
  assert 'give a folder' in str(error.value)


def test_a_preset_is_fetched_once_with_what_is_needed(monkeypatch):
  import huggingface_hub

  calls = []

  def snapshot_download(repository, allow_patterns):
    calls.append((repository, allow_patterns))
    return str(GOLDEN / 'gpt2')

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', snapshot_download)
  assert huggingface.locate('gpt2') == GOLDEN / 'gpt2'
  ((repository, patterns),) = calls
  assert repository == 'openai-community/gpt2'
  wanted = {'config.json', 'model.safetensors', 'tokenizer.json', 'vocab.json', 'merges.txt'}
  names = {
    *wanted,
    'pytorch_model.bin',
    'onnx/model.safetensors',
    'tf_model.h5',
    'flax_model.msgpack',
  }
  from huggingface_hub.utils import filter_repo_objects

  assert set(filter_repo_objects(names, allow_patterns=patterns)) == wanted


def test_a_folder_never_touches_the_network(monkeypatch):
  import socket

  def refuse(*args, **kwargs):
    raise AssertionError('a socket was opened')

  monkeypatch.setattr(socket, 'socket', refuse)
  load(GOLDEN / 'gpt2', 'gpt2')


def test_fresh_models_depend_on_the_seed_and_take_a_config():
  config = huggingface.read_config(GOLDEN / 'gpt2')
  (model, first), (_, other) = (fresh_model(config, task='lm', seed=seed) for seed in (0, 1))
  assert model.config == config
  kernels = [tree.flatten(p)['decoder/layers_1/mlp/up/kernel'] for p in (first, other)]
  assert jnp.abs(kernels[0] - kernels[1]).max() > 0.01
  plain = {key: value for key, value in dataclasses.asdict(config).items()}
  assert fresh_model(plain, task='lm')[0].config == config
