"""The steps that a run compiles, lowered for CUDA and for TPUs on a machine that has neither.

What is counted are the kernels in the program's text: one of the forward pass and one of the
backward pass for each layer (a scan has one layer), and with rematerialization one more forward
pass. The last layer of an encoder computes the examples' first tokens alone, which is left to XLA.
"""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from configs import gpt3
from lora_jax import methods
from lora_jax.cost import memory, shapes
from lora_jax.models import fused_attention, incremental, presets
from lora_jax.models.fused_attention import Target
from lora_jax.train import mesh, step
from tests.models import toys

GPU, TPU = Target('gpu', (9, 0)), Target('tpu')
PLATFORMS = {GPU: 'cuda', TPU: 'tpu'}
LENGTH = {GPU: 64, TPU: 128}
PACKED, PADDED = 3, 1  # Predictions in a row of an encoder.
# Layers whose attention is a kernel's, of two layers: looped and scanned, by device and family.
COVERED = {
  'bert': {GPU: (1, 1), TPU: (1, 1)},
  'roberta': {GPU: (1, 1), TPU: (1, 1)},
  'deberta-v2': {GPU: (2, 1), TPU: (2, 1)},
  # A language model predicts in every column; the TPU's kernel takes no choice of columns.
  'gpt2': {GPU: (2, 1), TPU: (1, 1)},
  'llama': {GPU: (2, 1), TPU: (1, 1)},
}
FAMILIES = tuple(COVERED)


@pytest.fixture(autouse=True)
def as_on_a_hopper(monkeypatch):
  """JAX looks for a GPU and its cuDNN while it traces."""
  monkeypatch.setattr(fused_attention_stablehlo, 'check_cudnn_version', lambda: 91500)
  monkeypatch.setattr(fused_attention_stablehlo, 'check_compute_capability', lambda _: True)


def count(traced: jax.stages.Traced, target=GPU) -> tuple[int, int]:
  """Numbers of the kernels of the forward and of the backward pass in a program's text."""
  text = traced.lower(lowering_platforms=(PLATFORMS[target],)).as_text()
  if target.platform == 'tpu':
    names = re.findall(r'kernel_name = "(\w+)"', text)
    backward = [name for name in names if 'bwd' in name or 'dq' in name or 'dkv' in name]
    assert len(names) == text.count('@tpu_custom_call')
  else:
    names = re.findall(r'@"?(__cudnn\$fmha\w+)', text)
    backward = [name for name in names if name.endswith('Backward')]
  return len(names) - len(backward), len(backward)


def traced(family, predictions=PACKED, *, runs='single', target=GPU, **options):
  model, length = toys.model(family, **options), LENGTH[target]
  predictions = length if toys.kind(family) == 'lm' else predictions
  if runs == 'single':
    made, arguments = toys.single(model, length, predictions)
  else:
    made, arguments = toys.sweep(model, length, predictions, shared=runs == 'shared')
  with fused_attention.use(target):
    return made.trace(*arguments)


def kernels(family, scan, remat, target=GPU) -> tuple[int, int]:
  layers = COVERED[family][target][scan]
  forward = layers * (1 if remat == 'none' else 2)
  return forward, layers * (2 if target.platform == 'tpu' else 1)


def test_every_family_is_covered():
  """Mistral and Qwen are Llama's model, with other options."""
  assert {*COVERED, 'mistral', 'qwen2', 'qwen3'} == set(presets.FAMILIES)
  for family in ('mistral', 'qwen2', 'qwen3'):
    assert presets.MODELS[family] is presets.MODELS['llama']


@pytest.mark.parametrize(
  'runs, scan, remat',
  [
    *(('single', *each) for each in itertools.product([False, True], ['none', 'full', 'dots'])),
    ('shared', False, 'none'),
    ('shared', False, 'full'),
    ('shared', True, 'dots'),
    ('own batches', True, 'none'),
    ('own batches', True, 'full'),
  ],
)
@pytest.mark.parametrize('family', FAMILIES)
def test_a_train_step_for_cuda(family, runs, scan, remat):
  found = count(traced(family, runs=runs, scan=scan, remat=remat))
  assert found == kernels(family, scan, remat)


@pytest.mark.parametrize('runs', ['single', 'own batches'])
@pytest.mark.parametrize('family', FAMILIES)
def test_padded_rows_for_cuda(family, runs):
  assert count(traced(family, PADDED, runs=runs)) == kernels(family, False, 'none')


@pytest.mark.parametrize('runs', ['single', 'shared'])
@pytest.mark.parametrize('family', FAMILIES)
def test_dropout_of_weights_for_cuda(family, runs):
  """No kernel has it in JAX; other dropout changes nothing."""
  assert count(traced(family, runs=runs, dropout=0.1)) == (0, 0)
  only_hidden = traced(family, runs=runs, dropout=0.1, attention_dropout=0.0)
  assert count(only_hidden) == kernels(family, False, 'none')


@pytest.mark.parametrize('runs, scan, remat', [('single', False, 'none'), ('shared', True, 'dots')])
@pytest.mark.parametrize('family', FAMILIES)
def test_a_train_step_for_a_tpu(family, runs, scan, remat):
  found = count(traced(family, runs=runs, scan=scan, remat=remat, target=TPU), TPU)
  assert found == kernels(family, scan, remat, TPU)


@pytest.mark.parametrize('target', [GPU, TPU], ids=['cuda', 'tpu'])
@pytest.mark.parametrize('family', FAMILIES)
def test_an_evaluation(family, target):
  """Its dropout is off: it has kernels where training has none."""
  model, length = toys.model(family, dropout=0.1, scan=True), LENGTH[target]
  predictions = length if toys.kind(family) == 'lm' else PACKED
  batch = toys.batch_shapes(family, length, predictions, lead=())
  params = presets.abstract_params(model)
  apply = methods.bind(model.apply, methods.full())
  made = step.make_eval_step(apply, toys.kind(family))
  with fused_attention.use(target):
    found = count(made.trace({}, params, batch), target)
  assert found == (COVERED[family][target][True], 0)


@pytest.mark.parametrize('family', ['gpt2', 'llama'])
def test_decoding_for_cuda(family):
  """The prompt's columns are computed by a kernel, but for its last layer; a step by XLA."""
  model = toys.model(family)
  apply = methods.bind(model.apply, methods.full())
  params = presets.abstract_params(model)
  ids, lengths = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((4, 64), (4,)))
  call = lambda params: lambda ids, **inputs: apply({}, params, ids, **inputs)
  prefill = lambda params, ids, lengths: incremental.prefill(
    call(params), ids, lengths, beams=2, max_tokens=4
  )
  one = lambda params, tokens, cache: incremental.step(call(params), tokens, tokens, cache)
  with fused_attention.use(GPU):
    first = jax.jit(prefill).trace(params, ids, lengths)
    _, cache = jax.eval_shape(prefill, params, ids, lengths)
    tokens = jax.ShapeDtypeStruct((4, 2), jnp.int32)
    assert count(first) == (1, 0)
    assert count(jax.jit(one).trace(params, tokens, cache)) == (0, 0)


@pytest.mark.parametrize('target', [GPU, TPU], ids=['cuda', 'tpu'])
def test_a_step_over_a_mesh(monkeypatch, target):
  """Of a GPT-2, its rows split over `data` and `fsdp`, its heads over `tensor`."""
  config = gpt3.get_config('method=lora,tiny=true')
  fresh = {'vocab_size': 64, 'max_positions': 128, 'hidden_size': 32, 'num_heads': 2}
  values = {f'model.fresh.{name}': value for name, value in fresh.items()}
  values |= {'model.dtype': 'bfloat16', 'model.scan': True}
  config = memory.changed(config, **values, **{'data.max_length': 128, 'train.batch_size': 8})
  known = functools.partial(Target._replace, platform=target.platform, capability=(9, 0))
  of = mesh.target
  monkeypatch.setattr(mesh, 'target', lambda devices: known(of(devices)))
  found = shapes.trace(shapes.abstract_job(config), mesh.make_mesh(2, 2, 2))
  assert count(found.traced, target) == kernels('gpt2', True, 'none', target)


def test_a_kernel_by_name_that_cannot_be_had_ends_the_step():
  with pytest.raises(ValueError, match="attention='cudnn' has no dropout of attention weights"):
    traced('roberta', dropout=0.1, attention='cudnn')
  with pytest.raises(ValueError, match="attention='pallas' needs a TPU; the program is for gpu"):
    traced('gpt2', attention='pallas')
  assert count(traced('deberta-v2', attention='xla')) == (0, 0)
  assert count(traced('deberta-v2', attention='cudnn')) == kernels('deberta-v2', False, 'none')


@pytest.mark.parametrize('family', FAMILIES)
def test_a_kernel_by_name_in_float32_is_refused_before_parameters_are_read(family):
  with pytest.raises(ValueError, match="attention='cudnn' computes in bfloat16 or float16, but"):
    presets.abstract_params(toys.model(family, attention='cudnn', dtype=jnp.float32))
