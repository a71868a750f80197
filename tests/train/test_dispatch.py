"""Updates of one dispatch: one after the other, and none by a batch without examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax.train import dispatch


def update(state, batch):
  """Adds a batch's values, and counts it: an empty one would be counted, too."""
  after = {'sum': state['sum'] + batch['x'].sum(), 'count': state['count'] + 1}
  return after, {'before': state['sum']}


@pytest.mark.parametrize('empty', [0, 2])
def test_a_batch_without_examples_changes_nothing(empty):
  full = 3
  segments = jnp.zeros((full + empty, 2, 4), jnp.int32).at[:full, 1, 0].set(1)
  batches = {'segment_ids': segments, 'x': jnp.arange(1.0, full + empty + 1)[:, None]}
  state = {'sum': jnp.zeros(()), 'count': jnp.zeros((), jnp.int32)}
  after, metrics = jax.jit(lambda *parts: dispatch.repeated(update, *parts))(state, batches)
  assert (float(after['sum']), int(after['count'])) == (1 + 2 + 3, full)
  np.testing.assert_array_equal(metrics['before'], [0, 1, 3, 6, 6][: full + empty])


def test_one_batch_is_updated_by_without_a_choice():
  """The program of a run with one update a dispatch, which never has an empty one."""
  batch = {'segment_ids': jnp.ones((1, 2, 4), jnp.int32), 'x': jnp.ones((1, 1))}
  state = {'sum': jnp.zeros(()), 'count': jnp.zeros((), jnp.int32)}
  several = {name: jnp.concatenate([x, x]) for name, x in batch.items()}
  step = jax.jit(lambda *parts: dispatch.repeated(update, *parts))
  selects = lambda batches: 'select' in step.lower(state, batches).as_text()
  assert selects(several) and not selects(batch)
