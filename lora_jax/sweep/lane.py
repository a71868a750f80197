"""The run of one lane beside others: what the host knows of it, and what it leaves."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lora_jax import tree
from lora_jax.sweep import lanes
from lora_jax.train import evaluate, generate, job, loop, optimizer, result, state, writers

FAILED = 'failed.json'  # In the place of result.json: the run diverged.


class Run:
  """The run of one lane.

  Attributes:
    name: of its run directory.
    work: its job.
    training: its batches.
    total_steps: where it ends.
    start: what is trained, as it begins.
    progress: as that of `loop.run`, as JSON.
    metric: the name of the metric that selects its best evaluation.
    error: what is not finite since when; it ends at the next evaluation.
    is_live: whether it goes on, having neither ended nor failed in its folder.
  """

  def __init__(
    self,
    name: str,
    folder: Path,
    work: job.Job,
    training: Any,
    devices: jax.sharding.Mesh,
    code: str,
  ):
    self.name, self.work, self.training = name, work, training
    self.total_steps = training.steps_per_epoch * work.config.train.epochs
    self.start, self._dropped = work.trainable, []
    if work.config.init_adapter:
      self.start, self._dropped = job.warm_start(work, work.config.init_adapter)
    self.metric = f'{next(iter(work.task.evals))}/{work.task.metric}'
    self.progress: dict[str, Any] = {
      'history': [], 'loss_sum': 0.0, 'losses': 0, 'examples': 0, 'tokens': 0, 'slots': 0,
      'seconds': {},
    }  # fmt: skip
    self.error = ''
    self.is_live = not any((folder / name).exists() for name in ('result.json', FAILED))
    self._folder, self._devices, self._code = folder, devices, code
    self._tx, self._schedule = optimizer.make_optimizer(work.config.optim, self.total_steps)

  def account(self, first: int, metrics: Mapping[str, np.ndarray]) -> None:
    """Adds a dispatch's metrics [K] to the sums, unless the run has ended or is lost."""
    if self.error or first >= self.total_steps or not self.is_live:
      return
    if found := loop.not_finite(metrics, first, self._schedule):
      self.error = found
      return
    progress = self.progress
    progress['loss_sum'] += float(metrics['loss'].sum())
    progress['losses'] += len(metrics['loss'])
    progress['grad_norm'] = float(metrics['grad_norm'][-1])
    for name in ('examples', 'tokens', 'slots'):
      progress[name] += int(metrics[name].sum())

  def evaluate(self, done: int, computed: Mapping[str, Any], place: int) -> bool:
    """Adds an evaluation to the history; returns whether it is the best so far.

    Args:
      done: number of updates.
      computed: the batches of each split, with the outputs of all lanes under `outputs`.
      place: of this lane in them.
    """
    if self.error:
      return False
    outputs_of = lambda batch: {name: x[place] for name, x in batch['outputs'].items()}
    progress = self.progress
    record = {
      'step': done,
      **loop.record_of(progress, done, self.training, self._schedule),
      **dict(evaluate.evaluate(outputs_of, self.work.task, computed)),
    }
    scores = [self._score(one) for one in progress['history']]
    progress['history'] = [*progress['history'], record]
    progress |= {'loss_sum': 0.0, 'losses': 0}
    return not scores or self._score(record) > max(scores)

  def sample(self, texts: generate.Texts, frozen: Any, trainable: Any) -> None:
    """Adds the scores of a few decoded texts to the last evaluation."""
    if not self.error:
      scores, _ = generate.sample(self.work, texts, frozen, trainable)
      self.progress['history'][-1] |= scores

  def finish(self, now: state.TrainState, best: Any, texts: Any, prompts: Any, width: int) -> None:
    """Writes the run directory of a run that has ended or diverged, as a single run leaves it.

    Args:
      now: its state, padded.
      best: its parameters at the best evaluation, padded.
      texts: `texts(prompts)` of those parameters, None where nothing is decoded.
      prompts: the contexts of the split that is decoded.
      width: number of lanes that the program began with.
    """
    self.is_live = False
    shutil.rmtree(self._folder, ignore_errors=True)  # What a killed process had begun of it.
    self._folder.mkdir(parents=True)
    config, history = self.work.config, self.progress['history']
    writers.write_json(self._folder / 'config.json', json.loads(config.to_json_best_effort()))
    self._save(now, best)
    with writers.Writer(self._folder, total_steps=self.total_steps, stream=io.StringIO()) as writer:
      for record in history:
        writer.write(record['step'], {k: v for k, v in record.items() if k != 'step'})
      generated = None
      if texts:
        split = config.decode.final
        path = self._folder / f'predictions-{split}.txt'
        generated = generate.report(self.work, config.decode, texts, split, prompts, path)
        writer.write_texts(history[-1]['step'], generated['examples'])
    if self.error:
      writers.write_json(self._folder / FAILED, {'error': self.error, 'history': history})
      return
    summary = result.make(
      self.work, self.progress, self.progress['seconds'], self.training, self._devices,
      self._dropped, self._code, generated, width,
    )  # fmt: skip
    writers.write_json(self._folder / 'result.json', summary)

  def _save(self, now: state.TrainState, best: Any) -> None:
    """The checkpoints: of the best evaluation what was trained, of the end the whole state."""
    history = self.progress['history']
    if not history:
      return
    scores = [self._score(record) for record in history]
    step = history[scores.index(max(scores))]['step']
    checkpoints = state.Checkpoints(self._folder, self.work.config.checkpoint.keep)
    try:
      if self.error or step < int(now.step):
        best = lanes.fitted(best, self.work.trainable)
        checkpoints.save_trainable(step, best, self.progress, max(scores))
      if not self.error:
        like = state.init_state(self.work.trainable, self._tx, self.work.config.seed)
        checkpoints.save(lanes.fitted(now, like), self.progress, scores[-1])
    finally:
      checkpoints.close()

  def _score(self, record: Mapping[str, float]) -> float:
    return result.score(self.work.task, record)


def frozen_of(frozen: Any, scales: Any, place: int) -> dict[str, Any]:
  """The frozen part of one lane: the base and the scales of its factors."""
  return tree.join(frozen, lanes.taken(scales, place))
