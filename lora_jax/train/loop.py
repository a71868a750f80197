"""The one training loop: data, model, method, state, step, restore, loop, result."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import config_dict

from lora_jax.data import batches
from lora_jax.train import (
  evaluate,
  generate,
  hosts,
  job,
  mesh,
  optimizer,
  paths,
  prefetch,
  result,
  rundir,
  state,
  step,
  writers,
)


def train(config: config_dict.ConfigDict, workdir: str | Path) -> dict[str, Any]:
  """Trains what the config says, into a run directory, and returns its `result.json`.

  A directory that holds an unfinished run of the same config is gone on with, exactly: on one
  machine the result is that of a run that was never interrupted, bit by bit. A finished one is
  returned as it is.

  Raises:
    ValueError: for a config, data, checkpoint or mesh that does not fit, saying what to do; for a
      directory that holds a run of another config.
    FloatingPointError: at the step whose loss is not finite; the last good checkpoint stays.
    SystemExit: with status 143 after SIGTERM, when the state is saved; with several processes on
      all of them, whichever got the signal.
  """
  workdir = paths.path_of(workdir)
  rundir.check(workdir, config)
  if finished := rundir.read_result(workdir):
    logging.info('%s is finished', workdir)
    return finished
  devices = mesh.make_mesh(**config.mesh)
  return run(job.load(config, devices=devices), devices, workdir)


def run(work: job.Job, devices: jax.sharding.Mesh, workdir: Path) -> dict[str, Any]:
  """As `train`, for a job loaded onto devices, in a directory that is empty or this run's own."""
  config, task = work.config, work.task
  code = result.commit()  # Now: the checkout may change while the run goes on.
  training = make_batches(work, devices)
  held_out = evaluate.layouts(work, mesh.row_shares(devices))
  total_steps = training.steps_per_epoch * config.train.epochs
  tx, schedule = optimizer.make_optimizer(config.optim, total_steps)

  dropped: list[str] = []
  trainable = work.trainable
  if config.init_adapter:
    trainable, dropped = job.warm_start(work, config.init_adapter)
    if dropped:
      logging.warning('init_adapter: the task head is new, dropped: %s', ', '.join(dropped))
  if hosts.is_first():
    print(work.summary, flush=True)

  family = work.model.config.family
  frozen = work.frozen
  now, placed = place_state(trainable, tx, config.seed, devices, family)
  train_step = step.make_train_step(
    work.apply,
    tx,
    task.kind,
    smoothing=config.train.label_smoothing,
    accumulate=config.train.accumulate,
    shardings=placed,
  )
  eval_step = step.make_eval_step(work.apply, task.kind, mesh.replicated(devices))
  clock = result.Clock()

  def evaluated(trainable: Any) -> dict[str, float]:
    def outputs_of(batch: Any) -> Any:
      with clock.compiling_if_new('evaluation', batch):
        return eval_step(frozen, trainable, mesh.put(dict(batch), split))

    split = mesh.evaluation_rows(devices)
    with clock.measure('evaluation'):
      return dict(evaluate.evaluate(outputs_of, task, held_out))

  decode, texts = config.decode, None
  if decode.contexts or decode.final:
    texts = generate.make_generator(work, decode, devices)
  final = job.load_prompts(config, decode.final) if decode.final else None

  # The directory is this run's from here on: a mistake in the config has shown itself by now.
  rundir.begin(workdir, config)
  checkpoints = state.Checkpoints(workdir, config.checkpoint.keep)
  progress = {'history': [], 'loss_sum': 0.0, 'losses': 0, 'examples': 0, 'tokens': 0, 'slots': 0}
  restored = checkpoints.restore(now)
  if restored is not None:
    now, saved = restored
    progress |= saved
    clock.add(saved['seconds'])
  done = int(now.step)
  writer = writers.Writer(
    workdir,
    total_steps=total_steps,
    resume_step=done if restored else None,
    active=hosts.is_first(),
  )
  eval_every, save_every = intervals(config, training.steps_per_epoch)

  def account(first: int, metrics: Any) -> None:
    """Waits for a dispatch's metrics, checks them and adds them to the sums."""
    metrics = {name: np.asarray(value, np.float64) for name, value in metrics.items()}
    if problem := not_finite(metrics, first, schedule):
      last = checkpoints.last_step()
      kept = f'the checkpoint of step {last} stays' if last is not None else 'no step was saved'
      raise FloatingPointError(f'{problem} {kept.capitalize()} in {workdir}.')
    progress['loss_sum'] += float(metrics['loss'].sum())
    progress['losses'] += len(metrics['loss'])
    progress['grad_norm'] = float(metrics['grad_norm'][-1])
    for name in ('examples', 'tokens', 'slots'):
      progress[name] += int(metrics[name].sum())
    writer.progress(first + len(metrics['loss']), metrics['loss'][-1], progress['examples'])

  def save(score: float | None = None) -> None:
    checkpoints.save(now, {**progress, 'seconds': clock.seconds()}, score)

  with contextlib.closing(checkpoints), writer, rundir.interruption() as interrupted:
    clock.start()
    running = None
    for fed in prefetch.prefetch(
      upcoming(training, done, total_steps), mesh.rows(devices), training.host_shard
    ):
      with clock.compiling_if_new('training', fed):
        now, metrics = train_step(now, frozen, fed)
      if running:  # The dispatch before: waiting for it leaves the devices this one to work on.
        account(*running)
      first, done = done, done + len(fed['input_ids'])
      running = first, metrics
      stopping = hosts.stopping(interrupted, first, done)
      evaluating = crosses(first, done, eval_every) or done == total_steps
      if not (evaluating or crosses(first, done, save_every) or stopping):
        continue
      account(*running)
      running = None
      if evaluating:
        record = record_of(progress, done, training, schedule) | evaluated(now.trainable)
        if decode.contexts:
          with clock.measure('decoding'):
            scores, examples = generate.sample(work, texts, frozen, now.trainable)
          record |= scores
          writer.write_texts(done, examples)
        progress['history'] = [*progress['history'], {'step': done, **record}]
        progress |= {'loss_sum': 0.0, 'losses': 0}
        writer.write(done, record)
        writer.show(done, record)
        save(result.score(task, record))
      else:
        save()
      if stopping:
        raise SystemExit(143)  # As a process ended by SIGTERM; the next start goes on from here.
    generated = None
    if final:
      best = checkpoints.restore_trainable(checkpoints.best_step(), now.trainable)
      path = workdir / f'predictions-{decode.final}.txt'
      with clock.measure('decoding'):
        generated = generate.report(
          work, decode, functools.partial(texts, frozen, best), decode.final, final, path
        )
      writer.write_texts(done, generated['examples'])
    clock.stop()

  seconds = clock.seconds()
  summary = result.make(work, progress, seconds, training, devices, dropped, code, generated)
  if hosts.is_first():
    writers.write_json(workdir / 'result.json', summary)
  return summary


def place_state(
  trainable: Any, tx: Any, seed: int, devices: Any, family: str
) -> tuple[state.TrainState, state.TrainState]:
  """The state before the first update, and where it lies; no device ever holds more than that."""
  init = lambda trainable: state.init_state(trainable, tx, seed)
  placed = mesh.state_shardings(jax.eval_shape(init, trainable), devices, family)
  trainable = mesh.put(trainable, placed.trainable)
  return jax.jit(init, out_shardings=placed)(trainable), placed


def make_batches(work: job.Job, devices: jax.sharding.Mesh) -> batches.Batches:
  """The training batches, as the config lays them out."""
  config = work.config
  return batches.Batches(
    work.task.train,
    batch_size=config.train.batch_size,
    seed=config.seed,
    rows_multiple=mesh.check_batch(devices, config.train.batch_size, config.train.accumulate),
    group=config.train.steps_per_call,
    layout=config.data.batching,
    max_length=work.max_length,
    row_length=config.data.row_length,
    max_shapes=config.data.max_shapes,
    prediction_cost=prediction_cost(work.model.config),
    host_shard=mesh.host_shard(devices),
  )


def prediction_cost(architecture: Any) -> float:
  """Cost of a language model's output at a position, over that of the position's layers."""
  layers = 12 * architecture.num_layers * architecture.hidden_size
  return architecture.vocab_size / layers


def upcoming(training: batches.Batches, done: int, total_steps: int) -> Iterator[Any]:
  """Batches from a step on, each with a leading axis of updates."""
  while done < total_steps:
    epoch, start = divmod(done, training.steps_per_epoch)
    for batch in training.epoch(epoch, start):
      yield batch
      done += len(batch['input_ids'])


def intervals(config: config_dict.ConfigDict, steps_per_epoch: int) -> tuple[int, int]:
  """Steps between evaluations, and between checkpoints."""
  every = config.eval.every_steps or config.eval.every_epochs * steps_per_epoch
  return every, config.checkpoint.every_steps or steps_per_epoch


def crosses(first: int, last: int, every: int) -> bool:
  """Whether a multiple of `every` lies in (first, last]: a dispatch may make several steps."""
  return last // every > first // every


def not_finite(metrics: dict[str, np.ndarray], first: int, schedule: Any) -> str:
  """What is not finite in the metrics [K] of the steps after `first`, or '', and what to do."""
  for name, values in metrics.items():
    for offset, value in enumerate(values):
      if not math.isfinite(value):
        return (
          f'{name} is {value} at step {first + offset + 1} (learning rate '
          f'{float(schedule(first + offset)):.3g}). Lower config.optim.lr, lengthen the warm-up, '
          'or set config.optim.clip.'
        )
  return ''


def record_of(
  progress: dict[str, Any], done: int, training: batches.Batches, schedule: Any
) -> dict[str, float]:
  """What an evaluation after `done` steps says of the training since the last one."""
  return {
    'epoch': done / training.steps_per_epoch,
    'train/loss': progress['loss_sum'] / progress['losses'],
    'train/grad_norm': progress['grad_norm'],
    'train/learning_rate': float(schedule(done - 1)),
  }
