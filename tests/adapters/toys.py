"""Adapters on the toy models of golden/models, for the tests of formats."""

import functools
import json
import pathlib
import shutil

import jax
import numpy as np

from lora_jax import methods, tree
from lora_jax.adapters import peft
from lora_jax.adapters.adapter import Adapter
from lora_jax.pretrained import huggingface, load_model

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
DECODERS = ('gpt2', 'llama', 'llama-biased', 'qwen2', 'qwen3')
ADAPTERS = GOLDEN / 'adapters'  # Made by make_adapters.py.


def base_of(case):
  """The toy model's name in a golden's: `peft.bert.patterns` is one of `bert`."""
  return case.split('.')[1]


@functools.cache
def config_of(name):
  return huggingface.read_config(GOLDEN / 'models' / name)


@functools.cache
def model_of(name):
  task = 'lm' if name in DECODERS else 'classification'
  return load_model(GOLDEN / 'models' / name, task=task)


def fits(adapter):
  """What the method trains, by path, is what the adapter holds."""
  model, params = model_of(adapter.config.family)
  init = functools.partial(methods.make(**adapter.method).init, jax.random.key(0), model)
  tokens = np.zeros((1, 4), np.int32)
  _, trained = jax.eval_shape(lambda params: init(params, tokens), params)
  shapes = lambda t: {path: x.shape for path, x in tree.flatten(t).items()}
  assert shapes(adapter.trainable) == shapes(trained)


def parts_of(adapter):
  """(model, method, frozen) of the toy base."""
  model, params = model_of(adapter.config.family)
  trained = tree.flatten(adapter.trainable)
  frozen = {path: x for path, x in tree.flatten(params).items() if path not in trained}
  return model, methods.make(**adapter.method), tree.unflatten(frozen)


def inputs_of(name):
  """What the golden logits are of, and which of them are of tokens."""
  case = np.load(GOLDEN / 'models' / name / 'expected.npz')
  inputs = {'input_ids': case['input_ids'], 'segment_ids': case['mask']}
  if 'token_type_ids' in case:
    inputs['token_type_ids'] = case['token_type_ids']
  return inputs, (case['mask'] == 1 if name in DECODERS else ...)


def logits(adapter):
  model, method, frozen = parts_of(adapter)
  inputs, valid = inputs_of(adapter.config.family)
  return computed(model, method, frozen, adapter.trainable, inputs)[valid]


def computed(model, method, frozen, trainable, inputs):
  """Logits at all positions, of the merged model: it compiles once for all adapters."""
  return np.asarray(_apply(model, method.merge(frozen, trainable), inputs))


@functools.partial(jax.jit, static_argnums=0)
def _apply(model, params, inputs):
  return model.apply({'params': params}, **inputs)


def expected(case):
  _, valid = inputs_of(base_of(case))
  return np.load(ADAPTERS / case / 'expected.npz')['logits'][valid]


def make(base, seed=0, **options):
  """An adapter of a toy model as a run would have trained it, none of its numbers zero."""
  model, params = model_of(base)
  of_lora = {} if options.get('name') == 'vera' else {'alpha': 8.0}
  options = {'name': 'lora', 'rank': 4, **of_lora, 'train': model.head} | options
  init = methods.make(**options).init
  _, shapes = jax.eval_shape(
    lambda params: init(jax.random.key(0), model, params, np.zeros((1, 4), np.int32)), params
  )
  rng = np.random.default_rng(seed)
  leaves = {
    path: rng.normal(0, 0.3, leaf.shape).astype(np.float32)
    for path, leaf in tree.flatten(shapes).items()
  }
  task, labels = ('lm', 0) if base in DECODERS else ('classification', model.num_labels)
  return Adapter(options, tree.unflatten(leaves), model.config, task, labels, base=f'toys/{base}')


def same(found, wanted):
  """Bit-identical parameters, and the same scale and model."""
  a, b = tree.flatten(found.trainable), tree.flatten(wanted.trainable)
  assert a.keys() == b.keys()
  for path in b:
    assert a[path].dtype == np.float32
    np.testing.assert_array_equal(a[path], b[path], err_msg=path)
  for field in ('config', 'task', 'num_labels', 'base'):
    assert getattr(found, field) == getattr(wanted, field), field


def same_updates(found, wanted):
  """Equal updates of each weight, whatever the factors; a module that lacks factors has none."""
  merged = []
  for adapter in (found, wanted):
    _, method, frozen = parts_of(adapter)
    merged.append(tree.flatten(method.merge(frozen, adapter.trainable)))
  first, second = merged
  assert first.keys() == second.keys()
  for path, x in first.items():
    np.testing.assert_allclose(x, second[path], atol=2e-6, err_msg=path)


QV = r'.*/(query|value)'
EXPORTS = {  # What is written in the tests, and checked with PEFT by golden/make_adapters.py.
  'bert.plain': dict(targets=QV),
  'bert.patterns': dict(
    targets=(QV, 'embeddings/(word|position)', '.*/mlp/down'),
    rank={'.*/layers_1/.*': 2, '.*/value': 3, '.*': 4},
    alpha={'embeddings/.*': 3.0, '.*': 8.0},
  ),
  'bert.all': dict(targets='.*/attention/output', bias='all', rslora=True),
  'bert.norms': dict(targets=QV, train=(r'.*/layers_1/mlp_norm/.*', 'classifier/.*')),
  'roberta.adapted': dict(targets='.*/(key|up)', bias='adapted', rslora=True, rank=3, alpha=5.0),
  'deberta-v2.plain': dict(targets=QV),
  'gpt2.qv': dict(targets=QV),
  'gpt2.ranks': dict(targets='.*/(query|key|value)', rank={'.*/query': 2, '.*/key': 1, '.*': 4}),
  'gpt2.rslora': dict(targets=(QV, '.*/mlp/.*', '.*/output'), rank=3, alpha=7.0, rslora=True),
  'gpt2.biases': dict(targets='.*/(query|key|value)', bias='adapted', train='final_norm/.*'),
  'bert.dora': dict(targets=QV, dora=True),
  'gpt2.dora': dict(targets='.*/(query|key|value)', dora=True, rank={'.*/key': 1, '.*': 2}),
  'bert.vera': dict(name='vera', rank=5, targets=(QV, '.*/mlp/up'), projection_seed=3),
  'gpt2.vera': dict(name='vera', rank=3, targets='.*/mlp/down', dropout=0.1, d_initial=0.5),
  'bert.pissa': dict(targets=QV, init='pissa'),
  'gpt2.olora': dict(targets=QV, init='olora', rslora=True, rank=3, alpha=5.0),
  'gpt2.value': dict(targets=r'.*/layers_1/.*value', bias='all'),
}


@functools.cache
def export_of(case):
  return make(case.split('.')[0], **EXPORTS[case])


def copy_of(case, tmp_path, **changes):
  """A copy of the folder of a case, with fields of its config changed."""
  folder = tmp_path / 'copy'
  shutil.copytree(ADAPTERS / case, folder)
  config = json.loads((folder / peft.CONFIG).read_text())
  (folder / peft.CONFIG).write_text(json.dumps(config | changes))
  return folder
