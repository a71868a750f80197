"""Weight decay does not move what a method draws once and keeps."""

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from flax import nnx

import lora_jax
from lora_jax import tree

KEY, X = jax.random.key(0), jax.random.normal(jax.random.key(1), (4, 8))
METHODS = {
  'lora': lora_jax.lora(rank=2, alpha=4, targets=''),
  'fa': lora_jax.lora(rank=2, alpha=4, targets='', train_a=False),
  'pissa': lora_jax.lora(rank=2, alpha=4, targets='', init='pissa'),
  'vera': lora_jax.vera(rank=3, targets=''),
}
TX = optax.adamw(1e-2, weight_decay=0.1)


@pytest.mark.parametrize('name', METHODS)
def test_what_is_fixed_stays_and_the_rest_moves(name):
  method, model = METHODS[name], nn.Dense(6)
  frozen, trainable = method.init(KEY, model, model.init(KEY, X)['params'], X)
  apply, tx = lora_jax.bind(model, method), lora_jax.masked(TX, method)
  state, before = tx.init(trainable), tree.flatten(trainable)
  for _ in range(2):
    grads = jax.grad(lambda t: (apply(frozen, t, X) ** 2).sum())(trainable)
    updates, state = tx.update(grads, state, trainable)
    trainable = optax.apply_updates(trainable, updates)
  still = {path for path, x in tree.flatten(trainable).items() if np.all(x == before[path])}
  assert still == {path for path in before if method.fixed(path)}
  assert bool(still) == (name != 'lora')


def test_in_a_module_of_nnx():
  method = lora_jax.lora(rank=2, alpha=4, targets='layers_0', train_a=False)
  model = nnx.Sequential(nnx.Linear(8, 6, rngs=nnx.Rngs(0)))
  adapted, trained = lora_jax.adapt(model, method, *method.init(KEY, model, X))
  before = tree.flatten(lora_jax.params(adapted, trained))
  optimizer = nnx.Optimizer(adapted, lora_jax.masked(TX, method), wrt=trained)
  for _ in range(2):
    loss = lambda module: (module(X) ** 2).sum()
    optimizer.update(adapted, nnx.grad(loss, argnums=nnx.DiffState(0, trained))(adapted))
  after = tree.flatten(lora_jax.params(adapted, trained))
  moved = {path for path in before if np.any(after[path] != before[path])}
  assert moved == {'layers_0/lora_b'}
