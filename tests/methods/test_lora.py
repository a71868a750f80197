"""Laws of the LoRA transform, over every kind of layer and every way to stack layers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import bind, count, lora, stacking, tree
from lora_jax.sweep import members
from tests.methods.toys import CASES, KEY, METHOD, Stack, X, adapted, disturbed

VARIANTS = {
  'dora': lora(rank=2, alpha=3.0, dora=True),
  'pissa': lora(rank=2, alpha=3.0, init='pissa'),
  'pissa_fast': lora(rank=2, alpha=3.0, init='pissa_fast'),
  'olora': lora(rank=2, alpha=3.0, init='olora'),
  'lora_fa': lora(rank=2, alpha=3.0, train_a=False),
}
MATRICES = ('loop', 'scan', 'vmap', 'general-axes')


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('name', MATRICES)
def test_a_variant_starts_as_the_base_and_is_merged_as_it_is_applied(name, variant):
  method = VARIANTS[variant]
  model, params, frozen, trainable, x = adapted(name, method)
  base = model.apply({'params': params}, x)
  apply = bind(model.apply, method)
  np.testing.assert_allclose(apply(frozen, trainable, x), base, rtol=2e-6, atol=2e-6)
  jax.tree.map(np.testing.assert_array_equal, frozen, params)  # The base is untouched.
  moved = disturbed(trainable)
  found = apply(frozen, moved, x)
  assert np.abs(found - base).max() > 1e-2
  merged = method.merge(frozen, moved)
  assert jax.tree.map(jnp.shape, merged) == jax.tree.map(jnp.shape, params)
  wanted = model.apply({'params': merged}, x)
  np.testing.assert_allclose(wanted, found, rtol=1e-5, atol=2e-6 * np.abs(found).max())
  grads = jax.grad(lambda trainable: (apply(frozen, trainable, x) ** 2).mean())(moved)
  for path, leaf in tree.flatten(grads).items():
    assert np.any(leaf) != method.fixed(path), path


@pytest.mark.parametrize('variant', VARIANTS)
def test_a_variant_under_vmap_and_scan_is_the_looped_one(variant):
  method = VARIANTS[variant]
  model, _, frozen, trainable, x = adapted('scan', method)
  several = [disturbed(trainable), jax.tree.map(jnp.negative, disturbed(trainable))]
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *several)
  together = jax.vmap(bind(model.apply, method), in_axes=(None, 0, None))(frozen, stacked, x)
  looped = bind(Stack('loop').apply, method)
  for one, found in zip(several, together):
    parts = [stacking.unstack(part) for part in (frozen, one)]
    np.testing.assert_allclose(looped(*parts, x), found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('variant', VARIANTS)
def test_a_smaller_rank_padded_with_zeros_computes_the_same(variant):
  """As the members of a sweep are."""
  method = VARIANTS[variant]
  model, _, frozen, trainable, x = adapted('scan', method)
  wide = jax.eval_shape(lambda: adapted('scan', lora(rank=5, alpha=1.0))[3])
  shapes = {path: leaf for path, leaf in tree.flatten(wide).items()}
  moved = disturbed(trainable)
  like = {
    path: shapes.get(path.removesuffix('0'), leaf) for path, leaf in tree.flatten(moved).items()
  }
  padded = members.resize(moved, tree.unflatten(like))
  apply = bind(model.apply, method)
  with_scales = tree.join(frozen, method.scales(model, x))
  found = apply(with_scales, padded, x)
  np.testing.assert_allclose(found, apply(frozen, moved, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', CASES)
def test_identity_at_initialization(name):
  model, params, frozen, trainable, x = adapted(name)
  np.testing.assert_array_equal(
    bind(model.apply, METHOD)(frozen, trainable, x), model.apply({'params': params}, x)
  )
  assert {path.rpartition('/')[2] for path in tree.paths(trainable)} == {'lora_a', 'lora_b'}
  for path, leaf in tree.flatten(frozen).items():
    assert leaf is tree.flatten(params)[path]  # The base is passed on, not copied.


def test_scanned_equals_looped():
  _, _, frozen, trainable, _ = adapted('loop')
  trainable = disturbed(trainable)
  looped = bind(Stack('loop').apply, METHOD)(frozen, trainable, X)

  def stack(parts):
    layers = [parts[f'layers_{i}'] for i in range(3)]
    rest = {name: part for name, part in parts.items() if not name.startswith('layers_')}
    return {'layers': jax.tree.map(lambda *x: jnp.stack(x), *layers), **rest}

  scanned = bind(Stack('scan').apply, METHOD)(stack(frozen), stack(trainable), X)
  np.testing.assert_allclose(scanned, looped, atol=1e-6, rtol=1e-5)
  assert adapted('scan')[3]['layers']['query']['lora_a'].shape == (3, 6, 2)


def test_vmap_over_adapters_equals_a_loop():
  model, _, frozen, trainable, x = adapted('scan')
  apply = bind(model.apply, METHOD)
  several = [disturbed(trainable), jax.tree.map(jnp.negative, disturbed(trainable))]
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *several)
  together = jax.vmap(apply, in_axes=(None, 0, None))(frozen, stacked, x)
  alone = jnp.stack([apply(frozen, one, x) for one in several])
  np.testing.assert_allclose(together, alone, atol=1e-6)


def test_rslora_scales_by_the_square_root():
  *_, frozen, trainable, _ = adapted('loop')
  trainable = disturbed(trainable)
  plain = lora(rank=2, alpha=3.0 * np.sqrt(2)).merge(frozen, trainable)
  rs = lora(rank=2, alpha=3.0, rslora=True).merge(frozen, trainable)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), plain, rs)


@pytest.mark.parametrize(
  'bias, expected', [('none', 0), ('adapted', 3 * 2 * 6), ('all', 3 * (2 * 6 + 6) + 2)]
)
def test_biases_trained(bias, expected):
  _, params, frozen, trainable, _ = adapted('loop', lora(rank=2, alpha=1, bias=bias))
  biases = {p: x for p, x in tree.flatten(trainable).items() if p.endswith('bias')}
  assert count(tree.unflatten(biases)) == expected
  assert count(frozen) + expected == count(params)


def test_leaves_that_would_be_taken_for_factors_are_refused():
  model, _, frozen, trainable, x = adapted('loop')
  with pytest.raises(ValueError, match=r'layers_0/\S*lora_a, .*: would be read as factors'):
    lora(rank=2, alpha=1.0, targets='classifier').init(KEY, model, tree.join(frozen, trainable), x)


def test_further_leaves_are_trained_by_pattern():
  method = lora(rank=2, alpha=1, train='classifier/.*')
  _, params, frozen, trainable, _ = adapted('scan', method)
  assert set(trainable['classifier']) == {'kernel', 'bias'}
  assert 'classifier' not in frozen
  merged = method.merge(frozen, trainable)
  jax.tree.map(np.testing.assert_array_equal, merged, params)


def test_dropout_keeps_the_expected_update():
  method = lora(rank=2, alpha=1, dropout=0.3, targets='layers_2/value')
  model, _, frozen, trainable, x = adapted('loop', method)
  trainable = disturbed(trainable)
  apply = bind(model.apply, method)
  draw = lambda key: apply(frozen, trainable, x, deterministic=False, rngs={'dropout': key})
  mean = jax.vmap(draw)(jax.random.split(KEY, 4000)).mean(0)
  np.testing.assert_allclose(mean, apply(frozen, trainable, x), atol=0.05)


def test_only_the_trainable_part_moves():
  model, _, frozen, trainable, x = adapted('loop', lora(rank=2, alpha=1, train='classifier/.*'))
  trainable = disturbed(trainable)
  apply = bind(model.apply, METHOD)
  grads = jax.grad(lambda trainable: (apply(frozen, trainable, x) ** 2).mean())(trainable)
  assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads))
  assert jax.tree.structure(grads) == jax.tree.structure(trainable)


@pytest.mark.parametrize('name', ['loop', 'scan', 'conv-groups', 'einsum-in-out', 'embed-tied'])
def test_a_scale_among_the_parameters_takes_the_place_of_the_methods(name):
  model, _, frozen, trainable, x = adapted(name)
  trainable = disturbed(trainable)
  other = lora(rank=2, alpha=7.0)
  with_scales = tree.join(frozen, other.scales(model, x))
  expected = bind(model.apply, other)(frozen, trainable, x)
  np.testing.assert_allclose(
    bind(model.apply, METHOD)(with_scales, trainable, x), expected, rtol=1e-5, atol=1e-6
  )
  for merged, wanted in zip(
    jax.tree.leaves(METHOD.merge(with_scales, trainable)),
    jax.tree.leaves(other.merge(frozen, trainable)),
    strict=True,
  ):
    np.testing.assert_allclose(merged, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  'options, word',
  [
    ({'rank': 0}, 'rank=0'),
    ({'rank': {'.*': -1}}, 'rank=-1'),
    ({'rank': {}}, 'rank={}: a mapping has a number for each pattern'),
    ({'alpha': {}}, 'alpha={}: a mapping has a number for each pattern'),
    ({'alpha': -1.0}, 'alpha=-1.0'),
    ({'alpha': float('nan')}, 'alpha=nan'),
    ({'bias': 'lora_only'}, "bias='lora_only'"),
    ({'init': 'gauss'}, "init='gauss'"),
    ({'dropout': 1.0}, 'dropout=1.0'),
    ({'targets': ()}, 'targets is empty'),
  ],
)
def test_errors_of_options(options, word):
  with pytest.raises(ValueError, match=re.escape(word)):
    lora(**{'rank': 2, 'alpha': 1.0, **options})
