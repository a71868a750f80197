"""The training loop. It is the only one: a run is one record, a sweep's group is several.

What advances is an engine (`engine.py`): `single.Single` holds one state on a mesh, and
`sweep.stacked.Stacked` the states of several runs on a leading axis. Both only read the frozen
part; their step (`step.py`) differentiates the loss with respect to the trainable part and updates
it, and nothing else is saved. What accounts for a run is its record (`record.py`): sums of metrics,
evaluations, scores.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import config_dict

from lora_jax import provenance
from lora_jax.result_schema import RunResult
from lora_jax.train import check, evaluate, hosts, job, mesh, paths, result, rundir, setup, single
from lora_jax.train.config_check import check_config
from lora_jax.train.engine import Engine
from lora_jax.train.record import Record
from lora_jax.train.step import Metrics


def train(config: config_dict.ConfigDict, workdir: str | Path) -> RunResult:
  """Trains what the config says, into a run directory, and returns its `result.json`.

  If the directory holds an unfinished run of the same config, training resumes from its last
  checkpoint; on one machine the result is bit-identical to that of an uninterrupted run. The result
  of a finished run is returned as it is.

  Raises:
    ValueError: for a config, data, checkpoint or mesh that does not fit, saying what to do; for a
      directory that holds a run of another config or of files that have changed since, or in which
      another process trains.
    FloatingPointError: at a step or an evaluation that is not finite; the last checkpoint stays,
      and the next start says so at once.
    OSError: if something cannot be written; what was saved before stays.
    SystemExit: with status 143 after SIGTERM, 130 after SIGINT (Ctrl-C), when the state is saved;
      with several processes with 143 on all of them, whichever got the signal.
  """
  check_config(config)
  rundir.check_processes(config)
  workdir = paths.path_of(workdir)
  rundir.check(workdir, config)
  config = rundir.as_begun(workdir, config)
  if finished := rundir.if_whole(check.read_result, workdir):
    logging.info('%s is finished', workdir)
    return finished
  rundir.check_diverged(workdir)
  code = result.commit()  # Now: the checkout may change while the run goes on.
  devices = mesh.make_mesh(**config.mesh)
  with provenance.recording() as read:
    work = job.load(config, devices=devices)
    record = Record(workdir.name, work, setup.make_batches(work, devices), devices, code)
    if record.dropped:
      logging.warning('init_adapter: the task head is new: %s', ', '.join(record.dropped))
    if hosts.is_first():
      print(work.summary, flush=True)
    with single.open_run(record, workdir, read) as engine:
      fit(engine)
  return record.result


def fit(engine: Engine) -> None:
  """Trains the members of an engine to their ends.

  Raises:
    FloatingPointError, SystemExit: as `train`.
  """
  for record in engine.members:  # A run that was stopped between its last step and its end.
    if record.is_over(engine.done):
      engine.finish(record)
  pending = None
  for batch in engine.batches():
    first, metrics = engine.done, engine.advance(batch)
    if pending:  # Waiting for the dispatch before it leaves the devices this one to work on.
      account(engine, *pending)
    pending = first, engine.done, metrics
    stopping = engine.is_stopping(first)
    due = [record for record in engine.members if record.is_due(first, engine.done)]
    if not (due or stopping or setup.crosses(first, engine.done, engine.tools.save_every)):
      continue
    account(engine, *pending)
    pending = None
    if due:
      evaluate_members(engine, due)
    engine.save(evaluated=bool(due))
    if stopping:
      raise SystemExit(engine.stopped())  # The next start resumes from here.
    for record in due:
      if record.is_over(engine.done):
        engine.finish(record)


def account(engine: Engine, first: int, last: int, metrics: Metrics) -> None:
  """Waits for the metrics of the updates in (first, last] and adds them to the records."""
  width = len(engine.members)
  by_member = {name: np.asarray(x, np.float64).reshape(-1, width) for name, x in metrics.items()}
  for place, record in enumerate(engine.members):
    record.add(first, {name: x[: last - first, place] for name, x in by_member.items()})
  engine.check()


def evaluate_members(engine: Engine, due: Sequence[Record]) -> None:
  """Evaluates the members that are due on the held-out splits, and decodes a few texts of each."""
  tools, width = engine.tools, len(engine.members)
  with engine.clock.measure('evaluation'):
    computed = evaluate.compute(engine.outputs, tools.held_out)
    improved = [
      record
      for place, record in enumerate(engine.members)
      if record in due and record.evaluate(engine.done, evaluate.of_member(computed, place, width))
    ]
  engine.keep_best(improved)
  examples: list[list[dict[str, str]]] = []
  if tools.texts and due[0].work.config.decode.contexts:
    with engine.clock.measure('decoding'):
      examples = [record.sample(tools.texts, *engine.parts(record)) for record in due]
  engine.check()
  engine.show(due, examples)
