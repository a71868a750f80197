"""Laws of the compiled step: devices, accumulation, dispatches, what it computes and keeps."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lora_jax import tree
from lora_jax.data import batches
from lora_jax.train import job, losses, mesh, optimizer, setup, step
from lora_jax.train.step import init_state

BATCH = {'train.batch_size': 16}  # Examples enough for eight devices and for four parts.


def run(config, steps=20, group=1, work=None):
  """(losses, final trainable) of the first steps of a run."""
  work = work or job.load(config)
  devices = mesh.make_mesh(**config.mesh)
  multiple = mesh.check_batch(devices, config.train.batch_size, config.train.accumulate)
  training = batches.Batches(
    work.task.train,
    batch_size=config.train.batch_size,
    seed=0,
    rows_multiple=multiple,
    row_length=config.data.row_length,
    group=group,
    max_shapes=config.data.max_shapes,
  )
  tx, _ = optimizer.make_optimizer(config.optim, steps)
  family = work.model.config.family
  init, state = setup.make_init(work.trainable, tx, 0, devices, family, work.method.follows)
  now, places = init(work.trainable), jax.tree.map(lambda x: x.sharding, state)
  frozen = mesh.place(work.frozen, devices, family)
  train_step = step.make_train_step(
    work.apply,
    tx,
    work.task.kind,
    accumulate=config.train.accumulate,
    shardings=places,
  )
  collected, epoch = [], 0
  while len(collected) < steps:
    for batch in training.epoch(epoch):
      now, metrics = train_step(now, frozen, jax.device_put(batch, mesh.rows(devices)))
      collected += metrics['loss'].tolist()[: training.updates(len(collected))]
    epoch += 1
  return np.array(collected[:steps]), now.trainable


@pytest.fixture(scope='module')
def one_device(make_config):
  return run(make_config(**BATCH))


@pytest.mark.parametrize(
  'overrides',
  [{'mesh.data': 8}, {'mesh.data': 4, 'mesh.fsdp': 2}, {'train.accumulate': 4}],
  ids=str,
)
def test_devices_and_accumulation_compute_the_same_run(make_config, one_device, overrides):
  expected, _ = one_device
  actual, _ = run(make_config(**BATCH, **overrides))
  np.testing.assert_allclose(actual, expected, atol=1e-5)
  assert expected[-1] < expected[0]


def test_devices_compute_the_same_language_model_run(make_language_model):
  config = make_language_model(**BATCH)
  work = job.load(config)
  expected, _ = run(config, steps=6, work=work)
  with config.unlocked():
    config.mesh.data = 8
  actual, _ = run(config, steps=6, work=work)
  np.testing.assert_allclose(actual, expected, atol=1e-5)
  assert expected[-1] < expected[0]


def test_dropout_is_the_same_on_any_number_of_devices(make_config):
  """The layout of a batch depends on the devices; given the same rows, so do no random bits."""
  config = make_config(**{'train.batch_size': 16, 'model.hidden_dropout': 0.3})
  work = job.load(config)
  training = batches.Batches(work.task.train, batch_size=16, rows_multiple=8, row_length=16)
  batch = next(training.epoch(0))
  tx, _ = optimizer.make_optimizer(config.optim, 10)
  train_step = step.make_train_step(work.apply, tx, work.task.kind)
  seen = []
  for count in (1, 8):
    devices = mesh.make_mesh(count)
    init, _ = setup.make_init(work.trainable, tx, 0, devices, work.family, work.method.follows)
    now = init(work.trainable)
    frozen = mesh.place(work.frozen, devices)
    seen.append(train_step(now, frozen, jax.device_put(batch, mesh.rows(devices)))[1]['loss'])
  np.testing.assert_allclose(seen[0], seen[1], atol=1e-6)


def test_several_steps_per_dispatch_are_the_same_steps(make_config, one_device):
  """In groups of two, the last of an epoch's three batches is followed by one without examples."""
  expected, _ = one_device
  actual, _ = run(make_config(**BATCH), group=2)
  np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_bfloat16_computes_nearly_the_same_steps(make_config, one_device):
  """Compute and frozen base in bfloat16; norms, factors, head and optimizer stay float32."""
  expected, _ = one_device
  config = make_config(**BATCH, **{'model.dtype': 'bfloat16', 'model.param_dtype': 'bfloat16'})
  work = job.load(config)
  dtypes = {path: str(leaf.dtype) for path, leaf in tree.flatten(work.frozen).items()}
  assert {dtype for path, dtype in dtypes.items() if 'norm' in path} == {'float32'}
  assert {dtype for path, dtype in dtypes.items() if 'kernel' in path} == {'bfloat16'}
  actual, trainable = run(config, steps=20, work=work)
  # bfloat16 has 8 bits: the first losses agree to about a percent, later the runs part.
  np.testing.assert_allclose(actual[:2], expected[:2], rtol=0.02)
  assert (actual[:2] != expected[:2]).all()
  assert actual[-1] < actual[0]
  assert {str(leaf.dtype) for leaf in jax.tree.leaves(trainable)} == {'float32'}


def compiled_step(config, rows=8, length=16):
  """The compiled train step of a config at one shape, and its job."""
  work = job.load(config)
  tx, _ = optimizer.make_optimizer(config.optim, 10)
  shape = jax.ShapeDtypeStruct((1, rows, length), jnp.int32)
  each = jax.ShapeDtypeStruct((1, rows, 1), jnp.int32)
  batch = {name: shape for name in ('input_ids', 'segment_ids', 'position_ids', 'token_type_ids')}
  batch |= {'prediction_positions': each, 'labels': each}
  batch |= {'weights': jax.ShapeDtypeStruct((1, rows, 1), jnp.float32)}
  now = jax.eval_shape(lambda: init_state(work.trainable, tx, 0))
  train_step = step.make_train_step(work.apply, tx, work.task.kind)
  return train_step.lower(now, work.frozen, batch).compile(), work


# Wide enough that its products are most of its FLOPs, as in the models of the paper.
WIDE = {
  'model.fresh.hidden_size': 128,
  'model.fresh.intermediate_size': 512,
  'model.scan': False,  # A scan's FLOPs are those of one layer in XLA's count.
  'model.fresh.num_layers': 4,
}


def test_lora_computes_no_dense_gradient_and_copies_no_base(make_config):
  lora, work = compiled_step(make_config('lora', **WIDE))
  full, _ = compiled_step(make_config('full', **WIDE))
  ratio = lora.cost_analysis()['flops'] / full.cost_analysis()['flops']
  assert ratio <= 0.70, ratio
  # Of the base nothing comes out, and what is kept meanwhile is smaller than one of its matrices
  # for each layer: neither its gradient nor a copy is among the buffers.
  memory = lora.memory_analysis()
  trained = tree.nbytes(work.trainable)
  assert memory.output_size_in_bytes < 4 * trained
  activations = full.memory_analysis().temp_size_in_bytes - tree.nbytes(work.frozen)
  assert memory.temp_size_in_bytes < tree.nbytes(work.frozen) + activations
  assert not made_by(lora, 'copy'), 'the base is copied'
  assert not made_by(lora, 'constant'), 'the base is captured as a constant'


def made_by(compiled, operation):
  """The lines of a compiled program in which an operation makes a matrix [128, 512]."""
  pattern = re.compile(rf'= f32\[128,512\]\S* {operation}\(')
  return [line for line in compiled.as_text().splitlines() if pattern.search(line)]


def test_copies_and_constants_would_be_seen():
  matrix = jnp.arange(128.0 * 512).reshape(128, 512)
  copied = jax.jit(lambda x: x).lower(matrix).compile()
  captured = jax.jit(lambda x: x @ matrix).lower(jnp.ones((2, 128))).compile()
  assert made_by(copied, 'copy') and not made_by(copied, 'constant')
  assert made_by(captured, 'constant')


def test_the_clip_is_of_the_trainable_gradients(make_config):
  """A norm over all parameters, the frozen ones' far larger gradient included, would clip more."""
  config = make_config(**{'optim.clip': 0.5})
  tx, _ = optimizer.make_optimizer(config.optim, 10)
  frozen, trainable = {'w': jnp.arange(8.0).reshape(4, 2)}, {'b': jnp.zeros((2,))}

  def apply(frozen, trainable, input_ids, **kwargs):
    logits = jnp.einsum('rl,ik->rlk', 1.0 * input_ids, frozen['w'])
    return logits + jnp.broadcast_to(trainable['b'], logits.shape)

  ids = jnp.ones((2, 3), jnp.int32)
  batch = {'input_ids': ids, 'segment_ids': ids, 'labels': 0 * ids, 'weights': jnp.ones((2, 3))}
  update = step.make_update(apply, tx, 'classification')
  state, metrics = update(init_state(trainable, tx, 0), frozen, batch)
  grads = jax.grad(
    lambda trainable: losses.cross_entropy(apply(frozen, trainable, ids), batch['labels']).mean()
  )(trainable)
  norm = optax.tree.norm(grads)
  assert norm > 0.5  # So it is clipped, to 0.5 and not below.
  np.testing.assert_allclose(metrics['grad_norm'], norm, rtol=1e-6)
  clipped = grads['b'] * 0.5 / norm
  np.testing.assert_allclose(state.opt_state[1][0].mu['b'], 0.1 * clipped, rtol=1e-5)
