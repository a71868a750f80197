"""The training curve: where its points lie, what they hold, and that a resumed run has the same."""

import builtins
import logging

import numpy as np
import pytest

from lora_jax.train import curve, loop
from lora_jax.train.curve import LOSS, NORM, RATE, SPEED, Curve


def schedule(steps):
  return np.asarray(steps + 1, np.float32) / 100


def metrics(first, count):
  """Of the updates after a step: each loss is its step, each norm a tenth of it."""
  steps = np.arange(first + 1, first + count + 1, dtype=np.float64)
  return {'loss': steps, 'grad_norm': steps / 10}


def drawn(every, total, dispatches, begun=(), recent=()):
  """The points of a run by dispatches of some updates, from given points on."""
  points, losses = list(begun), list(recent)
  one, first = Curve(every, total, schedule), total - sum(dispatches)
  for count in dispatches:
    one.add(points, losses, first, metrics(first, count), 8 * (first + count))
    first += count
  return points, losses


def test_a_point_is_the_mean_loss_since_the_last_and_the_rest_of_its_step():
  points, losses = drawn(4, 10, [1] * 10)
  assert [point['step'] for point in points] == [4, 8, 10] and losses == []
  assert [point[LOSS] for point in points] == [2.5, 6.5, 9.5]
  assert [point[NORM] for point in points] == [0.4, 0.8, 1.0]
  assert [point[RATE] for point in points] == [0.04, 0.08, 0.1]


@pytest.mark.parametrize('dispatches', [[2] * 5, [3, 3, 4], [10], [7, 3]])
def test_how_many_updates_a_dispatch_makes_changes_no_point(dispatches):
  found, one_by_one = drawn(4, 10, dispatches)[0], drawn(4, 10, [1] * 10)[0]
  assert curve.reproducible(found) == curve.reproducible(one_by_one)


def test_a_run_that_resumes_between_two_points_has_the_same():
  begun, one = ([], []), Curve(4, 10, schedule)
  one.add(*begun, 0, metrics(0, 6), 48)
  assert begun[1] == [5.0, 6.0]
  found, _ = drawn(4, 10, [1] * 4, *begun)
  assert curve.reproducible(found) == curve.reproducible(drawn(4, 10, [1] * 10)[0])


def test_the_speed_leaves_out_pauses_and_the_first_dispatch(monkeypatch):
  now = iter([0.0, 2.0, 100.0, 104.0])
  monkeypatch.setattr(curve.time, 'monotonic', lambda: next(now))
  one, points, losses = Curve(1, 4, schedule), [], []
  for first, pauses in enumerate((False, True, False, False)):
    one.add(points, losses, first, metrics(first, 1), 8 * (first + 1))
    if pauses:
      one.pause()
  assert [point.get(SPEED) for point in points] == [None, 4.0, None, 2.0]


def test_long_runs_have_a_bounded_number_of_points_and_zero_is_no_curve():
  long = Curve(1, 25 * curve.MOST, schedule)
  assert len(long._rates) == curve.MOST and min(long._rates) == 25
  assert drawn(0, 10, [10])[0] == []


def test_lines_lie_in_the_order_of_their_steps_and_a_bad_one_is_named(tmp_path):
  points, _ = drawn(4, 10, [10])
  evaluations = [{'step': 4, 'dev/loss': 1.0}, {'step': 9, 'dev/loss': 2.0}]
  lines = curve.merged(points, evaluations)
  assert [(line['step'], curve.is_point(line)) for line in lines] == [
    (4, True), (4, False), (8, True), (9, False), (10, True),
  ]  # fmt: skip
  (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\n{"loss": 2}\n')
  with pytest.raises(ValueError, match=r'metrics.jsonl, line 2: expected an object with a step'):
    curve.read(tmp_path / 'metrics.jsonl')


def test_a_picture_is_drawn_where_matplotlib_is_and_else_a_line_says_so(
  tmp_path, monkeypatch, caplog
):
  points, _ = drawn(2, 10, [10])
  evaluations = [{'step': 10, 'dev/loss': 1.0, 'dev/accuracy': 'nan'}]
  curve.draw(tmp_path, points, evaluations, 'dev/accuracy', 'run')
  assert (tmp_path / curve.FILE).read_bytes().startswith(b'\x89PNG')
  curve.draw(tmp_path / 'few', points[:2], evaluations, 'dev/accuracy', 'run')
  whole = builtins.__import__

  def without(name, *rest):
    if name.startswith('matplotlib'):
      raise ImportError(name)
    return whole(name, *rest)

  monkeypatch.setattr(builtins, '__import__', without)
  with caplog.at_level(logging.WARNING):
    curve.draw(tmp_path / 'none', points, evaluations, 'dev/accuracy', 'run')
  assert 'curve.png is not drawn: matplotlib is not installed: pip install' in caplog.text
  assert not (tmp_path / 'none').exists()


def test_neither_the_dispatch_nor_the_interval_changes_a_run(make_config, tmp_path):
  """Microbatches, several updates a dispatch; the same directory resumes with another interval."""
  values = {'train.accumulate': 2, 'train.log_every': 5}
  loop.train(make_config(**values), tmp_path / 'one')
  config = make_config(**values, **{'train.steps_per_call': 3})
  loop.train(config, tmp_path / 'three')
  one, three = (curve.read(tmp_path / name / 'metrics.jsonl') for name in ('one', 'three'))
  losses = lambda lines: [(line['step'], line[LOSS]) for line in lines if curve.is_point(line)]
  assert [step for step, _ in losses(one)] == [5, 10, 12]
  np.testing.assert_allclose(losses(one), losses(three), rtol=1e-5)
  config.train.log_every = 0
  assert loop.train(config, tmp_path / 'three')['steps'] == 12
