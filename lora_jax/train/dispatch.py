"""Several updates of one dispatch, which is a program, whether or not it is filled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp

State = TypeVar('State')  # A tree of arrays.
Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]


def repeated(
  update: Callable[[State, Batch], tuple[State, Metrics]], state: State, batches: Batch
) -> tuple[State, Metrics]:
  """`update` by each of the K `batches`, one after the other.

  Of several batches, the last ones may hold no examples: at the end of an epoch they fill a
  dispatch up, so that it is no program of its own. Such a batch is computed, and changes nothing.

  Args:
    update: `update(state, batch) -> (state, metrics)`.
    state: before the first.
    batches: arrays [K, ...]; `segment_ids` is 0 where there is no token.

  Returns:
    the state after the last one; and the metrics, [K, ...], those of empty batches too.
  """

  def one(state: State, batch: Batch) -> tuple[State, Metrics]:
    after, metrics = update(state, batch)
    if len(batches['segment_ids']) > 1:
      has_examples = (batch['segment_ids'] > 0).any()
      after = jax.tree.map(lambda new, old: jnp.where(has_examples, new, old), after, state)
    return after, metrics

  return jax.lax.scan(one, state, dict(batches))
