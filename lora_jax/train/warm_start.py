"""Warm starts: a run whose trainable parameters are initialized from another run or an adapter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from absl import logging
from ml_collections import config_dict

from lora_jax import fields, provenance, stacking, tree
from lora_jax.adapters import formats
from lora_jax.methods.initial import OF_WEIGHT
from lora_jax.pretrained import head, labels
from lora_jax.train import rundir
from lora_jax.train.base_options import head_choice
from lora_jax.train.job import Job, method_options, read_trainable
from lora_jax.tree import Params

SAME = ('name', 'rank', 'alpha', 'rslora', 'targets')  # Options that have to agree, between runs.
SAME_ADAPTER = ('name', 'alpha', 'rslora')  # Other formats write targets and ranks in other words.


class Source(NamedTuple):
  """The run or the adapter that a job starts from.

  Attributes:
    name: in errors: `init_adapter=` and its path.
    options: of its method.
    trained: its parameters.
    same: the options that have to agree with the job's.
    kind: of its task.
    label_names: of its classes; () where they have none.
  """

  name: str
  options: Mapping[str, object]
  trained: Params
  same: tuple[str, ...]
  kind: str
  label_names: tuple[str, ...]


def warm_start(job: Job, source: str | Path) -> tuple[Params, list[str]]:
  """The trainable parameters of a job, taken from another run or an adapter.

  A module of the head that has another shape keeps its own start: MNLI has three classes, RTE two.
  So does a head of other classes (by name; CoLA's of MRPC), or of classes without names, unless
  config.model.head is `keep`. Classes in another order are put in this task's.

  Args:
    job: the job to initialize.
    source: a run directory, or an adapter in any format (`adapters/formats.py`).

  Returns:
    the parameters, and the paths of the head that were not taken.

  Raises:
    ValueError: if the source trained other leaves than heads, or at another scale; if the head is
      to be kept and has other classes.
    FileNotFoundError: if there is nothing at `source`.
  """
  with provenance.part('init_adapter'):
    found = _read(job, source)
  _check_options(job, found)
  scanned = stacking.is_scanned(job.trainable)
  saved = tree.flatten(stacking.unstack(found.trained))
  own = tree.flatten(stacking.unstack(job.trainable))
  outputs = _outputs(job, found, own, saved)
  if outputs:
    saved = tree.flatten(head.reorder(job.model, tree.unflatten(saved), outputs))
  dropped = _dropped(job, found.name, own, saved, is_foreign=outputs is None)
  kept = {path: saved[path] for path in own if path not in dropped}
  start = tree.unflatten(own | kept)
  return stacking.stack(start, job.model.config.num_layers) if scanned else start, dropped


def _read(job: Job, path: str | Path) -> Source:
  name = f'init_adapter={path}'
  if rundir.is_run(path):
    config = rundir.read_config(path)
    _, trained = read_trainable(path, config, 'best')
    task = rundir.read_task(path)
    options = stacking.looped_patterns(config.method)
    return Source(name, options, trained, SAME, task.kind, task.label_names)
  one = formats.load_adapter(path, config=job.model.config)
  return Source(name, one.method, one.trainable, SAME_ADAPTER, one.task, one.label_names)


def _outputs(job: Job, source: Source, own: Params, saved: Params) -> tuple[int, ...] | None:
  """The source's outputs in the order of this task's; () as they are, None for a foreign head."""
  task, keeps = job.task, head_choice(job.config) == 'keep'
  output = head.output_part(job.model, own)
  if task.kind == 'lm' or any(x not in saved or saved[x].shape != own[x].shape for x in output):
    return ()  # There is none, or its shape decides.
  try:
    outputs = labels.order(source.label_names, task.label_names, source.name)
  except ValueError:
    if keeps:
      raise
    return None
  if outputs is not None:
    return () if outputs == tuple(range(len(outputs))) else outputs
  same = source.kind == task.kind == 'regression'  # Similarities have no names.
  if keeps and not same:
    logging.warning('%s: its head is kept; it names no classes', source.name)
  return () if keeps or same else None


def _check_options(job: Job, source: Source) -> None:
  """Raises a ValueError for options of the source's method that the job's has otherwise."""
  own = stacking.looped_patterns(method_options(job.config, job.model))
  differing = [
    f'{key}: {source.options.get(key)} in the source, {own.get(key)} in this config'
    for key in source.same
    if _plain(source.options.get(key)) != _plain(own.get(key))
  ]
  # These decide which leaves there are; PiSSA and OLoRA have the same, and take the source's.
  kinds = {'dora': bool, 'init': lambda init: init in OF_WEIGHT}
  for key, kind in kinds.items():
    values = [one.get(key, fields.METHOD[key].default) for one in (source.options, own)]
    if len(set(map(kind, values))) > 1:
      differing.append(f'{key}: {values[0]} in the source, {values[1]} in this config')
  if differing:
    raise ValueError(
      f'{source.name} was trained with other options: {"; ".join(differing)}. Give this '
      'config the same values (--config.method...), or leave init_adapter empty.'
    )


def _dropped(job: Job, name: str, own: Params, saved: Params, *, is_foreign: bool) -> list[str]:
  """Paths of the head's modules that the source has in another shape, or of other classes.

  Raises:
    ValueError: if other leaves than the head's differ.
  """
  paths = own.keys() | saved.keys()
  of_head = {path for path in paths if any(re.fullmatch(x, path) for x in job.model.head)}
  unfit = {
    path
    for path in paths
    if path not in own or path not in saved or own[path].shape != saved[path].shape
  }
  if unfit - of_head:
    raise ValueError(
      f'{name} does not fit: {sorted(unfit - of_head)} are missing in the source or '
      'in this run, or have another shape. Only a task head may differ.'
    )
  # A head goes by its modules, as in the authors' code: RoBERTa's is one module, whose dense layer
  # is dropped with its output; BERT's and DeBERTa's pooler is a module of its own, and stays.
  gone = [pattern for pattern in job.model.head if any(re.fullmatch(pattern, p) for p in unfit)]
  dropped = {p for p in own if any(re.fullmatch(pattern, p) for pattern in gone)}
  return sorted(dropped | set(head.output_part(job.model, own) if is_foreign else ()))


def _plain(value: object) -> object:
  """Values as JSON gives them back, so that a tuple equals a list."""
  value = value.to_dict() if isinstance(value, config_dict.ConfigDict) else value
  return list(value) if isinstance(value, tuple | list) else value
