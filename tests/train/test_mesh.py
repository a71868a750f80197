"""Laws of the mesh: where each leaf lies, that it computes the same run, what devices exchange."""

import functools
import re
import types

import jax
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from lora_jax import methods, quantization, tree
from lora_jax.models import presets
from lora_jax.train import job, loop, mesh, optimizer, setup, step
from lora_jax.train.step import init_state

MESHES = [(8, 1, 1), (1, 8, 1), (2, 2, 2)]
FEW = [
  ('bert', 'lora', (8, 1, 1)),
  ('gpt2', 'full', (1, 8, 1)),
  ('bert', 'full', (2, 2, 2)),
  ('gpt2', 'lora', (2, 2, 2)),
]  # Each costs seconds of compiling.
STEPS, ROWS, LENGTH = 20, 16, 16
ENCODER = dict(vocab_size=65, hidden_size=32, num_layers=2, num_heads=4, max_positions=16)
FAMILIES = {'bert': 'classification', 'gpt2': 'lm'}
METHODS = {
  'lora': functools.partial(methods.lora, rank=8, alpha=8, targets='.*/(query|value|output|up)'),
  'vera': functools.partial(methods.vera, rank=8, targets='.*/(query|value|output|up)'),
  'full': methods.full,
}


@pytest.fixture(autouse=True)
def split_small_factors(monkeypatch):
  """A toy's factors are small; here they are split as large ones are."""
  monkeypatch.setattr(mesh, 'SMALL', 64)


@functools.cache  # Drawn once, for the run of one device and those of the meshes.
def toy(family, method='lora', scan=True, remat='none'):
  """(model, method, frozen, trainable) of a toy."""
  config = presets.architecture(family, **ENCODER, initializer_range=0.3)
  model = presets.build(
    config, task=FAMILIES[family], scan=scan, remat=remat, hidden_dropout=0.0, attention_dropout=0.0
  )
  tokens = jax.ShapeDtypeStruct((1, 8), np.int32)
  params = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 8), np.int32))['params']
  chosen = METHODS[method](**({} if method == 'full' else {'train': model.head}))
  return model, chosen, *chosen.init(jax.random.key(1), model, params, tokens)


def batch_of(family):
  """STEPS times a batch of rows of one segment, in one dispatch."""
  ids = np.random.default_rng(0).integers(1, 65, (1, ROWS, LENGTH)).repeat(STEPS, axis=0)
  each = LENGTH if family == 'gpt2' else 1
  labels = ids if family == 'gpt2' else (ids[:, :, 1:2] > 32).astype(int)
  return {
    'input_ids': ids.astype(np.int32),
    'segment_ids': np.ones_like(ids, np.int32),
    'prediction_positions': np.broadcast_to(np.arange(each, dtype=np.int32), (STEPS, ROWS, each)),
    'labels': labels.astype(np.int32),
    'weights': np.ones((STEPS, ROWS, each), np.float32),
  }


def trained(made, shape, family):
  """(losses of STEPS steps, the state after them, the compiled step)."""
  model, method, frozen, trainable = made
  devices = mesh.make_mesh(*shape)
  tx = optax.adamw(1e-2)
  init, state = setup.make_init(trainable, tx, 0, devices, family, method.follows)
  now, places = init(trainable), jax.tree.map(lambda x: x.sharding, state)
  frozen = mesh.place(frozen, devices, family)
  batches = jax.device_put(batch_of(family), mesh.rows(devices))
  apply = methods.bind(model.apply, method)
  kind = FAMILIES[family]
  train_step = step.make_train_step(apply, tx, kind, shardings=places)
  compiled = train_step.lower(now, frozen, batches).compile()
  now, metrics = compiled(now, frozen, batches)
  return np.asarray(metrics['loss']), now, compiled


@pytest.fixture(scope='module')
def one_device():
  return functools.cache(lambda family, method: trained(toy(family, method), (1, 1, 1), family)[0])


EVERY = [(family, method, shape) for family in FAMILIES for method in METHODS for shape in MESHES]
CASES = [pytest.param(*case, marks=() if case in FEW else pytest.mark.slow) for case in EVERY]


@pytest.mark.parametrize(('family', 'method', 'shape'), CASES, ids=str)
def test_every_mesh_computes_the_same_run(one_device, family, method, shape):
  expected = one_device(family, method)
  made = toy(family, method)
  losses, now, compiled = trained(made, shape, family)
  np.testing.assert_allclose(losses, expected, atol=1e-5)
  assert losses[-1] < losses[0] - 0.05
  # What is trained, and the moments of it, stay where they were put.
  placed = mesh.state_shardings(now, mesh.make_mesh(*shape), family, made[1].follows)
  for leaf, where in zip(jax.tree.leaves(now), jax.tree.leaves(placed)):
    assert leaf.sharding.is_equivalent_to(where, leaf.ndim)
  moments = now.opt_state[0].mu
  split = [x for x in jax.tree.leaves(moments) if not x.sharding.is_fully_replicated]
  assert bool(split) == (shape != (8, 1, 1))
  check_collectives(compiled.as_text(), shape)


@pytest.mark.parametrize(
  ('format', 'shape'), [('nf4', (2, 2, 2)), pytest.param('int8', (1, 8, 1), marks=pytest.mark.slow)]
)
def test_a_mesh_computes_with_its_parts_of_codes(format, shape):
  model, method, frozen, trainable = toy('bert')
  made = model, method, quantization.quantize(frozen, format), trainable
  expected, _, _ = trained(made, (1, 1, 1), 'bert')
  losses, _, compiled = trained(made, shape, 'bert')
  np.testing.assert_allclose(losses, expected, atol=1e-5)
  assert losses[-1] < losses[0] - 0.05
  places = mesh.shardings(made[2], mesh.make_mesh(*shape), 'bert')
  codes = [kernel.arrays['codes'] for kernel in quantization.kernels(places).values()]
  assert codes and not any(place.is_fully_replicated for place in codes)
  # No device gets the codes or the weights of the stack: they are gathered of one layer at a time.
  gathered = re.findall(r'= \(?\w+\[([\d,]+)\][^=]*? all-gather', compiled.as_text())
  stacks = {(2, rows, columns) for rows in (32, 64, 128) for columns in (32, 128)}
  assert not {tuple(map(int, size.split(','))) for size in gathered} & stacks


def check_collectives(text, shape):
  """The exchanges that a mesh needs, of one layer at a time and never of the stack."""
  gathered = set(re.findall(r'= \(?(\w+\[[\d,]*\])[^=]*? all-gather', text))
  assert re.search(r' all-reduce(-start)?\(| reduce-scatter\(', text), 'losses are summed'
  assert not gathered & {'f32[2,32,32]', 'f32[2,32,128]', 'f32[2,128,32]'}, gathered
  # The MLP's kernels [32, 128], whole, or their part of one device along `tensor`.
  kernels = {f'f32[32,{128 // shape[2]}]', f'f32[1,32,{128 // shape[2]}]'}
  assert bool(gathered & kernels) == (shape[1] > 1), gathered


LARGE = {
  'decoder/layers/attention/query/kernel': ((96, 128, 256), P(None, 'fsdp', 'tensor')),
  'decoder/layers/attention/query/bias': ((96, 256), P(None, 'tensor')),
  'decoder/layers/attention/query/lora_a': ((96, 128, 4), P(None, 'fsdp', None)),
  'decoder/layers/attention/query/lora_b': ((96, 4, 256), P(None, None, 'tensor')),
  'decoder/layers/attention/output/kernel': ((96, 256, 128), P(None, 'tensor', 'fsdp')),
  'decoder/layers/attention/output/lora_a': ((96, 256, 4), P(None, 'tensor', None)),
  'decoder/layers/attention/output/lora_b': ((96, 4, 128), P(None, None, 'fsdp')),
  'encoder/layers_0/mlp/up/kernel': ((128, 256), P('fsdp', 'tensor')),
  'encoder/layers_0/mlp/down/kernel': ((256, 128), P('tensor', 'fsdp')),
  'encoder/layers_0/mlp_branch/adapter/down/kernel': ((128, 8), P('fsdp')),
  'encoder/layers/mlp_norm/scale': ((96, 128), P(None, None)),
  'embeddings/word/embedding': ((50257, 128), P(None, 'fsdp')),
  'embeddings/word/prefix/tokens': ((8, 128), P(None, 'fsdp')),
  'pooler/kernel': ((128, 128), P('fsdp')),
  'classifier/kernel': ((3, 5), P()),
}


def specs(params, shape, **options):
  options |= {'follows': methods.lora(rank=1, alpha=1).follows}
  placed = mesh.shardings(params, mesh.make_mesh(*shape), **options)
  return {path: where.spec for path, where in tree.flatten(placed).items()}


def shapes(leaves):
  made = {path: jax.ShapeDtypeStruct(shape, np.float32) for path, shape in leaves.items()}
  return tree.unflatten(made)


def test_leaves_lie_as_the_rules_say():
  params = shapes({path: shape for path, (shape, _) in LARGE.items()})
  actual = specs(params, (2, 2, 2), family='gpt2', trained=True)
  assert actual == {path: spec for path, (_, spec) in LARGE.items()}


def test_small_factors_are_whole_on_each_device(monkeypatch):
  monkeypatch.setattr(mesh, 'SMALL', 10**6)
  params = shapes({path: shape for path, (shape, _) in LARGE.items()})
  actual = specs(params, (2, 2, 2), family='gpt2', trained=True)
  assert {spec for path, spec in actual.items() if 'lora' in path or 'adapter' in path} == {P()}
  kernel = 'decoder/layers/attention/query/kernel'
  assert actual[kernel] == LARGE[kernel][1]


@pytest.mark.parametrize('family', presets.FAMILIES)
@pytest.mark.parametrize('scan', [True, False])
def test_every_large_leaf_of_a_family_has_a_rule(family, scan):
  """Nothing of a model's own stack is left to the largest axis."""
  few = {'position_buckets': 8} if family == 'deberta-v2' else {}
  config = presets.architecture(family, **ENCODER, **few)
  model = presets.build(config, task=presets.TASKS[family][0], scan=scan)
  tokens = jax.ShapeDtypeStruct((1, 8), np.int32)
  params = jax.eval_shape(model.init, jax.random.key(0), tokens)['params']
  actual = specs(params, (1, 2, 4), family=family)
  kernels = {path: spec for path, spec in actual.items() if re.search('attention/.*kernel', path)}
  assert len(kernels) == 4 * (1 if scan else 2)
  assert all({'fsdp', 'tensor'} <= set(spec) for spec in kernels.values())


def test_a_foreign_model_is_split_along_its_largest_axis():
  params = shapes({'conv/kernel': (3, 3, 8, 16), 'attention/query/kernel': (16, 8), 'bias': (16,)})
  actual = specs(params, (1, 8, 1))
  assert actual == {
    'conv/kernel': P(None, None, None, 'fsdp'),
    'attention/query/kernel': P('fsdp'),
    'bias': P(),
  }
  with pytest.raises(ValueError, match=r'odd/kernel: no axis of \(3, 5\) is a multiple'):
    specs(shapes({'odd/kernel': (3, 5)}), (1, 8, 1))


def test_a_dimension_that_does_not_divide_is_named():
  params = shapes({'decoder/layers_0/mlp/up/kernel': (16, 30), 'embeddings/word/embedding': (7, 5)})
  with pytest.raises(ValueError) as error:
    specs(params, (1, 2, 4), family='gpt2')
  lines = str(error.value).splitlines()
  assert lines == [
    'decoder/layers_0/mlp/up/kernel: axis 1 of (16, 30) is 30, not a multiple of mesh.tensor=4',
    'embeddings/word/embedding: axis 1 of (7, 5) is 5, not a multiple of mesh.fsdp=2',
  ]


@pytest.mark.parametrize('fixed', ['', 'pooler/kernel'])
def test_the_optimizers_state_follows_its_leaf(make_config, fixed):
  """Under every transformation that a config makes: clip, moments, decay by a mask."""
  config = make_config('full', **{'optim.clip': 1.0, 'optim.weight_decay': 0.1})
  _, _, _, trainable = toy('bert', 'full')
  groups = optimizer.Groups(fixed=lambda path: path == fixed)
  tx, _ = optimizer.make_optimizer(config.optim, 10, groups)
  now = jax.eval_shape(lambda: init_state(trainable, tx, 0))
  placed = mesh.state_shardings(now, mesh.make_mesh(1, 4, 2), 'bert', methods.full().follows)
  assert jax.tree.structure(placed) == jax.tree.structure(now)
  adam = placed.opt_state[1][0]
  leaves = {path: x for path, x in tree.flatten(placed.trainable).items() if path != fixed}
  assert tree.flatten(adam.mu) == tree.flatten(adam.nu) == leaves
  assert adam.count.spec == P()


def test_a_mesh_that_the_devices_cannot_make():
  with pytest.raises(ValueError, match=r'fsdp=3 x mesh.tensor=2 does not divide the 8 devices'):
    mesh.make_mesh(-1, 3, 2)
  with pytest.raises(ValueError, match=r'data=4 x mesh.fsdp=2 x mesh.tensor=2 needs 16 devices'):
    mesh.make_mesh(4, 2, 2)
  with pytest.raises(ValueError, match=r'mesh.tensor=0: each is 1 or more'):
    mesh.make_mesh(-1, 1, 0)
  uneven = [types.SimpleNamespace(process_index=process) for process in (0, 1, 1)]
  with pytest.raises(ValueError, match=r'found: process 0 has 1, process 1 has 2\. Hide some'):
    mesh.make_mesh(devices=uneven)
  with pytest.raises(ValueError, match=r'mesh.data=0 x .*: each is 1 or more'):
    mesh.make_mesh(0)


def test_a_run_on_a_mesh_resumes_and_is_evaluated(tmp_path, make_config):
  """A run over all three axes: trained, checkpointed, restored to where its leaves lie."""
  axes = {'mesh.data': 2, 'mesh.fsdp': 2, 'mesh.tensor': 2}
  config = make_config('full', **axes, **{'train.epochs': 2})
  result = loop.train(config, tmp_path / 'run')
  assert result['device'].startswith('8 x')
  work, restored = job.load_run(tmp_path / 'run', 'last')
  assert tree.count(restored) == result['parameters']['trainable']
  assert work.config.mesh.tensor == 2
