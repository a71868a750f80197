"""Toy models of every family, and the steps that a run would compile for them, as shapes alone."""

import types
from typing import Any

import jax
import jax.numpy as jnp
import optax

from configs import glue
from lora_jax import methods
from lora_jax.models import presets
from lora_jax.sweep import members
from lora_jax.sweep import step as sweep_step
from lora_jax.train import optimizer, step

SIZES = dict(vocab_size=64, hidden_size=32, num_heads=2, num_layers=2, max_positions=128)
MORE = {'deberta-v2': dict(position_buckets=16), 'llama': dict(num_kv_heads=1, rope_factor=8.0)}
ROWS, MEMBERS = 4, 3


def kind(family):
  return presets.TASKS[family][0]


def model(family, *, dropout=0.0, dtype=jnp.bfloat16, **options):
  """A toy model; `dropout` is every rate that `options` do not name."""
  config = presets.architecture(family, **SIZES, **MORE.get(family, {}))
  rates = dict(hidden_dropout=dropout, attention_dropout=dropout) | options
  return presets.build(config, task=kind(family), dtype=dtype, **rates)


def lora(model):
  """LoRA of queries and values, and the head."""
  targets = ('.*/attention/(query|value)',)
  return methods.make(name='lora', rank=2, alpha=4, targets=targets, train=model.head)


def batch_shapes(family, length, predictions, lead=(1,)):
  """Shapes of batches [*lead, rows, length] with a number of predictions in each row."""
  int32, every, each = jnp.int32, (*lead, ROWS, length), (*lead, ROWS, predictions)
  names = dict.fromkeys(('input_ids', 'segment_ids', 'position_ids'), (every, int32))
  names |= {'prediction_positions': (each, int32), 'labels': (each, int32)}
  names |= {'weights': (each, jnp.float32)}
  return {name: jax.ShapeDtypeStruct(*shape) for name, shape in names.items()}


def _parts(model, method):
  init = lambda params: method.init(jax.random.key(0), model, params, presets.TOKENS)
  return jax.eval_shape(init, presets.abstract_params(model))


def single(model, length, predictions) -> tuple[jax.stages.Wrapped, tuple[Any, ...]]:
  """The train step of a run, and the shapes of its arguments."""
  family, method, tx = model.config.family, lora(model), optax.adam(1e-3)
  frozen, trainable = _parts(model, method)
  state = jax.eval_shape(lambda trainable: step.init_state(trainable, tx, 0), trainable)
  made = step.make_train_step(methods.bind(model.apply, method), tx, kind(family))
  return made, (state, frozen, batch_shapes(family, length, predictions))


def sweep(model, length, predictions, *, shared) -> tuple[jax.stages.Wrapped, tuple[Any, ...]]:
  """The train step of a sweep, and the shapes of its arguments."""
  family, method = model.config.family, lora(model)
  work = types.SimpleNamespace(
    config=glue.get_config('task=sst2,tiny=true,preset=small,method=lora'),
    apply=methods.bind(model.apply, method),
    task=types.SimpleNamespace(kind=kind(family)),
    family=family,
    groups=optimizer.NONE,
  )
  stack = lambda tree: jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((MEMBERS, *jnp.shape(x)), jnp.result_type(x)), tree
  )
  frozen, trainable = _parts(model, method)
  own = optimizer.hyperparameters(work.config.optim, 100)
  every = members.PerMember(
    jax.tree.map(lambda x: jax.ShapeDtypeStruct((MEMBERS,), jnp.float32), own),
    stack(method.scales(model, presets.TOKENS)),
  )
  init = lambda trainable: sweep_step.init_state(work, trainable, [0] * MEMBERS, shared=shared)
  state = jax.eval_shape(init, stack(trainable))
  lead = (1,) if shared else (1, MEMBERS)
  batches = batch_shapes(family, length, predictions, lead)
  made = sweep_step.make_train_step(work, shared=shared, in_turn=False)
  return made, (state, frozen, every, batches)
