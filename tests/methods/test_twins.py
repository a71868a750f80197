"""Each kind of NNX layer under LoRA computes what Linen's computes, to the last bit."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lora_jax import bind, lora, params, tree
from lora_jax.methods import twins
from tests.nnx.toys import KEY, PAIRS, disturbed

# The two attentions are written differently, in Flax.
EXACT = [name for name in PAIRS if name != 'attention']


def sides(name, dtype):
  """(apply, frozen, trainable) in NNX and in Linen, on the weights of the former."""
  pair = PAIRS[name]
  method = lora(rank=2, alpha=3.0, targets=pair.targets)
  model = pair.nnx(nnx.Rngs(0), dtype=dtype)
  linen = pair.linen(dtype=dtype)
  own = method.init(KEY, model, pair.x)
  return (
    (bind(model, method), *own),
    (bind(linen.apply, method), *method.init(KEY, linen, params(model), pair.x)),
  )


BFLOAT16 = ('linear', 'einsum', 'embed-tied')  # By default; each compiles a program of its own.


@pytest.mark.parametrize(
  ('name', 'dtype'),
  [
    *((name, jnp.float32) for name in PAIRS),
    *(
      pytest.param(name, jnp.bfloat16, marks=() if name in BFLOAT16 else pytest.mark.slow)
      for name in PAIRS
    ),
  ],
)
def test_a_kind_is_linens_to_the_bit(name, dtype):
  (apply, *own), (linen, *other) = sides(name, dtype)
  jax.tree.map(np.testing.assert_array_equal, own, other)
  assert tree.paths(own[1]) == tree.paths(other[1])
  frozen, trainable = own[0], disturbed(own[1])
  x = PAIRS[name].x.astype(dtype) if PAIRS[name].x.dtype == jnp.float32 else PAIRS[name].x
  loss = lambda apply: (
    lambda trainable: (apply(frozen, trainable, x).astype(jnp.float32) ** 2).sum()
  )

  @jax.jit
  def both(trainable):
    plain = apply(frozen, own[1], x)
    return (apply(frozen, trainable, x), jax.grad(loss(apply))(trainable), plain), (
      linen(frozen, trainable, x), jax.grad(loss(linen))(trainable), linen(frozen, own[1], x)
    )  # fmt: skip

  found, expected = both(trainable)
  assert np.abs(found[0] - found[2]).max() > 0.01  # The factors do something.
  scale = lambda b: np.abs(b.astype(np.float32)).max()
  bound = 0 if name in EXACT else 1e-6 if dtype == jnp.float32 else 0.05
  close = lambda a, b: np.testing.assert_allclose(
    a.astype(np.float32), b.astype(np.float32), rtol=0, atol=bound * scale(b)
  )
  jax.tree.map(close, found, expected)


def test_a_class_with_a_call_of_its_own_is_not_of_its_parents_kind():
  class Same(nnx.Linear):
    pass

  class Doubled(nnx.Linear):
    def __call__(self, x):
      return 2 * super().__call__(x)

  make = lambda kind: kind(2, 3, rngs=nnx.Rngs(0))
  assert twins.kind_of(make(Same)) is twins.KINDS[nnx.Linear]
  assert twins.kind_of(make(Doubled)) is None
  assert type(twins.make_twin(None, make(Doubled))).__name__ == 'Doubled'


def test_a_layer_knows_how_many_axes_its_weight_has():
  for name in EXACT:
    layer = PAIRS[name].nnx(nnx.Rngs(0)).query
    weight = getattr(layer, 'kernel', None) or layer.embedding
    twin = twins.make_twin(twins.kind_of(layer), layer)
    assert twins.weight_axes(twin) == weight.ndim, name


def test_a_product_that_a_layer_was_given_is_its_twins():
  given = lambda *args, **kwargs: jax.lax.dot_general(*args, **kwargs)
  layer = nnx.Linear(2, 3, dot_general=given, rngs=nnx.Rngs(0))
  twin = lambda layer: twins.make_twin(twins.kind_of(layer), layer)
  assert twin(layer).dot_general is given
  assert twin(nnx.Linear(2, 3, rngs=nnx.Rngs(0))).dot_general is None
  assert isinstance(twin(layer), nn.Dense)
