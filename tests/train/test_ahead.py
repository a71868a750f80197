"""Programs compiled by threads are those that the loop would have compiled itself."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax.train import loop, single
from lora_jax.train.ahead import Ahead


def double(state, batch):
  return state, {name: 2 * x for name, x in batch.items()}


def batch(*shape):
  return {'x': jnp.ones(shape)}


class Slow:
  """Stands for a jitted function; each compilation waits until it may go on, and is noted."""

  def __init__(self):
    self.go_on, self.compiled = threading.Event(), []

  def lower(self, *shapes):
    self.compiled.append((shapes[-1]['x'].shape, threading.current_thread().name))
    return self

  def compile(self):
    assert self.go_on.wait(30)
    return self


@pytest.mark.parametrize('threads', [0, 2])
def test_a_program_is_compiled_once_for_each_shape_of_the_batch(threads):
  ahead, function, state = Ahead(threads), jax.jit(double), jnp.zeros(3)
  ahead.begin(function, state, batch(2, 3))
  first = ahead.get(function, state, batch(2, 3))
  assert ahead.get(function, state, batch(2, 3)) is first
  assert ahead.get(function, state, batch(4, 3)) is not first
  np.testing.assert_array_equal(first(state, batch(2, 3))[1]['x'], np.full((2, 3), 2.0))
  ahead.close()


def test_threads_compile_at_the_same_time_and_in_the_order_in_which_they_are_asked():
  ahead, function, state = Ahead(2), Slow(), jnp.zeros(3)
  for rows in (1, 2, 3):
    ahead.begin(function, state, batch(rows))
  function.go_on.set()
  assert ahead.get(function, state, batch(3)) is function
  ahead.close()
  assert [shape for shape, _ in function.compiled] == [(1,), (2,), (3,)]
  assert all(name.startswith('compile') for _, name in function.compiled)


def test_closing_drops_what_has_not_begun():
  ahead, function, state = Ahead(1), Slow(), jnp.zeros(3)
  for rows in (1, 2, 3):
    ahead.begin(function, state, batch(rows))
  threading.Timer(0.2, function.go_on.set).start()
  ahead.close()
  assert [shape for shape, _ in function.compiled] == [(1,)]


def test_several_processes_compile_when_they_need_a_program(monkeypatch):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  ahead, function, state = Ahead(), Slow(), jnp.zeros(3)
  function.go_on.set()
  ahead.begin(function, state, batch(1))
  assert function.compiled == []
  ahead.get(function, state, batch(1))
  assert function.compiled == [((1,), threading.current_thread().name)]


@pytest.mark.parametrize('threads', [0, 2])
def test_an_error_is_raised_where_the_program_is_needed(threads):
  ahead, state = Ahead(threads), jnp.zeros(3)
  function = jax.jit(lambda state, batch: state @ batch['x'])
  ahead.begin(function, state, batch(4))
  with pytest.raises(TypeError, match='contracting dimensions'):
    ahead.get(function, state, batch(4))
  ahead.close()


def test_a_run_begins_all_its_programs_before_it_needs_them(tmp_path, make_config, monkeypatch):
  """Five batches in groups of three: the last group has an empty one, and no other program."""
  begun, needed = set(), set()
  key = lambda batch: tuple((name, x.shape, x.dtype) for name, x in sorted(batch.items()))

  class Spy(Ahead):
    def begin(self, function, *arguments):
      begun.add(key(arguments[-1]))
      super().begin(function, *arguments)

    def get(self, function, *arguments):
      needed.add(key(arguments[-1]))
      assert needed <= begun
      return super().get(function, *arguments)

  monkeypatch.setattr(single, 'Ahead', Spy)
  by_group = {'train.batch_size': 9, 'train.steps_per_call': 4}
  several = loop.train(make_config(**by_group), tmp_path / 'run')
  assert needed == begun
  assert [shape[0] for (_, shape, _), *_ in begun if len(shape) == 3] == [3]
  one = loop.train(make_config(**{'train.batch_size': 9}), tmp_path / 'one')
  assert one['history'][-1]['step'] == several['history'][-1]['step'] == 10
  for name in ('train/loss', 'dev/loss', 'train/grad_norm'):
    values = [[entry[name] for entry in run['history']] for run in (one, several)]
    np.testing.assert_allclose(*values, atol=1e-5)
