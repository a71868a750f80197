"""What this package builds on methods, over an NNX base: a bank of adapters, a sweep, a summary."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lora_jax import bind, lora, params, summarize, tree
from lora_jax.adapters.adapter import Adapter
from lora_jax.models import presets
from lora_jax.serving import BASE, Bank
from lora_jax.sweep import members
from tests.nnx.toys import IDS, KEY, Stack, disturbed

TARGETS = r'layers(_\d)?/(query|value)'
LAYOUTS = ['loop', 'scan+remat']


def method(rank, alpha):
  return lora(rank=rank, alpha=alpha, targets=TARGETS)


def trained(model, rank, alpha):
  frozen, trainable = method(rank, alpha).init(KEY, model, IDS)
  return frozen, disturbed(trainable)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_a_bank_computes_each_row_with_its_own_adapter(layout):
  model = Stack(layout)
  bank = Bank(model, params(model), IDS, capacity=2, rank=3, targets=TARGETS, train=())
  expected = {BASE: model(IDS[:1])}
  for rank, alpha in ((1, 2.0), (3, 9.0)):
    options = dict(method(rank, alpha).options)
    frozen, trainable = trained(model, rank, alpha)
    # A bank holds adapters of models of this package; it asks for no architecture of others.
    config = presets.architecture('gpt2', vocab_size=50, hidden_size=8, num_layers=2, num_heads=2)
    bank.add(f'rank {rank}', Adapter(options, tree.cast(trainable, np.float32), config, 'lm'))
    expected[f'rank {rank}'] = bind(model, method(rank, alpha))(frozen, trainable, IDS[:1])
  found = bank(list(expected), jnp.concatenate([IDS[:1]] * 3))
  for row, want in zip(found, expected.values()):
    np.testing.assert_allclose(row, want[0], atol=2e-5 * np.abs(want).max())


def test_a_sweeps_members_are_stacked_over_one_base():
  model = Stack('scan+remat')
  options = [(1, 2.0), (3, 9.0)]
  frozen = trained(model, 1, 1.0)[0]
  each = [trained(model, *one)[1] for one in options]
  scales = members.stack([method(*one).scales(model, IDS) for one in options])
  stacked, tx = members.stack(each), optax.adam(1e-2)

  def step(apply, frozen, trainable):
    grads = jax.grad(lambda t: (apply(frozen, t, IDS) ** 2).mean())(trainable)
    updates, _ = tx.update(grads, tx.init(trainable))
    return optax.apply_updates(trainable, updates)

  apply = bind(
    model, method(3, 1.0)
  )  # Of another alpha: each member's scale is beside its factors.
  run = jax.jit(jax.vmap(lambda s, t: step(apply, tree.join(frozen, s), t)))
  found = run(scales, stacked)
  for i, (one, start) in enumerate(zip(options, each)):
    expected = jax.jit(lambda t, one=one: step(bind(model, method(*one)), frozen, t))(start)
    own = members.resize(members.take(found, i), expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), own, expected)


def test_a_summary_counts_what_is_trained():
  model = Stack('loop')
  method = lora(rank=2, alpha=1, targets='.*query', train='classifier/.*')
  summary = summarize(method, *method.init(KEY, model, IDS), head='classifier/.*')
  assert summary.rows[0].matched == ('layers_0/query', 'layers_1/query')
  assert summary.trainable == 2 * 2 * (8 + 8) + 8 * 3 + 3 and summary.head == 8 * 3 + 3
