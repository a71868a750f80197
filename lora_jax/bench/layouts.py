"""Seconds of an epoch by the layout of its batches."""

from __future__ import annotations

import collections
import functools

from ml_collections import ConfigDict

from lora_jax.bench.steps import Variant
from lora_jax.bench.timing import Measured, Rounds, Rows, in_turn
from lora_jax.data import batches, tasks


def epochs(config: ConfigDict, task: tasks.Task, max_length: int, rounds: Rounds) -> Measured:
  """Seconds of an epoch of a task in each layout, and their ratio to those of packing.

  An epoch's seconds are those of the distinct shapes of its batches, each timed, times how often
  each occurs; compiling is not in them.
  """
  variant = Variant(config, task)
  rows: Rows = {}
  for layout in batches.LAYOUTS:
    training = batches.Batches(
      task.train, batch_size=config.train.batch_size, seed=0, layout=layout, max_length=max_length
    )
    count, example = collections.Counter(), {}
    for batch in training.epoch(0):
      shape = str((batch['input_ids'].shape, batch['prediction_positions'].shape))
      count[shape] += 1
      example[shape] = batch
    timed = {
      shape: functools.partial(variant.seconds, one, rounds.dispatches)
      for shape, one in example.items()
    }
    seconds = in_turn(timed, rounds.count)
    rows[layout] = {
      'seconds': sum(count[shape] * seconds[shape] for shape in count),
      'shapes': len(count),
      'padding': training.padding,
    }
  for row in rows.values():
    row['seconds_ratio'] = row['seconds'] / rows['pack']['seconds']
  note = (
    'Seconds of an epoch by the layout of its batches, without compiling their shapes; ratios '
    'above 1 are what packing saves.'
  )
  return Measured(rows, note)
