"""Parameters that a method adds: where they are found, how they are stacked and drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import tree
from lora_jax.methods import added
from tests.methods.toys import CASES

TARGETS = ('.*/query',)


def found(case, shapes, targets=TARGETS):
  model, x = CASES[case]
  return added.find('mine', 'extra', shapes, model, (x,), {}, targets)


def test_leaves_are_found_in_every_targeted_module():
  calls = []

  def shapes(call):
    calls.append(call)
    return {'w': (call.output.shape[-1], 5)}

  assert found('loop', shapes) == {f'layers_{i}/query/extra/w': (6, 5) for i in range(3)}
  assert [call.path for call in calls] == [f'layers_{i}/query' for i in range(3)]
  assert {type(call.module).__name__ for call in calls} == {'Dense'}


def test_in_a_scanned_layer_they_are_stacked_as_the_layers_own():
  (stacked,) = found('scan', lambda call: {'w': (5,)}).items()
  assert stacked == ('layers/query/extra/w', (3, 5))


def test_a_module_may_get_nothing():
  only = lambda call: {'w': (5,)} if call.path == 'layers_1/query' else {}
  assert list(found('loop', only)) == ['layers_1/query/extra/w']


def test_a_pattern_that_matches_no_module_is_named_with_the_method():
  with pytest.raises(ValueError, match=r"'.*/qurey' matches no module .* mine has no place"):
    found('loop', lambda call: {'w': (1,)}, ('.*/query', '.*/qurey'))


def test_arguments_that_are_no_arrays_reach_the_model_as_they_are():
  model, x = CASES['loop']
  seen = []

  def interceptor(next_fun, args, kwargs, context):
    if not context.module.path:
      seen.append((args, kwargs))
    return next_fun(*args, **kwargs)

  shapes = added.init_shapes(model, interceptor, (x,), {'deterministic': True})
  plain = tree.flatten(model.init(jax.random.key(0), x)['params'])
  assert {path: leaf.shape for path, leaf in shapes.items()} == {
    path: leaf.shape for path, leaf in plain.items()
  }
  (args, kwargs) = seen[0]
  assert kwargs == {'deterministic': True} and isinstance(args[0], jax.core.Tracer)


def test_each_value_is_drawn_by_the_key_and_its_own_path_alone():
  normal = lambda path, shape, key: jax.random.normal(key, shape)
  draw = lambda key, *paths: added.draw(jax.random.key(key), dict.fromkeys(paths, (4,)), normal)
  both, one = draw(0, 'a/w', 'b/w'), draw(0, 'b/w')
  np.testing.assert_array_equal(both['b/w'], one['b/w'])
  assert jnp.abs(both['a/w'] - both['b/w']).min() > 0
  assert jnp.abs(draw(1, 'b/w')['b/w'] - one['b/w']).min() > 0
