"""The record of one run: its progress, its evaluations, and what it leaves at its end."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import jax
import numpy as np

from lora_jax import provenance
from lora_jax.compilation import Programs
from lora_jax.data import batches, dataset
from lora_jax.result_schema import RunResult
from lora_jax.train import (
  curve,
  evaluate,
  generate,
  hosts,
  optimizer,
  result,
  rundir,
  setup,
  warm_start,
  writers,
)
from lora_jax.train.job import Job
from lora_jax.train.partial_texts import PartialTexts
from lora_jax.tree import Params

Metrics = Mapping[str, np.ndarray]
LOWER = 'Lower config.optim.lr, lengthen the warm-up, or set config.optim.clip.'


class Progress(TypedDict):
  """What the host knows of a run; every checkpoint holds it as JSON.

  Attributes:
    history: the evaluations, with their `step`.
    start: metrics of the general text before the first update, see `forgetting.py`.
    loss_sum, losses: sum and number of the training losses since the last evaluation.
    grad_norm: the gradient's norm at the last update.
    examples, tokens, padded_tokens: how many were seen in training, since its start.
    seconds: those of all starts of the run by their purpose, see `clock.Clock`.
    programs: the fields of `compilation.Programs`, over all starts of the run.
    points: the training curve, see `curve.Curve`.
    recent: the losses since its last point.
  """

  history: list[dict[str, float]]
  start: dict[str, float]
  loss_sum: float
  losses: int
  grad_norm: float
  examples: int
  tokens: int
  padded_tokens: int
  seconds: dict[str, float]
  programs: dict[str, float]
  points: list[curve.Point]
  recent: list[float]


class Record:
  """The record of one run.

  Attributes:
    name: the name of its run directory.
    work: its job.
    training: its batches.
    devices: the mesh that it trains on.
    commit: the commit of the code that it began with.
    total_steps: number of its updates.
    start: the trainable parameters before the first update.
    dropped: paths of the task head that `init_adapter` has in another shape.
    progress: see `Progress`.
    metric: the name of the metric that selects its best evaluation (`dev/accuracy`).
    inputs: the files that it is made from.
    loss: that of the last update.
    error: '' or, of a run that diverged, what is not finite, and at which step.
    is_live: whether it trains on: it has neither ended nor failed.
    writer: what writes and displays its metrics, while it trains alone.
    result: the contents of `result.json`, once it has ended.
  """

  result: RunResult

  def __init__(
    self,
    name: str,
    work: Job,
    training: batches.Batches,
    devices: jax.sharding.Mesh,
    commit: str,
  ):
    config = work.config
    self.name, self.work, self.training = name, work, training
    self.devices, self.commit = devices, commit
    self.total_steps = training.steps_per_epoch * config.train.epochs
    optimizer.check_rates(config.optim, self.total_steps)
    _, self._schedule = optimizer.make_optimizer(config.optim, self.total_steps)
    self.start, self.dropped = work.trainable, []
    if config.init_adapter:
      self.start, self.dropped = warm_start.warm_start(work, config.init_adapter)
    self.progress = Progress(
      history=[],
      start={},
      loss_sum=0.0,
      losses=0,
      grad_norm=0.0,
      examples=0,
      tokens=0,
      padded_tokens=0,
      seconds={},
      programs=Programs()._asdict(),
      points=[],
      recent=[],
    )
    self.metric = f'{next(iter(work.task.evals))}/{work.task.metric}'
    self.error, self.loss = '', math.nan
    self.inputs: provenance.Inputs = {}
    self.is_live = True
    self.writer: writers.Writer | None = None
    self._texts: PartialTexts | None = None
    self._curve = curve.Curve(config.train.log_every, self.total_steps, self._schedule)
    self._eval_every, _ = setup.intervals(config, training.steps_per_epoch)

  def add(self, first: int, metrics: Metrics) -> None:
    """Adds the metrics [K] of K updates after step `first`, unless the run is over."""
    if self.error or not self.is_live or first >= self.total_steps:
      return
    self.error = not_finite(metrics, first, self._schedule)
    if self.error:
      return
    progress = self.progress
    progress['loss_sum'] += float(metrics['loss'].sum())
    progress['losses'] += len(metrics['loss'])
    progress['grad_norm'] = float(metrics['grad_norm'][-1])
    for name in ('examples', 'tokens', 'padded_tokens'):
      progress[name] += int(metrics[name].sum())
    seen, self.loss = progress['examples'], float(metrics['loss'][-1])
    points = self._curve.add(progress['points'], progress['recent'], first, metrics, seen)
    if self.writer:
      for point in points:
        self.writer.write_point(point)
      done = first + len(metrics['loss'])
      self.writer.progress(done, self.loss, seen)

  def is_due(self, first: int, done: int) -> bool:
    """Whether an evaluation is due after the updates in (first, done]."""
    crosses = setup.crosses(first, done, self._eval_every)
    return self.is_live and (crosses or done == self.total_steps)

  def is_over(self, done: int) -> bool:
    """Whether a live run has made its last update, or has diverged."""
    return self.is_live and (bool(self.error) or done >= self.total_steps)

  def begin(self, computed: evaluate.Computed) -> None:
    """Keeps the metrics of splits that are measured before the first update.

    Raises:
      FloatingPointError: for outputs that are not finite.
    """
    self.progress['start'] = dict(evaluate.evaluate(self.work.task, computed))

  def evaluate(self, done: int, computed: evaluate.Computed) -> bool:
    """Adds an evaluation to the history; returns whether it is the best so far.

    If outputs of the model are not finite, it sets `error` instead. A score that is not finite is
    never the best.

    Args:
      done: number of updates.
      computed: the outputs of the held-out splits.
    """
    if self.error:
      return False
    progress = self.progress
    self._curve.pause()
    try:
      found = dict(evaluate.evaluate(self.work.task, computed))
    except FloatingPointError as error:
      self.error = f'{error}, at the evaluation of step {done}. {LOWER}'
      return False
    entry = {
      'step': done,
      'epoch': done / self.training.steps_per_epoch,
      'train/loss': progress['loss_sum'] / progress['losses'],
      'train/grad_norm': progress['grad_norm'],
      'train/learning_rate': float(self._schedule(done - 1)),
      **found,
    }
    progress['history'] = [*self.history, entry]
    progress['loss_sum'], progress['losses'] = 0.0, 0
    if not math.isfinite(entry[self.metric]):
      logging.warning(
        '%s: %s is %s at step %d: it does not count as the best evaluation',
        self.name,
        self.metric,
        entry[self.metric],
        done,
      )
      if done >= self.total_steps and self.best is None:
        self.error = f'{self.metric} is not finite at any evaluation. {LOWER}'
    return self.best is entry

  def sample(
    self, texts: generate.Texts, frozen: Params, trainable: Params
  ) -> list[dict[str, str]]:
    """Adds the scores of a few decoded texts to the last evaluation; returns examples of them."""
    if self.error:
      return []
    try:
      scores, examples = generate.sample(self.work, texts, frozen, trainable)
    except FloatingPointError as error:
      self.error = (
        f'decoding: {error}, at the evaluation of step {self.history[-1]["step"]}. {LOWER}'
      )
      return []
    self.history[-1].update(scores)
    return examples

  def show(self, done: int, examples: Sequence[Mapping[str, str]]) -> None:
    """Writes and displays the last evaluation, and examples of decoded texts."""
    if self.writer:
      entry = {name: value for name, value in self.history[-1].items() if name != 'step'}
      self.writer.write_texts(done, examples)
      self.writer.write(done, entry)
      self.writer.show(done, entry)

  def decode(
    self,
    texts: Callable[[dataset.Prompts, PartialTexts], list[str]],
    prompts: dataset.Prompts,
    folder: Path,
  ) -> dict[str, Any]:
    """Decodes the split of `config.decode.final` into the run directory; returns the report.

    If the model's logits are not finite, it sets `error` instead.
    """
    decode = self.work.config.decode
    self._texts = kept = PartialTexts(rundir.predictions(folder, decode.final))
    try:
      report = generate.report(self.work, decode, texts, decode.final, prompts, kept)
    except FloatingPointError as error:
      self.error = f'decoding {decode.final}: {error}. {LOWER}'
      return {}
    self.charge({'decoding': kept.seconds}, Programs())
    return report

  def end(
    self,
    folder: Path,
    generated: Mapping[str, Any] | None = None,
    members: int = 1,
    why: str = '',
  ) -> None:
    """Ends the run with its `result.json`.

    Args:
      folder: the run directory.
      generated: the report of the texts that were decoded at the end, if there are any.
      members: number of runs that one program trained together.
      why: why it did.
    """
    if self.writer and generated:
      self.writer.write_texts(self.total_steps, generated['examples'])
    self.is_live = False
    self.result = result.make(self, generated, members, why)
    if hosts.is_first():
      title = f'{self.name}: {self.work.config.method.name} on {self.work.config.task}'
      curve.draw(folder, self.progress['points'], self.history, self.metric, title)
      writers.write_json(folder / 'result.json', self.result)
    if self._texts:  # Not before: until then the texts may have to be scored again.
      self._texts.remove()

  def fail(self, folder: Path) -> None:
    """Ends a run that diverged with a `failed.json`."""
    self.is_live = False
    writers.write_json(folder / rundir.FAILED, {'error': self.error, **result.of_run(self)})

  def charge(self, seconds: Mapping[str, float], programs: Programs) -> None:
    """Adds seconds by purpose, and programs."""
    for added, own in (
      (seconds, self.progress['seconds']),
      (programs._asdict(), self.progress['programs']),
    ):
      for name, value in added.items():
        own[name] = own.get(name, 0) + value

  @property
  def history(self) -> list[dict[str, float]]:
    """The evaluations so far."""
    return self.progress['history']

  @property
  def entries(self) -> list[dict[str, float]]:
    """The lines of `metrics.jsonl` so far: the training curve and the evaluations."""
    return curve.merged(self.progress['points'], self.history)

  @property
  def best(self) -> dict[str, float] | None:
    """The evaluation with the best finite score, of equals the earliest; None if there is none."""
    finite = [entry for entry in self.history if math.isfinite(entry[self.metric])]
    return max(finite, key=self.score, default=None)

  @property
  def last_score(self) -> float | None:
    """The score of the last evaluation; None if it is not finite, which no score is worse than."""
    score = self.score(self.history[-1])
    return score if math.isfinite(score) else None

  def score(self, entry: Mapping[str, float]) -> float:
    """The number that selects the best evaluation; higher is better."""
    value = entry[self.metric]
    return value if self.work.task.higher_is_better else -value


def not_finite(metrics: Metrics, first: int, schedule: optimizer.Schedule) -> str:
  """Names the first metric [K] of the steps after `first` that is not finite; '' if all are."""
  for name, values in metrics.items():
    for offset, value in enumerate(values):
      if not math.isfinite(value):
        return (
          f'{name} is {value} at step {first + offset + 1} (learning rate '
          f'{float(schedule(first + offset)):.3g}). {LOWER}'
        )
  return ''
