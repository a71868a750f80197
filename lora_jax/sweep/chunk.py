"""Trains lanes as one program: load, state, step, restore, loop, and each lane's run directory."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lora_jax.sweep import lanes, step
from lora_jax.sweep.grouping import Lane
from lora_jax.sweep.lane import Run, frozen_of
from lora_jax.train import evaluate, generate, job, loop, mesh, prefetch, result, rundir, state


def train(chunk: Sequence[Lane], workdir: Path, folder: Path, lost: threading.Event) -> None:
  """Trains lanes of one program to their ends, into `workdir / lane.name`.

  Args:
    chunk: the lanes.
    workdir: the sweep's folder.
    folder: of this chunk, where the stacked state is kept; goes on from there if it has one.
    lost: set when another machine has taken the lanes over.

  Raises:
    ValueError: as `loop.train`.
    SystemExit: with status 143 after SIGTERM or when the lanes are lost, the state being saved.
  """
  code = result.commit()
  saved = None
  if folder.exists():
    with contextlib.closing(state.Checkpoints(folder)) as earlier:
      saved = earlier.last_progress()
  if saved:  # The lanes that it began with: they gave the stacked arrays their shapes.
    chunk = [lane for lane in chunk if lane.name in saved['runs']]
  devices = mesh.make_mesh(**chunk[0].config.mesh)
  works = lanes.load([lane.config for lane in chunk], devices)
  first = works[0]
  config = first.config
  seeds = [work.config.seed for work in works]
  shared = len(set(seeds)) == 1
  by_seed = {work.config.seed: loop.make_batches(work, devices) for work in works}
  runs = [
    Run(lane.name, workdir / lane.name, work, by_seed[work.config.seed], devices, code)
    for lane, work in zip(chunk, works)
  ]
  held_out = evaluate.layouts(first, mesh.row_shares(devices))
  eval_every, save_every = loop.intervals(config, runs[0].training.steps_per_epoch)
  frozen = first.frozen
  every_lane = lanes.per_lane(works, [run.total_steps for run in runs])
  now = step.init_state(first, lanes.stacked([run.start for run in runs]), seeds, shared)
  best = jax.tree.map(jnp.array, now.trainable)
  train_step = step.make_train_step(first, shared)
  eval_step = step.make_eval_step(first)
  texts = None
  if config.decode.contexts or config.decode.final:
    texts = generate.make_generator(first, config.decode, devices)
  final = job.load_prompts(config, config.decode.final) if config.decode.final else None
  clock = result.Clock()

  at = list(range(len(runs)))  # The run of each lane of the stacked state.
  checkpoints = state.Checkpoints(folder, config.checkpoint.keep)
  if saved:
    at = [[run.name for run in runs].index(name) for name in saved['lanes']]
    now, best = lanes.taken_state(now, at, shared), lanes.taken(best, at)
    restored, _ = checkpoints.restore(now._replace(trainable={'now': now.trainable, 'best': best}))
    now, best = restored._replace(trainable=restored.trainable['now']), restored.trainable['best']
    for run in runs:
      run.progress |= saved['runs'][run.name]
  done = int(now.step)

  def outputs_of(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    with clock.compiling_if_new(f'evaluation of {len(at)}', batch):
      rows = mesh.evaluation_rows(devices) if len(at) % devices.size else mesh.replicated(devices)
      placed = jax.device_put(dict(batch), rows)
      return {**batch, 'outputs': eval_step(frozen, per_lane, now.trainable, placed)}

  def save() -> None:
    share()
    stacked = now._replace(trainable={'now': now.trainable, 'best': best})
    progress = {
      'lanes': [runs[i].name for i in at], 'runs': {run.name: run.progress for run in runs}
    }  # fmt: skip
    checkpoints.save(stacked, progress)

  def share() -> None:
    """Counts the seconds since the last time for the live lanes, in equal parts."""
    live = [run for run in runs if run.is_live]
    for name, seconds in clock.seconds().items():
      passed = seconds - counted.get(name, 0.0)
      counted[name] = seconds
      for run in live:
        run.progress['seconds'][name] = run.progress['seconds'].get(name, 0.0) + passed / len(live)

  def account(before: int, metrics: Any) -> None:
    """Waits for a dispatch's metrics and gives each run its own."""
    metrics = {name: np.asarray(value, np.float64) for name, value in metrics.items()}
    for place, i in enumerate(at):
      runs[i].account(before, {name: x[:, place] for name, x in metrics.items()})

  counted: dict[str, float] = {}
  with contextlib.closing(checkpoints), rundir.interruption() as interrupted:
    clock.start()
    while live := [run for run in runs if run.is_live]:
      at, index = narrowed(at, runs)
      now, best = lanes.taken_state(now, index, shared), lanes.taken(best, index)
      split = functools.partial(mesh.lanes, devices, len(at))
      now = jax.device_put(now, lanes.shardings(now, split(), mesh.replicated(devices), shared))
      best = jax.device_put(best, split())
      per_lane = jax.device_put(lanes.taken(every_lane, at), split())
      until = max(run.total_steps for run in live)
      if shared:
        batches, rows = loop.upcoming(runs[at[0]].training, done, until), mesh.rows(devices)
        rows = rows if len(at) % devices.size else mesh.replicated(devices)
      else:
        batches = upcoming(by_seed, [seeds[i] for i in at], done, until)
        rows = split(axis=1)
      running = None
      for fed in prefetch.prefetch(batches, rows):
        with clock.compiling_if_new(f'training of {len(at)}', fed):
          now, metrics = train_step(now, frozen, per_lane, fed)
        if running:  # The dispatch before, as in the loop of a single run.
          account(*running)
        before, done = done, done + len(fed['input_ids'])
        running = before, metrics
        stopped = interrupted.is_set() or lost.is_set()
        ending = any(done == run.total_steps for run in runs if run.is_live)
        evaluating = loop.crosses(before, done, eval_every)
        if not (evaluating or ending or stopped or loop.crosses(before, done, save_every)):
          continue
        account(*running)
        running = None
        if evaluating or ending:
          with clock.measure('evaluation'):
            computed = {
              split: [outputs_of(batch) for batch in batches] for split, batches in held_out.items()
            }
            due = {
              place: runs[i]
              for place, i in enumerate(at)
              if runs[i].is_live and (evaluating or done == runs[i].total_steps)
            }
            improved = np.zeros(len(at), bool)
            for place, run in due.items():
              improved[place] = run.evaluate(done, computed, place)
          best = lanes.chosen(improved, now.trainable, best)
          if config.decode.contexts:
            with clock.measure('decoding'):
              for place, run in due.items():
                parts = frozen_of(frozen, per_lane.scales, place)
                run.sample(texts, parts, lanes.taken(now.trainable, place))
          report(done, until, list(due.values()))
          share()
          for place, i in enumerate(at):
            if runs[i].is_live and (runs[i].error or done == runs[i].total_steps):
              decoder = None
              if final and not runs[i].error:
                parts = frozen_of(frozen, per_lane.scales, place)
                decoder = functools.partial(texts, parts, lanes.taken(best, place))
              own = lanes.lane_state(now, place, shared)
              with clock.measure('decoding') if decoder else contextlib.nullcontext():
                runs[i].finish(own, lanes.taken(best, place), decoder, final, len(chunk))
        if not lost.is_set() and any(run.is_live for run in runs):
          save()
        if stopped:
          raise SystemExit(143)
        if len(narrowed(at, runs)[0]) < len(at):
          break
    clock.stop()


def narrowed(at: list[int], runs: Sequence[Run]) -> tuple[list[int], list[int]]:
  """The lanes to go on with, and their places in `at`.

  The width is halved while the live lanes fit into half of it: each width is a compilation. What
  room is left is filled with ended lanes, whose state is no longer looked at.
  """
  width = len(at)
  live = [place for place, i in enumerate(at) if runs[i].is_live]
  while width > 1 and len(live) <= width // 2:
    width //= 2
  rest = [place for place in range(len(at)) if place not in live]
  index = sorted([*live, *rest[: width - len(live)]])
  return [at[place] for place in index], index


def upcoming(by_seed: Mapping[int, Any], seeds: Sequence[int], done: int, until: int) -> Iterator:
  """As `loop.upcoming`, of lanes with their own batches: [K, lanes, rows, ...].

  Batches of one step are padded to one shape, with rows, columns and read-outs that hold nothing.
  """
  streams = {seed: loop.upcoming(by_seed[seed], done, until) for seed in dict.fromkeys(seeds)}
  for parts in zip(*streams.values(), strict=True):
    part = dict(zip(streams, parts))
    batch = {}
    for name in parts[0]:
      arrays = [part[seed][name] for seed in seeds]
      shape = np.max([x.shape for x in arrays], axis=0)
      padded = [
        np.pad(
          x,
          [(0, most - size) for most, size in zip(shape, x.shape)],
          constant_values=-1 if name == 'index' else 0,
        )
        for x in arrays
      ]
      batch[name] = np.stack(padded, axis=1)
    yield batch


def report(done: int, until: int, runs: Sequence[Run]) -> None:
  """A line about an evaluation: the range of the metric and of the loss over its lanes."""
  shown = [f'{run.name}: {run.error}' for run in runs if run.error]
  good = [run for run in runs if not run.error]
  for name in (good[0].metric, 'train/loss') if good else ():
    values = [run.progress['history'][-1][name] for run in good]
    shown.append(f'{name} {min(values):.4f} to {max(values):.4f}')
  print(f'step {done}/{until}, lanes {len(runs)}', *shown, sep=', ', file=sys.stderr, flush=True)
