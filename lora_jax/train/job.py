"""The job that a config describes: the task's data, the model, the method and its two parts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import config_dict

from lora_jax import files, methods, provenance, tree
from lora_jax.adapters import merging
from lora_jax.data import dataset, tasks, tokenizer_files
from lora_jax.models import fused_attention, presets
from lora_jax.models.presets import TOKENS
from lora_jax.pretrained import head, huggingface, labels, shards
from lora_jax.train import base_options, layer_choice, mesh, optimizer, paths, rundir
from lora_jax.train.checkpoints import Checkpoints
from lora_jax.tree import Params


class Job(NamedTuple):
  """Everything that training and evaluation share.

  Attributes:
    config: the run's config.
    task: its data and metric.
    model: the Flax module.
    method: the method that adapts the model.
    frozen: the pretrained leaves that stay, in the dtypes that the model declares.
    trainable: what is trained, at its start, float32. Both parts lie on the job's mesh.
    apply: `apply(frozen, trainable, **inputs)`.
    summary: the modules that the method matched, and counts.
    changed: of a run that was read again, a line for each file that differs from what it was.
  """

  config: config_dict.ConfigDict
  task: tasks.Task
  model: nn.Module
  method: methods.Method
  frozen: Params
  trainable: Params
  apply: Callable[..., jax.Array]
  summary: methods.Summary
  changed: Sequence[str] = ()

  @property
  def family(self) -> str:
    """The model's architecture (`gpt2`), which names the sharding rules of its leaves."""
    return self.model.config.family

  @property
  def groups(self) -> optimizer.Groups:
    """The leaves that the optimizer treats in their own way."""
    return optimizer.groups(self.method, self.frozen)

  @property
  def max_length(self) -> int:
    """Largest number of tokens of an example: the config's, and those that the method adds."""
    return self.config.data.max_length + sum(self.method.virtual)


def load(
  config: config_dict.ConfigDict, evals: Sequence[str] = (), devices: Mesh | None = None
) -> Job:
  """Loads data and model, and lets the method split the model's parameters.

  What the config leaves open is chosen, and the job's config has it (`layer_choice`).

  Args:
    config: the run's config.
    evals: splits to evaluate on, `config.eval.limit` examples each; none: the task's own choice.
    devices: the mesh on which both parts lie, see `mesh.shardings`; None is the default device.

  Raises:
    ValueError: as the data, the checkpoint, the method, the mesh and `check_ranges` say.
  """
  task = load_task(config, evals).with_evals_of(config.eval.limit)
  task.warn_of_truncation(config.data.max_length)
  platform = jax.default_backend() if devices is None else mesh.platform(devices)
  with provenance.part('base'):  # Its config, which is read again with its weights.
    [config] = layer_choice.settled([config], task, platform)
  return build(config, task, devices=devices)


def load_task(
  config: config_dict.ConfigDict, evals: Sequence[str] = (), limit: int | None = None
) -> tasks.Task:
  """The config's task; `limit` replaces the config's limit of training examples."""
  with provenance.part('tokenizer'):
    tokenizer = tokenizer_files.load_tokenizer(tokenizer_path(config))
  with provenance.part('data'):
    return tasks.load_task(
      config.task,
      tokenizer,
      source=config.data.source,
      data_dir=config.data.dir,
      max_length=config.data.max_length,
      limit=config.data.limit if limit is None else limit,
      seed=config.seed,
      evals=evals,
      own=rundir.own_files(config),
      general=config.eval.general_text,
    )


def load_prompts(config: config_dict.ConfigDict, split: str) -> dataset.Prompts:
  """The contexts of a split, which need not be one that the run evaluates on.

  Raises:
    ValueError: if the split has none.
  """
  task = load_task(config, (split,), limit=1)
  if split not in task.prompts:
    raise ValueError(f'{config.task} has no contexts to generate from in {split!r}')
  return task.prompts[split]


def build(
  config: config_dict.ConfigDict,
  task: tasks.Task,
  base: tuple[nn.Module, Params] | None = None,
  devices: Mesh | None = None,
) -> Job:
  """As `load`, for data that is loaded, and optionally for a model with its parameters.

  Args:
    config, task: the run's.
    base: the model and its parameters (`load_base`); None loads them.
    devices: as for `load`.
  """
  if base is None:
    with provenance.part('base'):
      base = load_base(config, task, devices)
  model, params = base
  check_ranges(config, task, model)
  method = make_method(config, model)
  frozen, trainable = divide(config, method, model, params)
  if devices is not None:
    family, follows = model.config.family, method.follows
    trainable = mesh.place(trainable, devices, family, trained=True, follows=follows)
  return assemble(config, task, model, method, frozen, trainable, devices)


def divide(
  config: config_dict.ConfigDict, method: methods.Method, model: nn.Module, params: Params
) -> tuple[Params, Params]:
  """The frozen and the trainable part of a model's parameters, which may be shapes alone.

  Raises:
    ValueError: as the method's init.
  """

  def init(params: Params) -> tuple[Params, Params]:
    frozen, trainable = method.init(jax.random.key(config.seed), model, params, TOKENS)
    return frozen, tree.cast(trainable, np.float32)

  is_abstract = any(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(params))
  return jax.eval_shape(init, params) if is_abstract else init(params)


def assemble(
  config: config_dict.ConfigDict,
  task: tasks.Task,
  model: nn.Module,
  method: methods.Method,
  frozen: Params,
  trainable: Params,
  devices: Mesh | None = None,
) -> Job:
  """The job of these parts, with the method's own tokens in the examples."""
  if task.kind != 'lm' and presets.is_decoder(model.config):
    task = task.reading_last()
  if sum(method.virtual):
    task = with_virtual(task, method.virtual, model)
  summary = methods.summarize(method, frozen, trainable, model.head)
  apply = methods.bind(model.apply, method)
  if devices is not None:
    apply = fused_attention.bound(apply, mesh.target(devices))
  return Job(config, task, model, method, frozen, trainable, apply, summary)


def with_virtual(task: tasks.Task, counts: tuple[int, int], model: nn.Module) -> tasks.Task:
  """The task with a method's tokens in its examples; prompts get theirs when they are decoded.

  Raises:
    ValueError: if the model has too few positions for them.
  """
  put = lambda data: dataset.with_virtual(data, model.config.vocab_size, counts)
  evals = {split: put(data) for split, data in task.evals.items()}
  every = (put(task.train), *evals.values())
  longest = max((len(ids) for data in every for ids in data.ids), default=0)
  if longest > model.config.max_positions:
    raise ValueError(
      f'{task.name}: with the {sum(counts)} tokens of the method an example has {longest}; the '
      f'model has {model.config.max_positions} positions. Lower config.data.max_length.'
    )
  return task._replace(train=put(task.train), evals=evals)


def make_method(config: config_dict.ConfigDict, model: nn.Module) -> methods.Method:
  """The config's method; the model's task head is always trained."""
  return methods.make(**method_options(config, model))


def method_options(config: config_dict.ConfigDict, model: nn.Module) -> dict[str, Any]:
  """The name and options of the config's method, the task head's paths among them."""
  options = config.method.to_dict()
  options['train'] = (*options.get('train', ()), *model.head)
  return options


def load_base(
  config: config_dict.ConfigDict, task: tasks.Task, devices: Mesh | None = None
) -> tuple[nn.Module, Params]:
  """The model and its parameters before adaptation: pretrained, fresh, or another run's result.

  Parameters are read or drawn where they lie, on `devices` or the default device; the adapter of a
  run is merged there.
  """
  name = config.model.name
  if rundir.is_run(name):
    model, params = _merged(config, task, devices)
    model = model.clone(**base_options.model_options(config))
    declared = tree.flatten(presets.abstract_params(model))
    leaves = tree.flatten(params)
    del params
    for path in leaves:  # One by one: a cast makes no second copy of the model.
      leaves[path] = leaves[path].astype(declared[path].dtype)
    params = base_options.quantized(config, tree.unflatten(leaves))
    return model, params if devices is None else mesh.place(params, devices, model.config.family)
  options = base_options.model_arguments(config, task) | {'seed': config.seed}
  quantize = base_options.quantization_of(config)
  if name == 'fresh':
    architecture = presets.architecture(**config.model.fresh)
    if quantize == 'none':
      options['place'] = _place(devices, architecture.family)
      return huggingface.fresh_model(architecture, **options)
    model, params = huggingface.fresh_model(architecture, **options)
    params = base_options.quantized(config, params)
    return model, params if devices is None else mesh.place(params, devices, architecture.family)
  folder = huggingface.locate(name)
  options['place'] = _place(devices, huggingface.read_config(folder).family)
  options['quantize'] = quantize
  keeps = task.kind != 'lm' and base_options.head_choice(config) == 'keep'
  options |= {'label_names': task.label_names} if keeps else {'fresh_head': task.kind != 'lm'}
  return huggingface.load_model(folder, **options)


def _place(devices: Mesh | None, family: str) -> shards.Place | None:
  return None if devices is None else lambda shapes: mesh.shardings(shapes, devices, family)


def _merged(
  config: config_dict.ConfigDict, task: tasks.Task, devices: Mesh | None
) -> tuple[nn.Module, Params]:
  """The model of another run, with its adapter merged, and the head that the config asks for."""
  workdir = config.model.name
  own = rundir.read_task(workdir)
  work, trainable = load_run(workdir, 'best', own, devices=devices)
  model, params = work.model, merging.merge(work.method.merge, work.frozen, trainable, workdir)[0]
  if task.kind == 'lm':
    return model, params
  if base_options.head_choice(config) == 'fresh':
    logging.info('%s: its head is not kept: a fresh one is drawn', workdir)
    model = model.clone(num_labels=task.num_labels)
    return model, head.fresh_output(model, params, config.seed)
  if (own.kind, own.num_labels) != (task.kind, task.num_labels):
    raise ValueError(
      f'{workdir}: its head is of a {own.kind} with {own.num_labels} outputs, {task.name} is a '
      f'{task.kind} with {task.num_labels}. Draw a fresh head (--config.model.head=fresh).'
    )
  outputs = labels.order(own.label_names, task.label_names, workdir)
  logging.info('%s: its head is kept: outputs %s', workdir, outputs)
  return model, params if outputs is None else head.reorder(model, params, outputs)


def load_run(
  workdir: str | Path,
  which: str = 'best',
  task: tasks.Task | None = None,
  evals: Sequence[str] = (),
  devices: Mesh | None = None,
) -> tuple[Job, Params]:
  """A finished run's job and its trained parameters.

  Args:
    workdir: the run directory.
    which: `best` or `last` checkpoint.
    task: the run's task, if it is loaded already; otherwise it is loaded as the run's config says.
    evals, devices: as for `load`.

  Raises:
    ValueError: if the folder is not a run directory or has no such checkpoint; if the run was made
      from other files than those found now (`provenance.check`).
  """
  config = rundir.read_config(workdir)
  with provenance.checked(paths.path_of(workdir)) as changed:
    task = load_task(config, evals) if task is None else task
    job = build(config, task, devices=devices)._replace(changed=changed)
  _, trainable = read_trainable(workdir, config, which, job.trainable)
  return job, trainable


def read_trainable(
  workdir: str | Path,
  config: config_dict.ConfigDict,
  which: str = 'best',
  like: Params | None = None,
) -> tuple[int, Params]:
  """The step of a run directory's `best` or `last` checkpoint, and its trainable parameters.

  Args:
    workdir: the run directory.
    config: the run's.
    which: `best` or `last`.
    like: arrays that have the shapes and places of the parameters; None: as they were saved.

  Raises:
    ValueError: if there is no such checkpoint.
  """
  with contextlib.closing(Checkpoints(paths.path_of(workdir), config.checkpoint.keep)) as saved:
    step = saved.best_step() if which == 'best' else saved.last_step()
    if step is None:
      raise ValueError(f'{workdir} has no {which} checkpoint. Train it first: experiments.train')
    provenance.note_folder(saved.folder / str(step), 'checkpoint')
    return step, saved.restore_trainable(step, like)


def tokenizer_path(config: config_dict.ConfigDict) -> Path:
  """The path of the tokenizer: the config's, or the model's own; of a run, its base's.

  Raises:
    ValueError: for a fresh model, which has none.
  """
  while not config.data.tokenizer and rundir.is_run(config.model.name):
    config = rundir.read_config(config.model.name)
  if config.data.tokenizer:
    return files.on_disk(config.data.tokenizer)
  if config.model.name == 'fresh':
    raise ValueError('a fresh model has no tokenizer: give config.data.tokenizer=FOLDER_OR_ZIP')
  return huggingface.locate(config.model.name)


def check_ranges(config: config_dict.ConfigDict, task: tasks.Task, model: nn.Module) -> None:
  """Raises a ValueError if the data has ids or positions that the model has no embedding for."""
  for split, data in {'train': task.train, **task.evals}.items():
    largest = max((int(ids.max()) for ids in data.ids), default=0)
    if largest >= model.config.vocab_size:
      raise ValueError(
        f'{task.name} {split}: token id {largest} is beyond the {model.config.vocab_size} of the '
        f'model {config.model.name!r}. Is config.data.tokenizer that of the model?'
      )
    longest = max((len(ids) for ids in data.ids), default=0)
    if longest > model.config.max_positions:
      raise ValueError(
        f'{task.name} {split}: an example has {longest} tokens; {config.model.name!r} has '
        f'{model.config.max_positions} positions. Lower config.data.max_length.'
      )
