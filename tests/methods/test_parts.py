"""The two parts of a bound `apply`: each mistake is one sentence, and other divisions are none."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lora_jax
from lora_jax import bind, join, methods, split
from lora_jax.methods import parts
from tests.methods.toys import METHOD, adapted


def test_parts_that_are_swapped_or_left_out_are_named():
  model, _, frozen, trainable, x = adapted('loop', METHOD)
  apply = bind(model.apply, METHOD)
  with pytest.raises(ValueError, match=r'swapped: the first holds .*lora_., the second .*kernel'):
    apply(trainable, frozen, x)
  for given, name in (((trainable, x), 'trainable'), ((x, trainable), 'frozen')):
    with pytest.raises(TypeError, match=rf'{name} is of the type \w*Array.*\(frozen, trainable'):
      parts.check(METHOD.follows, *given)


def test_factors_of_a_module_that_is_not_there_are_named():
  """They would lie in the tree unused, and the model would be the base."""
  model, _, frozen, trainable, x = adapted('loop', METHOD)
  name = next(iter(trainable))
  misnamed = {f'{other}s' if other == name else other: x for other, x in trainable.items()}
  with pytest.raises(ValueError, match=rf'{name}s/.*lora_a.*: the model has no parameters there'):
    bind(model.apply, METHOD)(frozen, misnamed, x)


def test_the_leaves_may_be_divided_otherwise():
  model, _, frozen, trainable, x = adapted('loop', METHOD)
  apply = bind(model.apply, METHOD)
  expected = apply(frozen, trainable, x)
  np.testing.assert_array_equal(apply(join(frozen, trainable), {}, x), expected)
  rest, some = split(trainable, '.*/lora_b')
  np.testing.assert_array_equal(apply(join(frozen, rest), some, x), expected)


@pytest.mark.parametrize('caller', ['bind', 'adapt', 'merge'])
def test_parts_that_a_method_would_not_use_are_refused(caller):
  """The outputs were those of the base, and `adapt` trained the base of swapped parts."""
  x, model = jnp.ones((2, 4)), nn.Sequential([nn.Dense(3)])
  params = model.init(jax.random.key(0), x)['params']
  names = {'targets': 'layers_0', 'rank': 2}
  lora, vera = lora_jax.lora(alpha=4, **names), lora_jax.vera(**names)
  made = {method: method.init(jax.random.key(1), model, params, x) for method in (lora, vera)}

  def use(method, frozen, trainable):
    if caller == 'bind':
      return bind(model, method)(frozen, trainable, x)
    if caller == 'merge':
      return model.apply({'params': method.merge(frozen, trainable)}, x)
    return lora_jax.nnx.adapt(model, method, frozen, trainable)[0](x)

  for method, right in made.items():
    np.testing.assert_array_equal(use(method, *right), model.apply({'params': params}, x))
  frozen, trainable = made[lora]
  lacking = lambda pattern: (made[vera][0], split(made[vera][1], pattern)[0])
  cases = [
    (lora, (trainable, frozen), 'the two parts are swapped'),
    (vera, made[lora], '.*lora_a, .*lora_b: of another method'),
    (lora, made[vera], '.*vera_b: of another method'),
    (lora, (frozen, split(trainable, '.*lora_b')[1]), '.*lora_b needs .*lora_a, which neither'),
    (vera, lacking('.*vera_d'), '.*vera_b needs .*vera_d, which neither'),
    (vera, lacking('vera_projections/b'), '.*vera_b needs vera_projections/b, which'),
    (vera, lacking('vera_projections/.*'), '.*vera_b needs vera_projections/a, .*/b, which'),
  ]
  for method in made:  # Without anything of the method the model is the base.
    np.testing.assert_array_equal(use(method, params, {}), model.apply({'params': params}, x))
  for method, wrong, message in cases:
    with pytest.raises(ValueError, match=f'{caller}: {message}'):
      use(method, *wrong)


@pytest.mark.parametrize(
  'method', [methods.lora(rank=2, alpha=1.0, targets=''), methods.vera(rank=2, targets='')]
)
def test_parts_of_a_model_that_is_one_layer_are_checked_too(method):
  """Its kernel has no module in front of its name."""
  model, x = nn.Dense(3), jnp.ones((2, 4))
  frozen, trainable = method.init(
    jax.random.key(0), model, model.init(jax.random.key(1), x)['params'], x
  )
  with pytest.raises(ValueError, match=r'swapped: the first holds .*, the second kernel'):
    bind(model.apply, method)(trainable, frozen, x)
