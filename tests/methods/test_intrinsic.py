"""All parameters in a random subspace: what is trained, where P x goes, and members of a sweep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import intrinsic, quantization, tree
from lora_jax.methods import fastfood
from lora_jax.methods.summary import summarize
from tests.methods import toys
from tests.methods.laws import build, move

HEAD = 'classifier/.*'
COORDINATES, SCALES = 'intrinsic/coordinates', 'intrinsic/scales'
PLAIN = {'layers_0': {'w': np.ones((4, 3), np.float32)}, 'bias': np.ones(5, np.float32)}


def parts(method, params=PLAIN):
  return method.init(toys.KEY, toys.Block(), params)


@pytest.mark.parametrize('head', ['subspace', 'trained'])
def test_what_is_trained_are_d_numbers(head):
  model, params = build('roberta')
  for variant, factors in (('did', 0), ('said', 3)):  # Of two blocks, and of what is outside them.
    method = intrinsic(dimension=40, variant=variant, head=head, train=HEAD)
    frozen, trainable = method.init(toys.KEY, model, params)
    summary = summarize(method, frozen, trainable, HEAD)
    assert summary.trainable - summary.head == 40 and bool(summary.head) == (head == 'trained')
    assert summary.head + summary.frozen == tree.count(params)
    leaves = tree.flatten(trainable)
    assert leaves[COORDINATES].shape == (40 - factors,) and not leaves[COORDINATES].any()
    assert (SCALES in leaves) == bool(factors)
    if factors:
      np.testing.assert_array_equal(leaves[SCALES], np.ones(3))


def test_every_leaf_is_moved_by_its_own_map_and_its_layers_factor():
  method = intrinsic(dimension=8, variant='said', subspace=4)
  frozen, _ = parts(method)
  x, factors = np.arange(6, dtype=np.float32), np.array([2.0, -3.0], np.float32)
  trained = tree.unflatten({COORDINATES: x, SCALES: factors})
  moved = tree.flatten(method.merge(frozen, trained))
  assert moved.keys() == tree.flatten(PLAIN).keys()
  whole = np.concatenate([(moved['layers_0/w'] - 1).ravel() / 2, (moved['bias'] - 1) / -3])
  columns = [
    tree.flatten(method.merge(frozen, tree.unflatten({COORDINATES: unit, SCALES: np.ones(2)})))
    for unit in np.eye(6, dtype=np.float32)
  ]
  matrix = np.stack([np.concatenate([c['layers_0/w'].ravel(), c['bias']]) - 1 for c in columns])
  np.testing.assert_allclose(whole, x @ matrix, atol=1e-5)
  assert np.linalg.matrix_rank(matrix) == 6, 'another map for another leaf'
  other = intrinsic(dimension=8, variant='said', subspace=5).merge(frozen, trained)
  assert np.abs(other['bias'] - moved['bias']).max() > 0.1, 'another subspace'


def test_leaves_of_one_size_have_maps_of_their_own():
  same = {'a': np.zeros(16, np.float32), 'b': np.zeros((4, 4), np.float32)}
  method = intrinsic(dimension=3)
  frozen, trainable = parts(method, same)
  moved = method.merge(frozen, move(trainable))
  assert np.abs(moved['a'] - moved['b'].ravel()).min() > 0


def test_a_head_is_moved_and_kept_or_trained_as_it_is():
  for head in ('subspace', 'trained'):
    method = intrinsic(dimension=3, head=head, train='bias')
    frozen, trainable = parts(method)
    trainable = move(trainable)
    merged = method.merge(frozen, trainable)
    gradient = jax.grad(lambda trained: method.merge(frozen, trained)['bias'].sum())(trainable)
    assert method.fixed('bias') == (head == 'subspace') and not method.fixed(COORDINATES)
    if head == 'trained':
      np.testing.assert_array_equal(merged['bias'], trainable['bias'])
      np.testing.assert_array_equal(gradient['bias'], 1)
    else:
      own = intrinsic(dimension=3).merge(
        frozen | {'bias': trainable['bias']}, trainable_of(trainable)
      )
      np.testing.assert_array_equal(merged['bias'], own['bias'])
      np.testing.assert_array_equal(gradient['bias'], 0)
  with pytest.raises(ValueError, match="'bais' matches no parameter"):
    parts(intrinsic(dimension=3, train='bais'))


def trainable_of(trained):
  return {'intrinsic': trained['intrinsic']}


def test_the_sum_is_rounded_once():
  method = intrinsic(dimension=3)
  low = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), PLAIN)
  trainable = move(parts(method)[1])
  exact = method.merge(PLAIN, trainable)
  for path, leaf in tree.flatten(method.merge(low, trainable)).items():
    assert leaf.dtype == jnp.bfloat16
    np.testing.assert_array_equal(leaf, tree.flatten(exact)[path].astype(jnp.bfloat16))


def test_whole_numbers_cannot_be_moved():
  with pytest.raises(ValueError, match='moves floating-point parameters, not codes'):
    parts(intrinsic(dimension=3), PLAIN | {'codes': np.ones(4, np.int8)})


def test_codes_cannot_be_moved():
  coded = quantization.quantize(
    {'layers_0': {'mlp': {'kernel': np.ones((64, 8), np.float32)}}}, 'int8'
  )
  with pytest.raises(ValueError, match=r'codes cannot be moved: layers_0/mlp/kernel\. Leave'):
    parts(intrinsic(dimension=3), coded)


@pytest.mark.parametrize('variant', ['did', 'said'])
def test_a_member_of_a_sweep_ends_where_its_own_numbers_end(variant):
  """Padded to the largest dimension of the sweep, with the leaves that `scales` adds."""
  small, large = (intrinsic(dimension=d, variant=variant, subspace=s) for d, s in ((5, 9), (12, 0)))
  frozen, trainable = parts(small)
  trainable = move(trainable)
  x = trainable['intrinsic']['coordinates']
  padded = tree.flatten(trainable) | {COORDINATES: np.pad(x, (0, 7))}
  joined = tree.join(frozen, small.scales(toys.Block()))
  total = lambda trained: sum((w**2).sum() for w in jax.tree.leaves(large.merge(joined, trained)))
  value, gradients = jax.value_and_grad(total)(tree.unflatten(padded))
  alone = sum((w**2).sum() for w in jax.tree.leaves(small.merge(frozen, trainable)))
  np.testing.assert_allclose(value, alone, rtol=1e-5)
  gradient = np.asarray(gradients['intrinsic']['coordinates'])
  assert gradient[: len(x)].all() and not gradient[len(x) :].any()


def test_maps_are_drawn_where_they_are_needed_and_not_kept(monkeypatch):
  """A leaf of a million numbers moved along ten: no matrix, nor P itself, is an argument."""
  big = {'w': jax.ShapeDtypeStruct((1000, 1000), np.float32)}
  method = intrinsic(dimension=10)
  trainable = {'intrinsic': {'coordinates': jax.ShapeDtypeStruct((10,), np.float32)}}
  program = jax.make_jaxpr(method.merge)(big, trainable)
  assert max(np.size(c) for c in program.consts) < 2 ** (2 * fastfood.WIDTH_BITS) + 1
  sizes = [v.aval.size for e in program.jaxpr.eqns for v in e.outvars]
  assert max(sizes) <= 2**20, 'a million, padded'
