"""Models of Hugging Face's layout: a folder with config.json and the tensors, or a preset.

    model, params = load_model('roberta-base', task='classification', num_labels=3)

A folder never touches the network; a preset is fetched once through `huggingface_hub`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from safetensors import numpy as writer

from lora_jax import tree
from lora_jax.models import presets
from lora_jax.pretrained import architecture, names, pytorch, safetensors, shards

FETCHED = ('config.json', 'tokenizer*', 'vocab*', 'merges.txt', 'special_tokens_map.json')
FETCHED = (*FETCHED, 'model*.safetensors', 'model.safetensors.index.json')


def load_model(
  name_or_folder: str | Path,
  *,
  task: str,
  num_labels: int | None = None,
  seed: int = 0,
  fresh_head: bool = False,
  place: shards.Place | None = None,
  **options: Any,
) -> tuple[nn.Module, dict[str, Any]]:
  """A pretrained model and its parameters, on the default device or where `place` says.

  Tensors are read one after the other, and of each the parts that this host's devices hold, one at
  a time: host memory holds no copy of the model, and no device more than its share.

      by_width = lambda x: NamedSharding(mesh, PartitionSpec(*[None] * (x.ndim - 1), 'x'))
      load_model('gpt2', task='lm', place=lambda shapes: jax.tree.map(by_width, shapes))

  Args:
    name_or_folder: a name in `PRESETS`, or a folder in Hugging Face layout.
    task: `classification` or `regression` for encoders, `lm` for GPT-2.
    num_labels: outputs of the classifier; None: as many as config.json names.
    seed: of the head, where the checkpoint has none.
    fresh_head: draw the head anew also where the checkpoint has one of another shape.
    place: from the tree of the parameters' shapes, a tree of their shardings.
    **options: attributes of the model: `dtype`, `param_dtype` (of embeddings and kernels; norms and
      heads stay float32), `scan`, `remat`, `attention`, `hidden_dropout`, `attention_dropout`,
      `classifier_dropout` (a rate of None is the checkpoint's).

  Raises:
    ValueError: for an unknown name, architecture or option, a corrupt file, or tensors that do not
      fit: all that are missing, unexpected or misshapen, in one message; for shardings that do not
      fit.
    FileNotFoundError: if the folder lacks a file.
    ConnectionError: if a preset is not cached and cannot be fetched.
  """
  folder = locate(name_or_folder)
  config = read_config(folder)
  model = make_model(config, task=task, num_labels=num_labels, **options)
  tensors = (pytorch if pytorch.alone(folder) else safetensors).read(folder)
  return model, convert(
    model, tensors, seed=seed, fresh_head=fresh_head, where=str(folder), place=place
  )


def fresh_model(
  config: presets.Config | Mapping[str, Any],
  *,
  task: str,
  num_labels: int | None = None,
  seed: int = 0,
  place: shards.Place | None = None,
  **options: Any,
) -> tuple[nn.Module, dict[str, Any]]:
  """An untrained model as Hugging Face initialises it: N(0, 0.02^2), biases zero.

  Args:
    config: an architecture, or `{'family': 'gpt2', 'num_layers': 6, ...}` (`presets.architecture`).
    task, num_labels, seed, place, **options: as for `load_model`. Each device draws its part.
  """
  if isinstance(config, Mapping):
    config = presets.architecture(**config)
  model = make_model(config, task=task, num_labels=num_labels, **options)
  # Drawn in float32 and cast: the same seed is the same model in every dtype.
  exact = model.clone(param_dtype=jnp.float32)
  declared = tree.flatten(jax.eval_shape(lambda: _init(model, jax.random.key(0))))
  placed = shards.places(declared, place)

  def draw(key: jax.Array) -> dict[str, jax.Array]:
    leaves = tree.flatten(_init(exact, key))
    return {path: leaf.astype(declared[path].dtype) for path, leaf in leaves.items()}

  return model, tree.unflatten(jax.jit(draw, out_shardings=placed)(jax.random.key(seed)))


def save_model(
  folder: str | Path,
  model: nn.Module,
  params: tree.Params,
  *,
  tokenizer_files: Iterable[str | Path] = (),
) -> None:
  """Writes a model, merged with what was trained, as a folder that transformers loads.

  `load_model` of the folder gives the same parameters, to the last bit.

  Args:
    folder: made if it is not there; config.json, model.safetensors and the tokenizer's files in it
      are replaced.
    model, params: looped or scanned, in any dtype.
    tokenizer_files: copied under their own names.

  Raises:
    ValueError: if `params` are not the model's own: all that are missing, unexpected or misshapen,
      as factors that were not merged.
    FileNotFoundError: if a tokenizer file is not there.
  """
  files = [Path(file).expanduser() for file in tokenizer_files]
  if absent := [str(file) for file in files if not file.is_file()]:
    raise FileNotFoundError(f'tokenizer files that are not there: {", ".join(absent)}')
  params = tree.flatten(nn.unbox(params))
  declared = tree.flatten(jax.eval_shape(lambda: _init(model, jax.random.key(0))))
  problems = [f'missing {path}' for path in declared if path not in params]
  problems += [f'unexpected {path}' for path in params if path not in declared]
  problems += [
    f'{path} is {params[path].shape}, expected {leaf.shape}'
    for path, leaf in declared.items()
    if path in params and params[path].shape != leaf.shape
  ]
  if problems:
    raise ValueError(
      f'the parameters are not those of the model: {", ".join(problems)}. Of an adapted model, '
      'merge them first (method.merge).'
    )
  leaves = {
    path: np.asarray(leaf if layer is None else leaf[layer])
    for stacked, leaf in params.items()
    for path, layer in names.unstacked(stacked, model.config.num_layers)
  }
  tensors = names.give(model.config, leaves)
  values = architecture.to_hugging_face(model.config, getattr(model, 'num_labels', None))
  kernel = next(leaf for path, leaf in leaves.items() if path.endswith('attention/query/kernel'))
  values['torch_dtype'] = str(kernel.dtype)
  folder = Path(folder).expanduser()
  folder.mkdir(parents=True, exist_ok=True)
  for file in files:
    shutil.copyfile(file, folder / file.name)
  part = folder / f'.{safetensors.SINGLE}.part'
  part.write_bytes(writer.save(tensors, metadata={'format': 'pt'}))
  os.replace(part, folder / safetensors.SINGLE)
  (folder / 'config.json').write_text(json.dumps(values, indent=2) + '\n', encoding='utf-8')


def locate(name_or_folder: str | Path) -> Path:
  """The folder of a model's files; a preset's are fetched, or found where they were fetched to.

  Raises:
    ValueError: if it is neither a folder nor a preset (near names are offered), or a preset whose
      weights nobody has published.
    FileNotFoundError: if the folder holds no config.json.
    ConnectionError: if a preset is not cached and cannot be fetched; says what to do.
  """
  name, folder = str(name_or_folder), Path(name_or_folder).expanduser()
  if (folder / 'config.json').is_file():
    return folder
  if name in presets.PRESETS:
    if not presets.PRESETS[name].repository:
      raise ValueError(
        f'{name!r} is an architecture whose weights are not published: it can be planned '
        '(experiments.plan), not loaded. Give a folder that holds weights, or a smaller preset.'
      )
    return _fetch(name, presets.PRESETS[name])
  if folder.is_dir():
    raise FileNotFoundError(f'{folder}: no config.json. Expected a model in Hugging Face layout.')
  raise ValueError(
    f'{name!r} is neither a folder nor a preset: {presets.near(name, presets.PRESETS)}'
  )


def read_config(folder: Path) -> presets.Config:
  """The architecture in a folder's config.json.

  Raises:
    ValueError: if it is not JSON, or an architecture that is not supported.
  """
  path = folder / 'config.json'
  try:
    values = json.loads(path.read_text())
  except ValueError as error:
    raise ValueError(f'{path}: not JSON ({error})') from error
  return architecture.from_hugging_face(values, str(path))


def make_model(config: presets.Config, *, task: str, **options: Any) -> nn.Module:
  """The Flax module of an architecture for a task.

  Raises:
    ValueError: for an option that it does not have, or a value out of range.
  """
  fields = dataclasses.fields(presets.MODELS[config.family])
  known = {field.name for field in fields} - {'config', 'parent', 'name'}
  if unknown := options.keys() - known - {'num_labels', 'classifier_dropout'}:
    problems = (f'{name!r}: {presets.near(name, sorted(known))}' for name in sorted(unknown))
    raise ValueError(f'a {config.family} model has no such option as {"; ".join(problems)}')
  model = presets.build(config, task=task, **options)
  _ = model.options  # Checks the ranges now, not in the middle of a trace.
  return model


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
  """Shapes of a looped model's parameters by path; nothing is computed."""
  leaves = jax.eval_shape(lambda: _init(model, jax.random.key(0)))
  return {path: leaf.shape for path, leaf in tree.flatten(leaves).items()}


def convert(
  model: nn.Module,
  tensors: Mapping[str, np.ndarray],
  *,
  seed: int = 0,
  fresh_head: bool = False,
  where: str = 'checkpoint',
  place: shards.Place | None = None,
) -> dict[str, Any]:
  """The model's parameters from Hugging Face's tensors by name, in the layout of the model.

  They are read as `load_model` says. A head that the tensors lack is drawn from `seed`, as Hugging
  Face would: N(0, initializer_range^2), biases zero.

  Raises:
    ValueError: naming `where` and all tensors that are missing, unexpected or of another shape; for
      shardings that do not fit.
  """
  layers = model.config.num_layers
  leaves = tree.flatten(jax.eval_shape(lambda: _init(model, jax.random.key(0))))
  sources = {
    path: names.source(model.config, path, leaf.shape if layer is None else leaf.shape[1:])
    for stacked, leaf in leaves.items()
    for path, layer in names.unstacked(stacked, layers)
  }
  plain = {names.plain(name, model.config.family): name for name in tensors}
  fresh = _check(model, sources, plain, tensors, fresh_head, where)
  placed = shards.places(leaves, place)
  heads = tree.flatten(jax.tree.map(np.asarray, _fresh_head(model, seed))) if fresh else {}

  def fill(out: np.ndarray, path: str, index: shards.Index) -> None:
    source = sources[path]
    value = heads[path] if path in fresh else source.take(tensors[plain[source.name]])
    shards.copy(out, value[index])

  def fill_layers(out: np.ndarray, stacked: str, index: shards.Index) -> None:
    for part, (path, _) in zip(out, names.unstacked(stacked, layers)[index[0]]):
      fill(part, path, index[1:])

  params = {}
  for path, leaf in leaves.items():
    read = fill if path in sources else fill_layers
    params[path] = shards.assemble(leaf, placed[path], lambda *part: read(part[0], path, part[1]))
  return tree.unflatten(params)


def _check(
  model: nn.Module,
  sources: Mapping[str, names.Source],
  plain: Mapping[str, str],
  tensors: Mapping[str, np.ndarray],
  fresh_head: bool,
  where: str,
) -> set[str]:
  """The paths to draw anew, those of the head that the tensors lack, if all else fits."""
  family = model.config.family
  missing = {path for path, source in sources.items() if source.name not in plain}
  misshapen = {
    path: f'{plain[source.name]} is {found}, expected {source.shape}'
    for path, source in sources.items()
    if source.name in plain and (found := tensors[plain[source.name]].shape) != source.shape
  }
  module = lambda path: path.rsplit('/', 1)[0]
  head = {path for path in sources if any(re.fullmatch(pattern, path) for pattern in model.head)}
  # A head's module is drawn as a whole or not at all: one that has lost its bias is an error.
  absent = {module(path) for path in head & missing} - {module(path) for path in head - missing}
  other = {module(path) for path in head & misshapen.keys()} if fresh_head else set()
  fresh = {path for path in head if module(path) in absent | other}

  problems = []
  if lost := {sources[path].name: None for path in sources if path in missing - fresh}:
    problems.append(f'missing {", ".join(lost)}')
  used = {source.name for source in sources.values()}
  if unknown := [
    original
    for name, original in plain.items()
    if name not in used and not re.fullmatch(names.UNUSED[family], name)
  ]:
    problems.append(f'unexpected {", ".join(unknown)}')
  if wrong := dict.fromkeys(text for path, text in misshapen.items() if path not in fresh):
    hint = '' if fresh_head or not head & misshapen.keys() else ' (fresh_head=True drops a head)'
    problems.append(f'misshapen {", ".join(wrong)}{hint}')
  if problems:
    raise ValueError(f'{where}: the tensors do not fit a {family} model: {"; ".join(problems)}')
  if 'lm_head.weight' in plain and family == 'gpt2':
    word = tensors[plain['wte.weight']]
    if not shards.equal(tensors[plain['lm_head.weight']], word):
      raise ValueError(
        f'{where}: lm_head.weight differs from wte.weight; only the tied output layer is supported'
      )
  if fresh:
    logging.info('%s: fresh head: %s', where, ', '.join(sorted(fresh)))
  return fresh


def _init(model: nn.Module, key: jax.Array) -> dict[str, Any]:
  return model.init(key, jnp.zeros((1, 1), jnp.int32))['params']


def _fresh_head(model: nn.Module, seed: int) -> dict[str, Any]:
  """The head's leaves as `fresh_model` would draw them: a parameter's key is that of its path."""
  small = model.clone(config=dataclasses.replace(model.config, num_layers=1))
  draw = jax.jit(lambda key: tree.split(_init(small, key), model.head)[1])
  return draw(jax.random.key(seed))


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
