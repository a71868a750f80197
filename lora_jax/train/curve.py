"""The training curve of a run: loss, gradient norm, learning rate and speed, every few steps.

Its points are made of numbers that the loop has fetched anyway, so that no step waits for them.
They are kept in every checkpoint, and a resumed run has the points of one that nothing stopped;
only the speed is another.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lora_jax import extras, files
from lora_jax.train import paths
from lora_jax.train.optimizer import Schedule

Point = dict[str, float]  # As a line of metrics.jsonl: `step`, and numbers by name.
LOSS, NORM, RATE, SPEED = (
  f'curve/{name}' for name in ('loss', 'grad_norm', 'learning_rate', 'examples_per_second')
)
MOST = 10_000  # Points of a run.
FEWEST = 3  # Points of a picture.
SHORTEST = 0.5  # Seconds of a speed: steps that were waited for together come at the same time.
FILE = 'curve.png'


class Curve:
  """Makes the points of a run: it knows the steps at which they lie, and measures the speed.

  The points themselves are kept by its caller, in every checkpoint (`record.Progress`).
  """

  def __init__(self, every: int, total_steps: int, schedule: Schedule):
    """A curve without a point yet.

    Args:
      every: steps between points, more for a run of more than `MOST` points; 0 is no curve.
      total_steps: number of the run's last step, which has a point, too.
      schedule: the learning rate by number of updates made.
    """
    every = max(every, -(-total_steps // MOST)) if every else 0
    steps = np.array(sorted({*range(every, total_steps, every), total_steps}) if every else [], int)
    # All at once: on a device that trains, a small computation waits for the step before it.
    self._rates = dict(zip(steps.tolist(), np.asarray(schedule(steps - 1)).tolist(), strict=True))
    self._since: tuple[float, int] | None = None  # Time and examples of the last measurement.

  def add(
    self,
    points: list[Point],
    losses: list[float],
    first: int,
    metrics: Mapping[str, np.ndarray],
    examples: int,
  ) -> list[Point]:
    """Adds the metrics [K] of the K updates after step `first`; returns the new points.

    Args:
      points: the points so far, to which it adds.
      losses: the losses since the last of them, to which it adds, too.
      first, metrics: the updates.
      examples: the number of examples that were seen in all.
    """
    found: list[Point] = []
    for offset, loss in enumerate(metrics['loss'].tolist()):
      losses.append(loss)
      if (step := first + offset + 1) not in self._rates:
        continue
      norm, mean = float(metrics['grad_norm'][offset]), sum(losses) / len(losses)
      values = {LOSS: mean, NORM: norm, RATE: self._rates[step]}
      found.append({'step': step, **{name: short(value) for name, value in values.items()}})
      losses.clear()
    now = time.monotonic()
    if not self._since:
      self._since = now, examples
    elif found and now - self._since[0] >= SHORTEST:
      speed = short((examples - self._since[1]) / (now - self._since[0]))
      found = [point | {SPEED: speed} for point in found]
      self._since = now, examples
    points += found
    return found

  def pause(self) -> None:
    """Leaves the time until the next update out of the speed."""
    self._since = None


def short(value: float) -> float:
  """A number with six digits, as many as float32 is good for."""
  return float(f'{value:.6g}')


def merged(points: Sequence[Point], evaluations: Sequence[Mapping[str, float]]) -> list[Point]:
  """Both in order of their steps, as `metrics.jsonl` has them."""
  return sorted([*points, *map(dict, evaluations)], key=lambda entry: entry['step'])


def read(path: Path) -> list[files.Json]:
  """The lines of a `metrics.jsonl`.

  Raises:
    ValueError: naming the first line that is not one of a run.
  """
  entries: list[files.Json] = []
  for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), start=1):
    try:
      entry = files.parse_json(line)
    except ValueError:
      entry = None
    if not isinstance(entry, dict) or not isinstance(entry.get('step'), int):
      raise ValueError(
        f'{path}, line {number}: expected an object with a step, found {line[:80]!r}'
      )
    entries.append(entry)
  return entries


def is_point(entry: Mapping[str, object]) -> bool:
  """Whether a line of `metrics.jsonl` is a point, and not an evaluation."""
  return LOSS in entry


def reproducible(entries: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
  """Lines of `metrics.jsonl` without their speed, which no two runs have in common."""
  return [{name: x for name, x in entry.items() if name != SPEED} for entry in entries]


def draw(
  folder: Path,
  points: Sequence[Point],
  evaluations: Sequence[Mapping[str, float]],
  metric: str,
  title: str,
) -> None:
  """Writes `curve.png` into a run directory; without matplotlib, a warning instead.

  Args:
    folder: the run directory.
    points: the curve.
    evaluations: the evaluations, of which the loss and the metric are drawn.
    metric: its name (`dev/accuracy`).
    title: what is written above.
  """
  if len(points) < FEWEST:
    return
  try:
    from matplotlib.figure import Figure  # Imported where it is used: it takes half a second.
  except ImportError:
    logging.warning('%s is not drawn: %s', FILE, extras.missing('matplotlib'))
    return
  losses = f'{metric.partition("/")[0]}/loss'
  panels = {
    'loss': [(points, LOSS, 'train'), (evaluations, losses, losses)],
    metric: [(evaluations, metric, metric)],
    'norm of the gradient': [(points, NORM, 'train')],
    'learning rate': [(points, RATE, 'train')],
  }
  if metric == losses:
    del panels[metric]
  figure = Figure(figsize=(4 * len(panels), 3.2), layout='constrained')
  figure.suptitle(title)
  for axes, (name, lines) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
    for entries, key, label in lines:
      x = [entry['step'] for entry in entries if key in entry]
      y = [float(entry[key]) for entry in entries if key in entry]
      axes.plot(x, y, label=label, marker='o' if entries is evaluations else '', markersize=4)
    axes.set(title=name, xlabel='step')
    axes.grid(alpha=0.3)
    if len(lines) > 1:
      axes.legend()
  content = io.BytesIO()
  figure.savefig(content, dpi=120, format='png')
  path = folder / FILE
  if paths.on_bucket(path):
    path.write_bytes(content.getvalue())
  else:
    files.write_atomic(path, content.getvalue())
