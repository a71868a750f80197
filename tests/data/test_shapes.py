"""Laws of the planned shapes."""

import numpy as np
import pytest

from lora_jax.data.packing import pack_rows, round_up
from lora_jax.data.shapes import Limits, Shape, fallback, plan, plan_lengths, plan_rows

LIMITS = Limits(
  layout='pack',
  batch_size=16,
  max_length=60,
  rows_multiple=4,
  row_length=0,
  group=2,
  max_shapes=5,
  shape_cost=0.0,
  prediction_cost=0.2,
)


def examples():
  rng = np.random.default_rng(1)
  lengths = np.clip(rng.gamma(3, 5, 400).astype(int) + 4, 4, 60)
  return lengths, np.maximum(lengths - rng.integers(1, 10, 400), 0)


def test_shapes_are_few_and_keep_the_limits():
  lengths, predictions = examples()
  found, _ = plan(lengths, predictions, LIMITS)
  assert 1 <= len(found) <= LIMITS.max_shapes
  assert all(shape.rows % LIMITS.rows_multiple == 0 for shape in found)
  assert all(shape.num_predictions <= shape.length for shape in found)
  (largest,), _ = plan(lengths, predictions, LIMITS._replace(layout='pad_max'))
  assert largest == Shape(16, 60, round_up(predictions.max(), 4))


def test_a_fallback_holds_the_longest_example_in_coarse_steps():
  length, limit, multiple = fallback([Shape(8, 32, 16)], 50, 30, LIMITS)
  assert length >= 50 and limit >= 30 and multiple % LIMITS.rows_multiple == 0


@pytest.mark.parametrize('layout', ['pack', 'pad'])
def test_the_number_of_shapes_is_the_one_with_which_a_run_ends_soonest(layout):
  limits = LIMITS._replace(layout=layout, max_shapes=7)
  _, costs = plan(*examples(), limits)
  assert len(costs) >= 4 and costs == sorted(costs, reverse=True)
  for price in (5.0, 20.0, 100.0, 1e6):
    found, tried = plan(*examples(), limits._replace(shape_cost=price))
    totals = [cost + price * (k + 1) for k, cost in enumerate(tried)]
    assert len(found) == 1 + int(np.argmin(totals)) and len(tried) <= len(found) + 1
  assert len(plan(*examples(), limits._replace(shape_cost=1e6)).shapes) == 1


def test_a_single_shape_holds_every_batch_of_the_sample():
  lengths, predictions = examples()
  (shape,), _ = plan(lengths, predictions, LIMITS._replace(shape_cost=1e6))
  rows = max(  # Of other batches than those of the sample.
    len(pack_rows(lengths[np.random.default_rng(s).permutation(400)[:16]], [shape.length])[1])
    for s in range(200)
  )
  assert shape.rows >= rows


def test_an_evaluation_has_fewer_lengths_where_compiling_costs_more():
  lengths, _ = examples()
  for choose in (
    lambda cost: plan_rows(lengths, 0, cost),
    lambda cost: plan_lengths(lengths, cost),
  ):
    assert len(choose(0.0)) > 1 and len(choose(1e6)) == 1
    assert choose(1e6)[0] >= lengths.max() and choose(0.0)[-1] >= lengths.max()
