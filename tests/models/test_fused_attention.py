"""Which kernel computes attention, and how calls of cuDNN are folded and split: no GPU needed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax.models import attention as attention_lib
from lora_jax.models import fused_attention
from lora_jax.models.fused_attention import Call, Target
from lora_jax.train import mesh

HOPPER, AMPERE, TURING = (Target('gpu', capability) for capability in ((9, 0), (8, 0), (7, 5)))
TPU, CPU = Target('tpu'), Target('cpu')
MEMBERS, ROWS, LENGTH, HEADS, WIDTH = 3, 4, 8, 2, 16


def call(length=128, width=64, dtype='bfloat16', queries=None, **facts):
  facts = dict(dropout=False, whole=queries is None) | facts
  query = (4, queries or length, 2, width)
  return Call(query, (4, length, 2, width), jnp.dtype(dtype), **facts)


@pytest.mark.parametrize(
  'target, asked, chosen',
  [
    (HOPPER, call(), 'cudnn'),
    (AMPERE, call(dtype='float16'), 'cudnn'),
    (TURING, call(), 'xla'),
    (CPU, call(), 'xla'),
    (Target('gpu'), call(), 'xla'),  # Not NVIDIA's.
    (HOPPER, call(dtype='float32'), 'xla'),
    (HOPPER, call(dropout=True), 'xla'),
    (HOPPER, call(length=127), 'xla'),
    (HOPPER, call(length=126), 'cudnn'),
    (HOPPER, call(width=60), 'xla'),
    (HOPPER, call(width=256), 'cudnn'),
    (AMPERE, call(width=256), 'xla'),
    (HOPPER, call(queries=64), 'cudnn'),
    (HOPPER, call(queries=65), 'xla'),
    (HOPPER, call(queries=8), 'xla'),
    (TPU._replace(mesh=None), call(), 'pallas'),
    (TPU, call(length=64), 'xla'),
    (TPU, call(dtype='float16'), 'xla'),
    (TPU, call(dropout=True), 'xla'),
    (TPU, call(width=192), 'xla'),
    (TPU, call(queries=128), 'xla'),
  ],
)
def test_auto_takes_the_kernel_that_the_devices_have(target, asked, chosen):
  with fused_attention.use(target):
    assert fused_attention.choose('auto', asked) == chosen
    assert fused_attention.choose('xla', asked) == 'xla'


@pytest.mark.parametrize(
  'name, target, asked, message',
  [
    ('cudnn', CPU, call(), "attention='cudnn' needs an NVIDIA GPU of .* the program is for cpu"),
    ('cudnn', TURING, call(), 'is for an NVIDIA GPU of 7.5'),
    ('cudnn', HOPPER, call(dtype='float32'), 'computes in bfloat16 or float16, but dtype is floa'),
    ('cudnn', HOPPER, call(dropout=True), 'has no dropout .* set attention_dropout to 0'),
    ('cudnn', AMPERE, call(width=136), 'heads of a multiple of 8 up to 128, but theirs is 136'),
    ('cudnn', HOPPER, call(31), 'even numbers .* there are 31 queries of 31 columns'),
    ('pallas', HOPPER, call(), "attention='pallas' needs a TPU; the program is for gpu"),
    ('pallas', TPU, call(100), 'a multiple of 128 tokens, .* but there are 100 tokens'),
    ('pallas', TPU, call(dtype='float16'), 'computes in bfloat16, but dtype is float16'),
    ('pallas', TPU, call(dropout=True), 'set attention_dropout to 0.*auto'),
  ],
)
def test_a_kernel_by_name_that_cannot_be_had_is_refused(name, target, asked, message):
  with fused_attention.use(target), pytest.raises(ValueError, match=message):
    fused_attention.choose(name, asked)


def test_a_mesh_that_does_not_split_the_rows_or_heads_leaves_them_to_xla():
  for sizes, chosen in (((2, 2, 2), 'cudnn'), ((8, 1, 1), 'xla'), ((1, 1, 4), 'xla')):
    target = mesh.target(mesh.make_mesh(*sizes))._replace(platform='gpu', capability=(9, 0))
    with fused_attention.use(target):
      assert fused_attention.choose('auto', call()) == chosen


def test_the_target_is_that_of_the_devices():
  assert fused_attention.current() == CPU
  with jax.default_device(jax.devices()[1]):
    assert fused_attention.current() == CPU
  split = mesh.make_mesh(2, 2, 2)
  assert mesh.target(split) == Target('cpu', (0, 0), split, ('data', 'fsdp'), 'tensor')
  assert mesh.target(mesh.make_mesh(1)).mesh is None


def test_what_was_traced_for_one_target_is_not_used_for_another():
  seen = []
  traced = jax.jit(lambda x: (seen.append(fused_attention.current().platform), x)[1])
  for target in (CPU, HOPPER, CPU, HOPPER):
    with fused_attention.use(target):
      traced(1.0)
  assert seen == ['cpu', 'gpu']


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def kernel(query, key, value, bias, scale, causal):
  return kernel_forward(query, key, value, bias, scale, causal)[0]


def probabilities(query, key, bias, scale, causal):
  scores = jnp.einsum('rtnh,rlnh->rntl', query, key) * scale + bias
  if causal:
    scores = jnp.where(np.tri(*scores.shape[2:], dtype=bool)[None, None], scores, -1e9)
  return scores


def kernel_forward(query, key, value, bias, scale, causal):
  """As cuDNN's, it keeps the normalizer [R, heads, T] and the result, and an empty array."""
  scores = probabilities(query, key, bias, scale, causal)
  normalizer = jax.nn.logsumexp(scores, axis=-1)
  out = jnp.einsum('rntl,rlnh->rtnh', jnp.exp(scores - normalizer[..., None]), value)
  return out, (query, key, value, bias, jnp.zeros(0), normalizer, out)


def kernel_backward(scale, causal, saved, g):
  query, key, value, bias, _, normalizer, out = saved
  weights = jnp.exp(probabilities(query, key, bias, scale, causal) - normalizer[..., None])
  g_weights = jnp.einsum('rtnh,rlnh->rntl', g, value)
  g_scores = weights * (g_weights - jnp.einsum('rtnh,rtnh->rnt', g, out)[..., None])
  return (
    jnp.einsum('rntl,rlnh->rtnh', g_scores, key) * scale,
    jnp.einsum('rntl,rtnh->rlnh', g_scores, query) * scale,
    jnp.einsum('rntl,rtnh->rlnh', weights, g),
    g_scores if bias.shape[1] > 1 else g_scores.sum(1, keepdims=True),
  )


kernel.defvjp(kernel_forward, kernel_backward)


@pytest.fixture
def fake_cudnn(monkeypatch):
  """`jax.nn.dot_product_attention` by the float32 kernel above; the list of its calls' shapes."""
  calls = []

  def fake(query, key, value, bias=None, *, mask, scale, is_causal, implementation):
    assert implementation == 'cudnn' and query.ndim == 4
    calls.append(query.shape)
    added = jnp.zeros((len(query), 1, query.shape[1], key.shape[1])) if bias is None else bias
    if mask is not None:
      added = added + jnp.where(mask, 0.0, -1e9)
    return kernel(query, key, value, added, query.shape[-1] ** -0.5 if scale is None else scale,
                  is_causal)  # fmt: skip

  monkeypatch.setattr(jax.nn, 'dot_product_attention', fake)
  monkeypatch.setattr(fused_attention, 'DTYPES', {})
  return calls


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def arguments(members=()):
  """Queries, keys, values, segments and a bias, all of them for each member."""
  shape = (*members, ROWS, LENGTH, HEADS, WIDTH)
  segments = np.sort(np.random.default_rng(0).integers(0, 3, (*members, ROWS, LENGTH)))
  bias = normal(3, *members, ROWS, HEADS, LENGTH, LENGTH)
  return *(normal(i, *shape) for i in range(3)), jnp.asarray(segments), bias


def loss(query, key, value, segments, bias, *, causal=False):
  y = attention_lib.attention(query, key, value, segments, bias=bias, causal=causal)
  return (y * normal(9, ROWS, LENGTH, HEADS, WIDTH)).sum()


WITH_BIAS, WITHOUT = (0, 1, 2, 4), (0, 1, 2)


@pytest.mark.parametrize(
  'causal, has_segments, has_bias',
  [(False, True, False), (True, True, False), (True, False, False), (False, True, True)],
)
def test_a_kernels_gradient_is_that_of_xla(fake_cudnn, causal, has_segments, has_bias):
  query, key, value, segments, bias = arguments()
  given = query, key, value, segments if has_segments else None, bias if has_bias else None
  by = WITH_BIAS if has_bias else WITHOUT
  grad = jax.jit(jax.value_and_grad(functools.partial(loss, causal=causal), by))
  expected = grad(*given)
  assert not fake_cudnn
  with fused_attention.use(HOPPER):
    found = grad(*given)
  assert set(fake_cudnn) == {query.shape}
  for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  'mapped, by', [('qkvs', WITHOUT), ('q', WITHOUT), ('qkvsb', WITH_BIAS), ('s', WITH_BIAS),
                 ('vb', WITH_BIAS)]
)  # fmt: skip
def test_members_are_folded_into_rows(fake_cudnn, mapped, by):
  """Against `vmap` of the kernel itself, whose batching is that of its products."""
  given, stacked = arguments(), arguments((MEMBERS,))
  axes = tuple(0 if name in mapped else None for name in 'qkvsb')
  if by == WITHOUT:
    given, stacked, axes = ((*x[:4], None) for x in (given, stacked, axes))
  inputs = tuple(many if axis == 0 else one for one, many, axis in zip(given, stacked, axes))
  grads = lambda: jax.jit(jax.vmap(jax.value_and_grad(loss, by), in_axes=axes))(*inputs)
  with fused_attention.use(HOPPER):
    found = grads()
    folded = list(fake_cudnn)
    plain = lambda compute: lambda mask, *operands: compute(mask, *operands)
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(fused_attention, 'by_rows', plain)
      expected = grads()
  assert (MEMBERS * ROWS, LENGTH, HEADS, WIDTH) in folded
  for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('members', [(), (MEMBERS,)], ids=['one', 'vmap'])
def test_a_mesh_splits_rows_and_heads(fake_cudnn, members):
  given = arguments(members)
  grad = jax.value_and_grad(loss, WITH_BIAS)
  grad = jax.vmap(grad) if members else grad
  devices = mesh.make_mesh(2, 2, 2)
  split = mesh.target(devices)._replace(platform='gpu', capability=(9, 0))
  expected = jax.jit(grad)(*given)
  with fused_attention.use(split):
    found = jax.jit(grad)(*mesh.put(given, mesh.replicated(devices)))
  rows = (ROWS // 4 * (members or (1,))[0], LENGTH, HEADS // 2, WIDTH)
  assert rows in fake_cudnn
  for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_the_backward_pass_does_not_compute_the_forward_pass_again(fake_cudnn):
  with fused_attention.use(HOPPER):
    text = str(jax.make_jaxpr(jax.grad(loss, WITH_BIAS))(*arguments()))
  assert text.count(' log ') == 1  # Of the normalizer, which the backward pass is given.
