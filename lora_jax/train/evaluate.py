"""Evaluation: the outputs for each example of the held-out splits, and their metrics."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lora_jax import methods
from lora_jax.adapters import merging
from lora_jax.data import batches, tasks
from lora_jax.data.layout import Batch
from lora_jax.train import estimate, job, mesh, rundir, step
from lora_jax.tree import Params

HostBatch = Batch[np.ndarray]
# Batches of a held-out split, each with the outputs [R, E] of its prediction positions.
Outputs = Sequence[tuple[HostBatch, Mapping[str, jax.Array | np.ndarray]]]
Computed = Mapping[str, Outputs]  # By split.


def compute(
  outputs_of: Callable[[HostBatch], Mapping[str, jax.Array]],
  splits: Mapping[str, Sequence[HostBatch]],
) -> Computed:
  """The outputs of each split's batches. All are dispatched, and none is waited for.

  Args:
    outputs_of: the outputs of a batch's prediction positions, as `step.make_eval_step` gives them.
    splits: each split's batches, as `layouts` gives them.
  """
  return {
    split: [(batch, outputs_of(batch)) for batch in batches] for split, batches in splits.items()
  }


def of_member(computed: Computed, place: int, width: int) -> Computed:
  """One member's outputs among those of `width` members, [R, E] of [width, R, E]."""
  member = lambda value, batch: np.asarray(value).reshape(width, *batch['index'].shape)[place]
  return {
    split: [
      (batch, {name: member(value, batch) for name, value in values.items()})
      for batch, values in outputs
    ]
    for split, outputs in computed.items()
  }


def evaluate(task: tasks.Task, computed: Computed) -> Iterator[tuple[str, float]]:
  """Yields (`split/metric`, value) for each split: its mean loss and the task's metrics.

  Args:
    task: whose labels and metric are used.
    computed: the outputs of the splits.

  Raises:
    FloatingPointError: for outputs that are not finite, naming the split and how many they are.
    ValueError: for a split without labels.
  """
  for split, batches_of in computed.items():
    dataset = task.evals[split]
    check_finite(split, batches_of, len(dataset.ids))
    outputs, loss, weight = collect(batches_of, len(dataset.ids))
    yield f'{split}/loss', loss / weight
    if task.kind == 'lm':
      # Per target token; without smoothing, as the authors' validation loss.
      yield f'{split}/perplexity', perplexity(loss / weight)
    else:
      if task.score is None or dataset.labels is None:
        raise ValueError(f'{task.name} {split}: there are no labels to score predictions with')
      for name, value in task.score(dataset.labels, outputs['prediction']).items():
        yield f'{split}/{name}', float(value)


def perplexity(loss: float) -> float:
  """exp(loss); infinity where that exceeds the largest float."""
  try:
    return math.exp(loss)
  except OverflowError:
    return math.inf


def check_finite(split: str, computed: Outputs, size: int) -> None:
  """Raises a FloatingPointError if examples of a split of `size` have an output that is not finite.

  The argmax of NaN is class 0: a model that has diverged would have the accuracy of that class.
  """
  bad: set[int] = set()
  for batch, values in computed:
    finite = np.all([np.isfinite(np.asarray(value)) for value in values.values()], axis=0)
    bad |= set(batch['index'][~finite & (batch['index'] >= 0)].tolist())
  if bad:
    raise FloatingPointError(
      f"{split}: the model's outputs are not finite for {len(bad)} of {size} examples"
    )


def layouts(
  work: job.Job, rows_multiple: int = 1, shape_cost: float = 0.0
) -> dict[str, list[HostBatch]]:
  """The batches of each held-out split, as the config lays them out.

  Args:
    work: the job.
    rows_multiple: divides the rows of a batch.
    shape_cost: what one more shape costs, in tokens of a pass: see `batches.eval_batches`.
  """
  data = work.config.data
  return {
    split: list(
      batches.eval_batches(
        dataset,
        work.config.train.eval_batch_size,
        layout=data.batching,
        max_length=work.max_length,
        row_length=data.row_length,
        rows_multiple=rows_multiple,
        shape_cost=shape_cost,
      )
    )
    for split, dataset in work.task.evals.items()
  }


def collect(computed: Outputs, size: int) -> tuple[dict[str, np.ndarray], float, float]:
  """Each example's outputs in the dataset's order, the summed loss, the number of predictions."""
  collected: dict[str, list[np.ndarray]] = {}
  loss = weight = 0.0
  for batch, values in computed:
    outputs = {name: np.asarray(value) for name, value in values.items()}
    loss += float((outputs.pop('loss').astype(np.float64) * batch['weights']).sum())
    weight += float(batch['weights'].sum())
    for name, value in outputs.items():
      collected.setdefault(name, []).append(value)
  index = [batch['index'] for batch, _ in computed]
  ordered = {name: batches.collect(index, values, size) for name, values in collected.items()}
  return ordered, loss, weight


def evaluate_run(
  workdir: str | Path, *, which: str = 'best', splits: Sequence[str] = ()
) -> dict[str, Any]:
  """Evaluates a run directory's checkpoint, adapted and merged, on all devices.

  Args:
    workdir: the run directory.
    which: `best` or `last` checkpoint.
    splits: splits of the task to evaluate on; none means its held-out ones.

  Returns:
    `adapted` and `merged` with the metrics of each, and `largest_logit_difference` between the two
    over all prediction positions. For a method that cannot be merged, `merged` is the reason.
    `changed_inputs` lists the files that differ from those that the run was made from, if there are
    any and they are allowed.

  Raises:
    FloatingPointError: for outputs that are not finite.
    ValueError: for a split without labels, as `tasks.check_labeled`.
  """
  config = rundir.read_config(workdir)
  tasks.check_labeled(config.task, splits)
  devices = mesh.for_run(config.mesh)
  work, trainable = job.load_run(workdir, which, evals=splits, devices=devices)
  frozen = work.frozen
  _, shape_tokens = estimate.shape_tokens(work, mesh.platform(devices))
  held_out = layouts(work, mesh.row_shares(devices), shape_tokens)
  placed = lambda batch: mesh.put(dict(batch), mesh.evaluation_rows(devices))
  whole = mesh.replicated(devices)  # What every process reads.
  adapted_step = step.make_eval_step(work.apply, work.task.kind, whole, work.family)
  adapted = lambda batch: adapted_step(frozen, trainable, placed(batch))
  report: dict[str, Any] = {'adapted': dict(evaluate(work.task, compute(adapted, held_out)))}
  if work.changed:
    report['changed_inputs'] = list(work.changed)
  try:
    merge = jax.jit(work.method.merge)
    merged_params, _ = merging.merge(merge, frozen, trainable, str(workdir))
  except ValueError as error:
    return report | {'merged': f'not possible: {error}'}
  plain = methods.bind(work.model.apply, methods.full())
  merged_step = step.make_eval_step(plain, work.task.kind, whole, work.family)
  merged = lambda batch: merged_step({}, merged_params, placed(batch))
  report['merged'] = dict(evaluate(work.task, compute(merged, held_out)))

  @functools.partial(jax.jit, out_shardings=whole)
  def difference(frozen: Params, trainable: Params, merged: Params, batch: step.Batch) -> jax.Array:
    inputs = step.model_inputs(batch)
    change = work.apply(frozen, trainable, **inputs) - plain({}, merged, **inputs)
    return jnp.max(jnp.abs(change) * batch['weights'][..., None])

  report['largest_logit_difference'] = max(
    float(difference(frozen, trainable, merged_params, placed(batch)))
    for split in held_out.values()
    for batch in split
  )
  return report
