"""The compiler's options by platform, the programs that are counted, and the cache of commands."""

import types

import jax
import jax.numpy as jnp
import optax
import pytest
from jax._src import compiler

from lora_jax import compilation
from lora_jax.generation import decode, search
from lora_jax.train import mesh, step

LEVEL = ('xla_backend_optimization_level', 1)
ROWS = jax.ShapeDtypeStruct((1, 4, 8), jnp.int32)
EACH = jax.ShapeDtypeStruct((1, 4, 1), jnp.int32)
BATCH = dict(input_ids=ROWS, segment_ids=ROWS, labels=EACH, weights=EACH)


def apply(frozen, trainable, input_ids, **_):
  return input_ids[:, :1, None] * trainable[None, None]


@pytest.fixture
def overrides(monkeypatch):
  """The options that reach XLA's compiler beside its flags, of each program."""
  seen, compile_ = [], compiler.backend_compile_and_load

  def spy(backend, module, devices, options, *rest):
    seen.append(list(options.env_option_overrides))
    return compile_(backend, module, devices, options, *rest)

  monkeypatch.setattr(compiler, 'backend_compile_and_load', spy)
  return seen


@pytest.mark.parametrize('devices', [0, 2])
def test_a_cpu_program_is_compiled_at_llvm_level_1(devices, overrides):
  where = mesh.replicated(mesh.make_mesh(devices)) if devices else None
  one = {name: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for name, x in BATCH.items()}
  made = step.make_eval_step(apply, 'classification', where)
  made.lower({}, jax.ShapeDtypeStruct((3,), jnp.float32), one).compile()
  assert overrides == [[LEVEL]]


def test_the_train_step_and_decoding_take_the_same_options(overrides):
  now = jax.eval_shape(lambda: step.init_state(jnp.ones(3), optax.sgd(0.1), 0))
  made = step.make_train_step(apply, optax.sgd(0.1), 'classification')
  made.lower(now, {}, BATCH).compile()
  model = decode.LanguageModel(print, lambda params, tokens, parents, cache: (params, cache))
  settings = search.Settings(max_tokens=4, beams=1, end_ids=(0,))
  _, run = decode.functions(model, settings)
  state = jax.eval_shape(
    lambda: (search.start(settings, jnp.zeros((2, 2), jnp.uint32)), jnp.zeros(2))
  )
  run.lower(jax.ShapeDtypeStruct((2, 1, 9), jnp.float32), state, 0).compile()
  assert overrides == [[LEVEL]] * 2


@pytest.mark.parametrize('platform', ['tpu', 'gpu'])
def test_an_accelerator_is_given_no_level(platform):
  """By the devices that a program is for: a plan lowers for a TPU on a machine without one."""
  where = types.SimpleNamespace(device_set=(types.SimpleNamespace(platform=platform),))
  assert compilation.options(where) is None
  assert compilation.options(mesh.replicated(mesh.make_mesh(2))) == dict([LEVEL])
