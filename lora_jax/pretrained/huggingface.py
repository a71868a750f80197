"""Models in Hugging Face layout: a folder with config.json and the tensors, or a preset.

    model, params = load_model('roberta-base', task='classification', num_labels=3)

Loading a folder never touches the network; a preset is fetched once.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from safetensors import numpy as writer

from lora_jax import errors, files, gguf_reader, provenance, stacking, tree
from lora_jax.models import presets
from lora_jax.pretrained import (
  architecture,
  conversion,
  gguf_file,
  head,
  labels,
  names,
  pytorch,
  safetensors,
  shards,
)

FETCHED = (
  'config.json',
  'generation_config.json',
  'tokenizer*',
  'vocab*',
  'merges.txt',
  'special_tokens_map.json',
  'model*.safetensors',
  'model.safetensors.index.json',
)


def load_model(
  name_or_folder: str | Path,
  *,
  task: str,
  num_labels: int | None = None,
  seed: int = 0,
  fresh_head: bool = False,
  label_names: Sequence[str] | None = None,
  place: shards.Place | None = None,
  quantize: str = 'none',
  **options: Any,
) -> tuple[presets.Model, tree.Tree]:
  """A pretrained model and its parameters, on the default device or where `place` says.

  Tensors are read one after the other. Of each tensor only the parts that this host's devices hold
  are read, one at a time: host memory holds no copy of the model, and no device more than its part.

      by_width = lambda x: NamedSharding(mesh, PartitionSpec(*[None] * (x.ndim - 1), 'x'))
      load_model('gpt2', task='lm', place=lambda shapes: jax.tree.map(by_width, shapes))

  Args:
    name_or_folder: a name in `PRESETS`, or a folder in Hugging Face layout.
    task: `classification`, `regression` or `lm`: what each family does is in `presets.TASKS`.
    num_labels: outputs of the classifier; None means as many as config.json names.
    seed: seed of the head, which is drawn if the checkpoint has none.
    fresh_head: draw the head whatever the checkpoint holds. BERT's and DeBERTa's pooler is no part
      of this: it stays if there is one.
    label_names: the checkpoint has to have a head, whose outputs are put in the order of these
      names of classes; () takes them as they are.
    place: takes the tree of the parameters' shapes and returns the tree of their shardings.
    quantize: how the kernels of the layers are kept: `none`, as they are; `int8` or `nf4`, encoded
      one by one as they are read; `file`, in the codes of a GGUF file (Q4_0, Q4_1, Q8_0).
    **options: attributes of the model: `dtype`, `param_dtype` (of embeddings and kernels; norms and
      heads stay float32), `scan`, `remat`, `attention`, `hidden_dropout`, `attention_dropout`,
      `classifier_dropout` (a rate of None means the checkpoint's).

  Raises:
    ValueError: for an unknown name, architecture or option; for a corrupt file; for a head that is
      missing or has other classes than `label_names`; for tensors that do not fit (all that are
      missing, unexpected or misshapen, in one message); for shardings that do not fit.
    FileNotFoundError: if the folder lacks a file.
    ConnectionError: if a preset is not cached and cannot be fetched.
  """
  folder = locate(name_or_folder)
  config = read_config(folder)
  model = make_model(config, task=task, num_labels=num_labels, **options)
  read = pytorch.read if pytorch.is_only_format(folder) else safetensors.read
  tensors = gguf_file.Tensors(file) if (file := gguf_reader.find(folder)) else read(folder)
  where, outputs = str(folder), None
  if label_names is not None:
    head.check(model, tensors, where)
    outputs = labels.order(label_names_of(folder), label_names, where)
    named = 'its config.json names no classes' if outputs is None else f'outputs {outputs}'
    logging.info("%s: the checkpoint's own head is kept: %s", where, named)
  return model, conversion.convert(
    model,
    tensors,
    seed=seed,
    fresh_head=fresh_head,
    outputs=outputs,
    where=where,
    place=place,
    quantize=quantize,
  )


def abstract_params(
  name_or_folder: str | Path, model: presets.Model, quantize: str = 'none'
) -> tree.Params:
  """The shapes of the parameters that `load_model` would read; of a file its header alone is read.

  Raises:
    ValueError: for an unknown `quantize`, or one that the file cannot be kept in.
  """
  file = gguf_reader.find(name_or_folder) if quantize == conversion.FILE else None
  tensors = {} if file is None else gguf_file.Tensors(file)
  return conversion.declared(model, quantize, tensors, str(name_or_folder))


def fresh_model(
  config: presets.Config | Mapping[str, Any],
  *,
  task: str,
  num_labels: int | None = None,
  seed: int = 0,
  place: shards.Place | None = None,
  **options: Any,
) -> tuple[presets.Model, tree.Tree]:
  """An untrained model, initialized as Hugging Face does: N(0, 0.02^2), biases zero.

  Args:
    config: an architecture, or `{'family': 'gpt2', 'num_layers': 6, ...}` (`presets.architecture`).
    task, num_labels, seed, place, **options: as for `load_model`. Each device draws its own part.
  """
  if isinstance(config, Mapping):
    config = presets.architecture(**config)
  model = make_model(config, task=task, num_labels=num_labels, **options)
  exact = model.clone(param_dtype=jnp.float32)  # Then cast: a seed is one model in every dtype.
  declared = tree.flatten(presets.abstract_params(model))
  shardings = shards.leaf_shardings(declared, place)

  def draw(key: jax.Array) -> dict[str, jax.Array]:
    leaves = tree.flatten(head.initialize(exact, key))
    return {path: leaf.astype(declared[path].dtype) for path, leaf in leaves.items()}

  return model, tree.unflatten(jax.jit(draw, out_shardings=shardings)(jax.random.key(seed)))


def save_model(
  folder: str | Path,
  model: nn.Module,
  params: tree.Params,
  *,
  tokenizer_files: Iterable[str | Path] = (),
  label_names: Sequence[str] = (),
  token_ids: Mapping[str, object] = types.MappingProxyType({}),
) -> None:
  """Writes a model, an adapted one after `method.merge`, as a folder that transformers loads.

  `load_model` of the folder gives the same parameters, to the last bit.

  Args:
    folder: made if it does not exist; config.json, model.safetensors and the tokenizer's files in
      it are replaced.
    model, params: looped or scanned, in any dtype.
    tokenizer_files: files to copy, under their own names.
    label_names: names of the classes, for config.json.
    token_ids: the ends of texts, for config.json, see `tokenizer_files.special_ids`.

  Raises:
    ValueError: if `params` are not the model's own, for example because factors were not merged;
      names all that are missing, unexpected or misshapen.
    FileNotFoundError: if a tokenizer file does not exist.
  """
  tokenizer = [Path(file).expanduser() for file in tokenizer_files]
  if absent := [file for file in tokenizer if not file.is_file()]:
    raise FileNotFoundError(f'tokenizer files that do not exist: {errors.listed(absent)}')
  params = tree.flatten(nn.unbox(params))
  if problems := errors.mismatches(shapes(model), params):
    raise ValueError(
      f'these are not the parameters of the model: {"; ".join(problems)}. Merge an adapted model '
      'before it is saved (method.merge).'
    )
  leaves = {
    path: np.asarray(leaf if layer is None else leaf[layer])
    for stacked, leaf in params.items()
    for path, layer in stacking.looped_paths(stacked, model.config.num_layers)
  }
  tensors = names.to_tensors(model.config, leaves)
  values = architecture.to_hugging_face(
    model.config, getattr(model, 'num_labels', None), label_names
  )
  kernel = next(leaf for path, leaf in leaves.items() if path.endswith('attention/query/kernel'))
  values |= dict(token_ids) | {'torch_dtype': str(kernel.dtype)}
  folder = Path(folder).expanduser()
  for file in tokenizer:
    files.write_atomic(folder / file.name, file.read_bytes())
  written = writer.save(tensors, metadata={'format': 'pt'})
  files.write_atomic(folder / safetensors.SINGLE, written)
  files.write_json(folder / 'config.json', values)


def locate(name_or_folder: str | Path) -> Path:
  """The folder of a model's files; those of a preset are fetched, or found in the hub's cache.

  Raises:
    ValueError: if it is neither a folder nor a preset (near names are offered), or if it is a
      preset without published weights.
    FileNotFoundError: if a folder holds none.
    ConnectionError: if a preset is not cached and cannot be fetched.
  """
  name, folder = str(name_or_folder), files.on_disk(name_or_folder)
  if gguf_reader.find(folder) or (folder / 'config.json').is_file():
    return folder
  if name in presets.PRESETS:
    if not presets.PRESETS[name].repository:
      raise ValueError(
        f'{name!r} is an architecture whose weights are not published: it can be planned '
        '(experiments.plan), not loaded. Give a folder with weights, or another preset.'
      )
    return _fetch(name, presets.PRESETS[name])
  if folder.is_dir():
    raise FileNotFoundError(f'{folder}: no config.json. Expected a model in Hugging Face layout.')
  raise ValueError(
    f'{name!r} is neither a folder nor a preset. {errors.nearest(name, presets.PRESETS)}'
  )


def read_config(folder: Path) -> presets.Config:
  """The architecture in a folder's config.json.

  Raises:
    ValueError: if it is not valid JSON, or describes an architecture that is not supported.
  """
  if file := gguf_reader.find(folder):
    return architecture.from_hugging_face(gguf_file.config_values(file), str(file))
  path = folder / 'config.json'
  provenance.note(path)
  values = files.read_json(path)
  if not isinstance(values, dict):
    raise ValueError(f'{path}: expected a JSON object, found a {type(values).__name__}')
  return architecture.from_hugging_face(values, str(path))


def label_names_of(folder: Path) -> tuple[str, ...]:
  """The names of the classes in a folder's config.json; none if it names none."""
  path = folder / 'config.json'
  values = files.read_json(path)
  return labels.names(values if isinstance(values, dict) else {}, str(path))


def make_model(config: presets.Config, *, task: str, **options: Any) -> presets.Model:
  """The Flax module of an architecture for a task.

  Raises:
    ValueError: for an option that it does not have, or a value out of range.
  """
  fields = dataclasses.fields(presets.MODELS[config.family])
  known = {field.name for field in fields} - {'config', 'parent', 'name'}
  if unknown := options.keys() - known - {'num_labels', 'classifier_dropout'}:
    problems = (f'{name!r}. {errors.nearest(name, sorted(known))}' for name in sorted(unknown))
    raise ValueError(f'a {config.family} model has no option {" No option ".join(problems)}')
  model = presets.build(config, task=task, **options)
  _ = model.options  # Checks the ranges now, not in the middle of a trace.
  return model


def shapes(model: nn.Module) -> dict[str, errors.Shape]:
  """Shapes of a model's parameters by path; nothing is computed."""
  leaves = tree.flatten(presets.abstract_params(model))
  return {path: leaf.shape for path, leaf in leaves.items()}


def _fetch(name: str, preset: presets.Preset) -> Path:
  """The folder of a preset's files, from the cache or the hub."""
  import huggingface_hub  # Imported for presets only: a folder never touches the network.

  try:
    patterns = [*FETCHED, *preset.files]
    return Path(huggingface_hub.snapshot_download(preset.repository, allow_patterns=patterns))
  except Exception as error:  # Its own errors, those of its HTTP client, and the system's.
    raise ConnectionError(
      f'{name!r}: could not fetch {preset.repository} from the Hugging Face hub '
      f'({type(error).__name__}: {error}). Without a network, give a folder instead that holds its '
      'config.json, model.safetensors and tokenizer files, or fill the hub cache beforehand.'
    ) from error
