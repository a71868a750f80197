"""A model's parameters from Hugging Face's tensors: what fits, what is drawn, what is quantized."""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Mapping, Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Sharding

from lora_jax import errors, quantization, stacking, tree
from lora_jax.models import presets
from lora_jax.pretrained import gguf_file, head, names, shards

NONE, FILE = 'none', 'file'  # Choices of `quantize` beside the formats that are encoded in.


def convert(
  model: presets.Model,
  tensors: Mapping[str, np.ndarray],
  *,
  seed: int = 0,
  fresh_head: bool = False,
  outputs: Sequence[int] | None = None,
  where: str = 'checkpoint',
  place: shards.Place | None = None,
  quantize: str = 'none',
) -> tree.Tree:
  """The model's parameters from Hugging Face's tensors by name, in the layout of the model.

  The tensors are read as `load_model` says; `outputs` are the numbers of the head's outputs in the
  order of the model's, None if they are in that order. A head that they lack is drawn from `seed`,
  as Hugging Face would: N(0, initializer_range^2), biases zero. `quantize` is as for `load_model`;
  one matrix at a time is in memory before it is encoded.

  Raises:
    ValueError: naming `where` and all tensors that are missing, unexpected or misshapen; for
      shardings that do not fit; as `declared`.
  """
  layers = model.config.num_layers
  leaves = tree.flatten(presets.abstract_params(model))
  sources = {
    path: names.source(model.config, path, leaf.shape if layer is None else leaf.shape[1:])
    for stacked, leaf in leaves.items()
    for path, layer in stacking.looped_paths(stacked, layers)
  }
  originals = _originals(tensors, model.config.family, where)
  fresh = _fresh_leaves(model, sources, originals, fresh_head)
  _check_tensors(model, sources, originals, tensors, fresh, where)
  if fresh:
    logging.info('%s: fresh head: %s', where, ', '.join(sorted(fresh)))
  leaves = tree.flatten(declared(model, quantize, tensors, where))
  shardings = shards.leaf_shardings(leaves, place)
  heads = tree.flatten(jax.tree.map(np.asarray, head.draw(model, seed))) if fresh else {}

  output = names.OUTPUT.get(model.config.family, '')
  last = (output, output.replace('.weight', '.bias'))

  def fill(path: str, out: np.ndarray, index: shards.Index) -> None:
    source = sources[path]
    value = heads[path] if path in fresh else source.extract(tensors[originals[source.name]])
    if outputs is not None and source.name in last:
      value = value[..., list(outputs)]
    try:
      shards.copy(out, value[index])
    except ValueError as error:
      raise ValueError(
        f'{where}: {originals[source.name]}: {error}. Fetch the file again.'
      ) from None

  def fill_layers(stacked: str, out: np.ndarray, index: shards.Index) -> None:
    for part, (path, _) in zip(out, stacking.looped_paths(stacked, layers)[index[0]]):
      fill(path, part, index[1:])

  def code(path: str, leaf: quantization.Kernel) -> quantization.Arrays:
    if isinstance(tensors, gguf_file.Tensors) and quantize == FILE:
      return tensors.codes(originals[sources[path].name])
    matrix = np.empty(leaf.shape[-2:], np.float32)
    fill(path, matrix, (slice(None),) * 2)
    return quantization.encode(matrix, leaf.format)

  params: tree.Leaves = {}
  for path, leaf in leaves.items():
    if isinstance(leaf, quantization.Kernel):
      matrices = [code(one, leaf) for one, _ in stacking.looped_paths(path, layers)]
      kernel = quantization.make(matrices, leaf.format, leaf.shape, leaf.dtype)
      params[path] = shards.assemble_kernel(kernel, shardings[path])
    else:
      read = functools.partial(fill if path in sources else fill_layers, path)
      params[path] = shards.assemble(leaf, cast(Sharding | None, shardings[path]), read)
  return tree.unflatten(params)


def declared(
  model: presets.Model,
  quantize: str,
  tensors: Mapping[str, np.ndarray] = types.MappingProxyType({}),
  where: str = 'checkpoint',
) -> tree.Params:
  """The shapes of a model's parameters, its kernels quantized as `load_model` says.

  Raises:
    ValueError: for an unknown format, or `file` where the tensors are not in formats that are kept.
  """
  params = presets.abstract_params(model)
  if quantize == NONE:
    return params
  if quantize != FILE:
    return quantization.quantize(params, quantize)
  if not isinstance(tensors, gguf_file.Tensors):
    raise ValueError(
      f"{where}: quantize='file' keeps the codes of a GGUF file, and this is none. Choose one of "
      f'{", ".join((NONE, *quantization.ENCODERS))}.'
    )
  leaves, problems = tree.flatten(params), []
  for stacked in filter(quantization.is_quantizable, list(leaves)):
    kinds: dict[str, str] = {}
    for path, _ in stacking.looped_paths(stacked, model.config.num_layers):
      source = names.source(model.config, path, leaves[stacked].shape[-2:])
      name = names.full_name(source.name, model.config.family)
      kinds.setdefault(tensors.kind(name), name)
    if len(kinds) == 1 and (kind := next(iter(kinds))) in gguf_file.KEPT:
      leaves[stacked] = quantization.declare(leaves[stacked], kind.lower())
    elif not kinds.keys() <= {'F32', 'F16', 'BF16', ''}:
      problems += [f'{name} is {kind}' for kind, name in kinds.items()]
  if problems:
    kept, choices = ', '.join(gguf_file.KEPT), ', '.join(quantization.ENCODERS)
    raise ValueError(
      f"{where}: quantize='file' keeps {kept}, of a scanned model one for all layers, but "
      f'{errors.listed(problems)}. Choose one of {choices}.'
    )
  return tree.unflatten(leaves)


def _originals(tensors: Mapping[str, np.ndarray], family: str, where: str) -> dict[str, str]:
  """The name of a tensor in the file by its plain name.

  Raises:
    ValueError: if two names of one parameter have other values: with and without the family's
      prefix, or the old and today's name of a norm.
  """
  originals: dict[str, str] = {}
  for name in tensors:
    other = originals.setdefault(names.plain_name(name, family), name)
    if other != name and not shards.equal(tensors[other], tensors[name]):
      raise ValueError(
        f'{where}: {other} and {name} are one parameter, but their values differ. Remove the wrong '
        'one.'
      )
  return originals


def _fresh_leaves(
  model: presets.Model,
  sources: Mapping[str, names.Source],
  originals: Mapping[str, str],
  fresh_head: bool,
) -> set[str]:
  """The paths of the head to draw: of modules that the tensors lack, or on request the output's."""
  paths = [path for path in sources if any(re.fullmatch(pattern, path) for pattern in model.head)]
  missing = {path for path in paths if sources[path].name not in originals}
  module = lambda path: path.rsplit('/', 1)[0]
  # A head's module is drawn as a whole or not at all: one that lacks only its bias is an error.
  modules = set(map(module, missing)) - {module(path) for path in paths if path not in missing}
  drawn = {path for path in paths if module(path) in modules}
  return drawn | set(head.output_part(model, paths)) if fresh_head else drawn


def _check_tensors(
  model: presets.Model,
  sources: Mapping[str, names.Source],
  originals: Mapping[str, str],
  tensors: Mapping[str, np.ndarray],
  fresh: set[str],
  where: str,
) -> None:
  """Raises a ValueError naming all tensors that are not those of the sources outside of `fresh`."""
  family = model.config.family
  expected = {
    originals.get(source.name, source.name): source.shape
    for path, source in sources.items()
    if path not in fresh
  }
  drawn = {sources[path].name for path in fresh}
  found = {
    original: tensors[original]
    for name, original in originals.items()
    if original in expected or not (name in drawn or re.fullmatch(names.UNUSED[family], name))
  }
  if problems := errors.mismatches(expected, found):
    raise ValueError(
      f'{where}: the tensors do not fit a {family} model: {"; ".join(problems)}. If only the head '
      'is misshapen, fresh_head=True draws another.'
    )
  kinds = ((name, tensors[name].dtype) for name in expected)
  if other := [f'{name} is {x}' for name, x in kinds if not jnp.issubdtype(x, np.floating)]:
    raise ValueError(f'{where}: expected floating-point tensors, but {errors.listed(other)}')
  name = names.module_name(model.config, 'embeddings/word') + '.weight'
  if 'lm_head.weight' in originals and getattr(model.config, 'tied', family == 'gpt2'):
    word, output = (np.asarray(tensors[originals[key]]) for key in (name, 'lm_head.weight'))
    if not shards.equal(output, word):
      raise ValueError(f'{where}: lm_head.weight differs from {name}, but its config ties them')
