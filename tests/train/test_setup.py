"""What a run is made of before its first step: intervals, batches from a step on, shapes."""

import itertools

import jax
import numpy as np
import optax
import pytest

from lora_jax import tree
from lora_jax.models import presets
from lora_jax.train import mesh, setup


def test_intervals_are_in_steps_or_in_epochs(make_config):
  of = lambda **values: setup.intervals(make_config(**values), 6)
  assert of() == (6, 6)
  assert of(**{'eval.every_epochs': 3}) == (18, 6)
  assert of(**{'eval.every_steps': 4, 'checkpoint.every_steps': 5}) == (4, 5)


@pytest.mark.parametrize(
  'first, last, crosses', [(0, 4, False), (4, 5, True), (5, 9, False), (3, 11, True), (9, 10, True)]
)
def test_a_dispatch_crosses_a_multiple_that_lies_in_it_or_at_its_end(first, last, crosses):
  assert setup.crosses(first, last, 5) is crosses


@pytest.fixture(scope='module')
def training(work):
  """The batches of the run's config."""
  return setup.make_batches(work, mesh.make_mesh(1))


def test_batches_go_on_where_they_stopped(training):
  total = 2 * training.steps_per_epoch
  every = list(setup.upcoming(training, 0, total))
  assert sum(len(batch['input_ids']) for batch in every) == total
  for done in (1, training.steps_per_epoch, training.steps_per_epoch + 2):
    rest = list(setup.upcoming(training, done, total))
    for ours, theirs in zip(rest, every[done:], strict=True):
      for name, x in theirs.items():
        np.testing.assert_array_equal(ours[name], x, err_msg=name)
  assert list(setup.upcoming(training, total, total)) == []


def test_batches_are_laid_out_as_the_config_says(work, training):
  config = work.config
  assert training.steps_per_epoch == -(-len(work.task.train.ids) // config.train.batch_size)
  batch = next(setup.upcoming(training, 0, 1))
  assert batch['input_ids'].shape[-1] == config.data.row_length
  split = setup.make_batches(work, mesh.make_mesh(4))
  batches = itertools.islice(setup.upcoming(split, 0, 6), 6)
  assert {batch['input_ids'].shape[1] % 4 for batch in batches} == {0}


def test_an_outputs_cost_is_over_that_of_the_layers():
  sizes = dict(vocab_size=4800, hidden_size=16, num_layers=5, num_heads=2, max_positions=32)
  assert setup.prediction_cost(presets.architecture('gpt2', **sizes)) == 4800 / (12 * 5 * 16)


def test_the_shapes_of_a_state_are_those_of_the_state_and_lie_on_the_mesh(work):
  devices = mesh.make_mesh(2, 2)
  tx = optax.adam(0.1)
  wide = {'layers': {'mlp_in': {'kernel': np.ones((1024, 1024), np.float32)}}}
  trainable = tree.join(work.trainable, {'other': wide})
  init, shapes = setup.make_init(trainable, tx, 3, devices, work.family, work.method.follows)
  state = init(trainable)
  for (path, like), leaf in zip(
    jax.tree_util.tree_leaves_with_path(shapes), jax.tree.leaves(state), strict=True
  ):
    assert (like.shape, like.dtype) == (leaf.shape, leaf.dtype), path
    assert leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim), path
  assert any(not leaf.is_fully_replicated for leaf in jax.tree.leaves(state.trainable))
  assert int(state.step) == 0
  for path, leaf in tree.flatten(trainable).items():
    np.testing.assert_array_equal(tree.flatten(state.trainable)[path], leaf, err_msg=path)


def test_tools_decode_nothing_unless_texts_are_asked_for(work):
  tools = setup.make_tools(work, mesh.make_mesh(1), 6)
  assert tools.texts is tools.final is None
  assert (tools.eval_every, tools.save_every) == (6, 6)
  examples = sum((batch['index'] >= 0).sum() for batch in tools.held_out['dev'])
  assert examples == len(work.task.evals['dev'].ids)
