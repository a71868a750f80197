"""Where the factors of LoRA start, by loralib's rule and by parts of the weight."""

import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import lora, tree
from lora_jax.methods import initial
from tests.adapters.toys import ADAPTERS, model_of
from tests.methods.toys import CASES, KEY, X, adapted


@pytest.mark.parametrize('name', ['loop', 'scan'])
def test_initialization_is_loralibs(name):
  model, params, x = CASES[name][0], CASES[name][0].init(KEY, X)['params'], X
  method = lora(rank=500, alpha=1.0, targets=r'.*/query')
  _, trainable = method.init(KEY, model, params, x)
  leaves = tree.flatten(trainable)
  a = np.concatenate([np.ravel(leaf) for path, leaf in leaves.items() if path.endswith('lora_a')])
  bound = 1 / np.sqrt(6)  # fan_in is 6 in each layer, stacked or not.
  assert 0.99 * bound < np.abs(a).max() <= bound
  np.testing.assert_allclose(a.std(), bound / np.sqrt(3), rtol=0.02)
  assert all(not leaf.any() for path, leaf in leaves.items() if path.endswith('lora_b'))
  normal = lora(rank=500, alpha=1.0, targets=r'.*/query', init='normal')
  _, trainable = normal.init(KEY, model, params, x)
  a = np.concatenate(
    [np.ravel(leaf) for path, leaf in tree.flatten(trainable).items() if path.endswith('lora_a')]
  )
  np.testing.assert_allclose(a.std(), 0.02, rtol=0.02)


def test_adding_a_target_changes_no_other_factor():
  model, params, x = CASES['loop'][0], CASES['loop'][0].init(KEY, X)['params'], X
  few = lora(rank=2, alpha=1, targets='.*/query').init(KEY, model, params, x)[1]
  more = lora(rank=2, alpha=1, targets=('.*/query', '.*/out')).init(KEY, model, params, x)[1]
  first = lambda parts: parts['layers_0']['query']['lora_a']
  np.testing.assert_array_equal(first(few), first(more))
  assert (first(few) != few['layers_1']['query']['lora_a']).all()


def test_an_embeddings_roles_are_swapped():
  _, _, _, trainable, _ = adapted('embed', lora(rank=400, alpha=1.0))
  factors = trainable['query']
  assert not factors['lora_a'].any()
  np.testing.assert_allclose(factors['lora_b'].std(), 1.0, rtol=0.05)


@pytest.mark.parametrize('kind', ['pissa', 'olora'])
def test_parts_of_the_weight_are_those_of_peft(kind):
  theirs = np.load(ADAPTERS / 'peft.bert.converted' / f'{kind}.npz')
  model, params = model_of('bert')
  method = lora(rank=4, alpha=8.0, targets='.*/(query|value)', init=kind)
  leaves = tree.flatten(method.init(KEY, model, params, np.zeros((1, 4), np.int32))[1])
  names = [name for name in theirs if name.endswith('lora_A.weight')]
  assert len(names) * 4 == len(leaves)
  for name in names:
    _, _, _, layer, _, _, part, _, _ = name.split('.')
    a, b = (leaves[f'encoder/layers_{layer}/attention/{part}/lora_{x}'] for x in 'ab')
    wanted = theirs[name.replace('lora_A', 'lora_B')] @ theirs[name]
    np.testing.assert_allclose(a @ b, wanted.T, atol=1e-5)
    # Each pair of vectors is theirs but for its sign.
    np.testing.assert_allclose(jnp.abs(a), np.abs(theirs[name].T), atol=1e-4)


def test_the_fast_decomposition_misses_little_more_than_the_exact_one():
  rng = np.random.default_rng(0)
  matrix = jnp.asarray(rng.standard_normal((2, 96, 160)), jnp.float32)
  falling = matrix[0] @ np.diag(0.9 ** np.arange(160)).astype(np.float32)
  for x, most in ((matrix, 0.05), (falling, 1e-3)):
    u, values, v = (np.asarray(part) for part in initial.largest(x, 8))
    part = (u[..., :8] * values[..., None, :8]) @ v[..., :8, :]
    exact = np.linalg.svd(x, compute_uv=False)
    missed = np.linalg.norm(x - part, 2, (-2, -1))
    np.testing.assert_array_less(missed, (1 + most) * exact[..., 8])
    np.testing.assert_array_less(values[..., :8], exact[..., :8] * (1 + 1e-5))


@pytest.mark.parametrize(
  ('options', 'case', 'message'),
  [
    (dict(dora=True), 'embed', r'dora=True is not computed for query \(Embed\), only for .*Dense'),
    (dict(init='pissa'), 'conv', r"init='pissa' is not computed for query \(Conv\)"),
    (dict(dora=True), 'general-batch', "the weight of 'query' .* is not one matrix"),
    (dict(train_a=False), 'embed', r'train_a=False is not computed for query \(Embed\)'),
    (dict(init='olora', rank=7), 'loop', r'is \(6, 6\), its rank 7 is larger'),
    (dict(init='olora', dora=True), 'loop', "dora=True with init='olora'"),
  ],
)
def test_what_an_option_cannot_take_is_named(options, case, message):
  with pytest.raises(ValueError, match=message):
    adapted(case, lora(**dict(rank=2, alpha=1.0) | options))
