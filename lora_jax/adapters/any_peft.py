r"""PEFT's folders of LoRA on one's own models, of Linen or of NNX, by a table of names.

    names = {r'layers_(\d+)/attention/([qkvo])_proj': r'model.layers.\1.self_attn.\2_proj'}
    save_peft('out/mine', method, trainable, model, tokens, names=names)
    method, frozen, trainable = load_peft('out/mine', model, tokens, names=names)

A pattern matches the whole path of a layer; its text is the name of the module in PyTorch, inside
the model that PEFT wraps. The text for stacked layers has `{layer}` where their number goes.
"""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from safetensors import numpy as writer

from lora_jax import errors, files, methods, tree
from lora_jax.adapters import parts, peft, peft_config, peft_file, peft_matching
from lora_jax.adapters.adapter import Options, check_values, options_from_json
from lora_jax.methods import lowrank, sites
from lora_jax.methods.lora import FACTORS
from lora_jax.methods.models import AnyModel, as_linen, params_of

Names = Mapping[str, str]
Number = TypeVar('Number', int, float)
KEYS, TABLE_KEYS = ('lora_A.weight', 'lora_B.weight'), ('lora_embedding_A', 'lora_embedding_B')
# Options of `lora`, with the values at which it trains factors alone, as the file holds them.
HELD = {'init': ('uniform', 'normal'), 'bias': ('none',), 'train': ((),), 'dora': (False,)}


class Place(NamedTuple):
  """A module of PyTorch for a layer, or for the layer of a stack with the number `index`."""

  name: str
  path: str
  site: sites.Site
  index: int

  @property
  def keys(self) -> tuple[str, str]:
    """Names of its two tensors, A [r, in] and B [out, r]."""
    ends = TABLE_KEYS if self.site.weight[0].endswith('embedding') else KEYS
    return f'{self.name}.{ends[0]}', f'{self.name}.{ends[1]}'

  def shapes(self, rank: int) -> list[errors.Shape]:
    """Shapes of this layer's `lora_a` and `lora_b`; an einsum's have the rank last."""
    a, b = (shape[len(self.site.stack) :] for shape in self.site.factors.values())
    return [(*a[:-1], rank), (*b[:-1], rank) if self.is_einsum else (rank, *b[1:])]

  def sizes(self, rank: int) -> list[errors.Shape]:
    """Shapes of A and B."""
    a, b = (math.prod(shape) // rank for shape in self.shapes(rank))
    return [(rank, a), (b, rank)]

  @property
  def is_einsum(self) -> bool:
    return self.site.layer is lowrank.LAYERS[nn.Einsum]


def save_peft(
  folder: str | Path,
  method: methods.Method,
  trainable: tree.Params,
  model: AnyModel,
  *inputs: object,
  names: Names,
  base_name: str = '',
) -> None:
  """Writes factors as PEFT's `save_pretrained` does.

  Args:
    folder: made if it does not exist; PEFT's two files in it are replaced.
    method, trainable: LoRA, and what it trained.
    model, *inputs: the model, and what it is called with; only shapes are used.
    names: the table.
    base_name: name of the base on the hub.

  Raises:
    ValueError: for a method or a layer that the format cannot hold, and for an adapted layer that
      the table does not name, or names as it does another one.
  """
  options: Options = options_from_json(method.options)  # Lists are as good as tuples.
  wrong = {name: options.get(name) for name, held in HELD.items() if options.get(name) not in held}
  if options.get('name') != 'lora' or wrong:
    raise ValueError(
      f"save_peft: a file of PEFT's for one's own model holds the factors of lora alone, but this "
      f'is {options.get("name")!r} with {wrong}. Use `save`, or merge.'
    )
  targets = tree.as_patterns(options['targets'])
  found = sites.find('lora', options['rank'], options['alpha'], targets, as_linen(model), *inputs)
  places = _places(found, names)
  _check_outputs(places)
  if lost := found.keys() - {place.path for place in places}:
    raise ValueError(f'save_peft: no pattern in names matches {errors.listed(sorted(lost))}')
  leaves = {path: np.asarray(x, np.float32) for path, x in tree.flatten(trainable).items()}
  check_values(leaves, 'save_peft: the trainable parameters')
  pairs = {place.name: _pair(place, leaves, options) for place in places}
  values = peft_config.make(
    pairs,
    everything=[*pairs],
    modules_to_save=[],
    method=options,
    task_type=None,
    base_name=base_name,
    family='',
  )
  values['target_modules'] = [*pairs]  # Whole names: the table may not name all modules.
  tensors = {
    peft_file.PREFIX + key: np.ascontiguousarray(x.T)
    for place in places
    for key, x in zip(place.keys, pairs[place.name][:2])
  }
  folder = Path(folder).expanduser()
  files.write_atomic(folder / peft_file.TENSORS, writer.save(tensors, metadata={'format': 'pt'}))
  files.write_json(folder / peft.CONFIG, values)


def load_peft(
  folder: str | Path,
  model: AnyModel,
  *inputs: object,
  names: Names,
  params: tree.Params | None = None,
) -> tuple[methods.Method, tree.Params, tree.Tree]:
  """Reads factors that PEFT or `save_peft` wrote, and puts them on a model.

  Args:
    folder: a folder with PEFT's files.
    model, *inputs: the model, and what it is called with; only shapes are used.
    names: the table.
    params: the parameters of a Linen model; an nnx.Module holds its own.

  Returns:
    (method, frozen, trainable), for `bind(model, method)(frozen, trainable, ...)`.

  Raises:
    FileNotFoundError: if the folder lacks a file.
    ValueError: for tensors that no layer has by the table, or that are missing or misshapen, for
      layers to which the table gives one name, and for stacked layers that are not adapted alike.
  """
  folder = Path(folder).expanduser()
  values = peft_config.read(folder / peft.CONFIG)
  if values['use_dora']:
    raise ValueError(f"{folder}: DoRA is read for this package's models alone")
  tensors, _ = peft_file.read(folder)
  params = params_of(model) if params is None else nn.unbox(params)
  if params is None:
    raise ValueError('load_peft: a Linen model needs its parameters: load_peft(..., params=params)')
  found = sites.find('lora', 1, 1.0, ('.*',), as_linen(model), *inputs)
  places = _adapted(_places(found, names), tensors, values)
  _check_outputs(places)
  if not any(key in tensors for place in places for key in place.keys):
    raise ValueError(
      f'{folder}: none of its tensors is of a layer by the table: {errors.listed([*tensors])}'
    )
  tensors = _without_base(folder, tensors, places, tree.flatten(params))
  expected = {
    key: shape
    for place in places
    for key, shape in zip(place.keys, place.sizes(_rank(place, tensors, values)))
  }
  hint = _hint(tensors.keys() - expected.keys(), values)
  parts.check(str(folder), expected, tensors, hint)
  count = collections.Counter(place.path for place in places)
  if lacking := [path for path, n in count.items() if n < math.prod(found[path].stack)]:
    raise ValueError(f'{folder}: not all of the stacked layers of {errors.listed(lacking)}')
  factors = [_factors(place, tensors, values) for place in places]
  method = methods.lora(
    targets=tuple(map(re.escape, count)),
    rank=_by_path(places, [one.rank for one in factors]),
    alpha=_by_path(places, [one.alpha for one in factors]),
    dropout=values['lora_dropout'],
    rslora=values['use_rslora'],
  )
  return method, params, _leaves(places, tensors)


def _without_base(
  folder: Path, tensors: Mapping[str, np.ndarray], places: list[Place], leaves: tree.Leaves
) -> dict[str, np.ndarray]:
  """The tensors without the weights of adapted layers, which PEFT saves beside factors on words.

  Raises:
    ValueError: if such a weight differs from the model's.
  """
  kept = dict(tensors)
  for place in places:
    name, weight = f'{place.name}.weight', place.site.weight[0]
    if name not in tensors or place.site.stack or weight not in leaves:
      continue
    own = np.asarray(leaves[weight], np.float32)
    own = own if place.keys[0].endswith(TABLE_KEYS[0]) else own.reshape(len(own), -1).T
    if not np.array_equal(own, np.asarray(tensors[name], np.float32)):
      raise ValueError(
        f'{folder}: {name} is another weight than {place.path} of the model has. The adapter is of '
        'another base, which has to be loaded, or the whole layer was trained: merge it in PEFT.'
      )
    del kept[name]
  return kept


def _hint(strange: Collection[str], values: peft_config.PeftConfig) -> str:
  """What an error adds about tensors that no place expects."""
  if not strange:
    return ''
  if values['bias'] != 'none' or values['modules_to_save']:
    return (
      '. Of bias and modules_to_save nothing is read: a table of names holds factors alone. Merge '
      'the adapter in PEFT.'
    )
  return '. What is unexpected belongs to no layer by the table of names.'


def _places(found: Mapping[str, sites.Site], names: Names) -> list[Place]:
  """Modules of PyTorch for layers, as far as the table names them.

  Raises:
    ValueError: for layers that are no matrices, and for two to which the table gives one name.
  """
  places: list[Place] = []
  for path, site in found.items():
    matches = ((re.fullmatch(pattern, path), text) for pattern, text in names.items())
    name = next((match.expand(text) for match, text in matches if match), None)
    if name is None:
      continue
    _check_kind(path, site, name)
    for index in range(math.prod(site.stack)):
      places.append(Place(name.replace('{layer}', str(index)), path, site, index))
  by_name: dict[str, list[str]] = {}
  for place in places:
    by_name.setdefault(place.name, []).append(place.path)
  if shared := [f'{name!r} to {errors.listed(x)}' for name, x in by_name.items() if len(x) > 1]:
    raise ValueError(
      f'names gives one name to several layers, {errors.listed(shared)}: a module of PyTorch holds '
      r'the tensors of one. Keep in the text what tells the layers apart, as \1 for a group of the '
      r"pattern: {r'block_(\d+)': r'blocks.\1'}."
    )
  return places


def _adapted(
  places: list[Place], tensors: Mapping[str, np.ndarray], values: peft_config.PeftConfig
) -> list[Place]:
  """The places of which a tensor is there, or which the config lists.

  A default of PEFT's and 'all-linear' list none: what they are depends on the model in PyTorch.
  """
  own, wanted = {place.name for place in places}, values['target_modules']

  def is_target(name: str) -> bool:
    # A whole name is that of one module, as `save_peft` writes it, though it may end another name.
    ends = wanted if isinstance(wanted, str) else [x for x in wanted or () if x not in own - {name}]
    return peft_matching.factors({**values, 'target_modules': ends}, name) is not None

  return [
    place for place in places if any(key in tensors for key in place.keys) or is_target(place.name)
  ]


def _rank(place: Place, tensors: Mapping[str, np.ndarray], values: peft_config.PeftConfig) -> int:
  """The rank of a module by its tensor A; by the config if that is missing."""
  a = tensors.get(place.keys[0])
  return peft_matching.numbers(values, place.name).rank if a is None else len(a)


def _check_outputs(places: list[Place]) -> None:
  """Raises a ValueError for a table of words that is the output layer, too."""
  if tied := [place.path for place in places if place.site.is_output]:
    raise ValueError(
      f'{errors.listed(tied)}: the model uses the table as its output layer as well, which has the '
      'factors then, too; in PEFT the two are modules of their own, and the output has none. Merge '
      'the adapter where it was trained, or leave the table out of the targets'
    )


def _check_kind(path: str, site: sites.Site, name: str) -> None:
  """Raises a ValueError for a layer whose update is not a product of two matrices."""
  a, b = map(math.prod, site.factors.values())
  stack, weight = math.prod(site.stack), math.prod(site.weight[1])
  if site.layer is lowrank.LAYERS[nn.Conv] or a * b != stack * site.rank**2 * weight:
    raise ValueError(
      f'{path}: a table of names is for layers whose weight is a matrix; convolutions and batches '
      'of weights have another layout in PEFT'
    )
  if len(site.stack) > 1 or bool(site.stack) != ('{layer}' in name):
    raise ValueError(
      f'{path}: its factors have {site.stack} in front for stacked layers, and the table names it '
      f'{name!r}: the text for layers in one stack, and no other, has {{layer}}'
    )


def _pair(place: Place, leaves: tree.Leaves, options: Options) -> parts.Pair:
  """A module's factors as matrices [in, r] and [r, out]."""
  own = [leaves[sites.inside(place.path, name)] for name in FACTORS]
  a, b = (x[place.index] for x in own) if place.site.stack else own
  rank = a.shape[-1]
  b = b.reshape(-1, rank).T if place.is_einsum else b.reshape(rank, -1)
  alpha = parts.alpha_of(options, place.path)
  return parts.Pair(a.reshape(-1, rank), b, alpha, bool(options['rslora']))


def _leaves(places: list[Place], tensors: Mapping[str, np.ndarray]) -> tree.Tree:
  """The trained leaves as the model has them; the inverse of `_pair`."""
  leaves: dict[str, list[np.ndarray]] = {}
  for place in places:
    rows, columns = (tensors[key] for key in place.keys)
    pair = (rows.T, columns if place.is_einsum else columns.T)
    for name, x, shape in zip(FACTORS, pair, place.shapes(len(rows))):
      leaves.setdefault(sites.inside(place.path, name), []).append(x.reshape(shape))
  stacked = {path for place in places if place.site.stack for path in place.site.factors}
  return tree.unflatten(
    {
      path: jnp.asarray(np.stack(x) if path in stacked else x[0], jnp.float32)
      for path, x in leaves.items()
    }
  )


def _factors(
  place: Place, tensors: Mapping[str, np.ndarray], values: peft_config.PeftConfig
) -> peft_matching.Factors:
  """Rank and alpha of a module by the config; its tensors show that it is a target."""
  rank = len(tensors[place.keys[0]])
  found = peft_matching.numbers(values, place.name)
  if found.rank != rank:
    raise ValueError(f'{place.name}: rank {found.rank} by {peft.CONFIG}, {rank} by its tensors')
  return found


def _by_path(places: list[Place], numbers: list[Number]) -> Number | dict[str, Number]:
  """The number of all layers, or a mapping from the patterns of their paths."""
  found: dict[str, Number] = {}
  for place, number in zip(places, numbers):
    if found.setdefault(re.escape(place.path), number) != number:
      raise ValueError(f'{place.path}: its stacked layers differ in rank or alpha')
  return found if len(set(numbers)) > 1 else numbers[0]
