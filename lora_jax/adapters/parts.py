"""The parts of an adapter that every format of LoRA stores: pairs of factors, and whole leaves.

    parts, base = to_parts(adapter, 'PEFT')   # Parts(pairs, leaves), by path
    adapter = from_parts(parts, base, task=adapter.task)

`peft.py` and `loralib.py` translate the parts to the names and layouts of their formats.
"""

from __future__ import annotations

import collections
import math
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from lora_jax import errors, stacking, tree
from lora_jax.adapters.adapter import Adapter, Options, abstract_base, check_values
from lora_jax.errors import listed
from lora_jax.methods.initial import OF_WEIGHT
from lora_jax.methods.lora import FACTORS, MAGNITUDE, START, rule, scale
from lora_jax.methods.vera import PROJECTIONS, VECTORS, factors
from lora_jax.methods.vera import Pair as Shared
from lora_jax.models import presets
from lora_jax.pretrained import huggingface, names

Number = TypeVar('Number', int, float)


class Pair(NamedTuple):
  """Factors of one module: the update of its weight [in, out] is `scale` a b.

  Attributes:
    a: [in, r]; of VeRA the module's vector [r].
    b: [r, out]; of VeRA the module's vector [out].
    alpha, rslora: as for `lora`.
    magnitude: of DoRA, [out].
  """

  a: np.ndarray
  b: np.ndarray
  alpha: float
  rslora: bool = False
  magnitude: np.ndarray | None = None

  @property
  def rank(self) -> int:
    return self.a.shape[-1]

  @property
  def scale(self) -> float:
    return scale(self.alpha, self.rank, self.rslora)


class Parts(NamedTuple):
  """What an adapter of LoRA or VeRA is made of.

  Attributes:
    pairs: by the path of their module.
    leaves: all other trained leaves by their own path.
    shared: VeRA's factors, which all modules share; None says that the pairs are factors.
  """

  pairs: dict[str, Pair]
  leaves: dict[str, np.ndarray]
  shared: Shared | None = None


class BaseLayout(NamedTuple):
  """Names and shapes of the model that an adapter is for.

  Attributes:
    model: the Flax module.
    shapes: shapes of its parameters, by path of the looped tree.
    modules: paths of the modules that PEFT and loralib can adapt, by Hugging Face's plain name. A
      fused projection has three paths, in the order of its thirds.
    is_tied: whether its output layer is the table of words, as of a language model without its own.
  """

  model: presets.Model
  shapes: dict[str, errors.Shape]
  modules: dict[str, list[str]]
  is_tied: bool


def base_layout(config: presets.Config, task: str, num_labels: int) -> BaseLayout:
  """The layout of the base that an adapter's fields describe; nothing is read."""
  model = abstract_base(config, task, num_labels)
  shapes = huggingface.shapes(model)
  modules: dict[str, list[str]] = {}
  is_tied = task == 'lm' and 'lm_head/kernel' not in shapes
  for path, shape in shapes.items():
    module, leaf = path.rsplit('/', 1)
    dense = leaf == 'kernel' and len(shape) == 2
    # DeBERTa's table of relative positions is never looked up as an embedding. Tied words are the
    # output layer as well, which has the factors in this package, and not in the other tools.
    table = leaf == 'embedding' and module.startswith('embeddings/')
    if dense or (table and not (is_tied and module == 'embeddings/word')):
      modules.setdefault(names.module_name(config, module), []).append(module)
  for paths in modules.values():  # The tree has the thirds of a c_attn in another order.
    paths.sort(key=lambda path: names.third(config, path) or 0)
  return BaseLayout(model, shapes, modules, is_tied)


def task_of(
  where: str,
  config: presets.Config,
  tensors: Mapping[str, np.ndarray],
  labels: int,
  classifies: bool = False,
) -> tuple[str, int]:
  """The task and the number of labels, by the head among the tensors; without one, `labels`."""
  tasks, name = presets.TASKS[config.family], names.OUTPUT.get(config.family)
  # A decoder without a head is a language model, unless other signs say that it classifies.
  if tasks[0] == 'lm' and name not in tensors and not (classifies and len(tasks) > 1):
    return 'lm', 0
  if name in tensors:
    if tensors[name].ndim != 2 or not len(tensors[name]):
      raise ValueError(f'{where}: {name} is {tensors[name].shape}, expected (labels, width)')
    labels = len(tensors[name])
  return 'regression' if labels == 1 else 'classification', labels


def plain_names(
  where: str, named: Iterable[tuple[str, np.ndarray]], family: str
) -> dict[str, np.ndarray]:
  """Tensors by plain name.

  Raises:
    ValueError: if two tensors have the same plain name.
  """
  tensors: dict[str, np.ndarray] = {}
  for name, x in named:
    if (plain := names.plain_name(name, family)) in tensors:
      raise ValueError(
        f'{where}: two tensors are {plain}, with and without the prefix {names.PREFIXES[family]}'
      )
    tensors[plain] = x
  return tensors


def factor_shapes(
  base: BaseLayout, paths: Sequence[str], ranks: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
  """Shapes of a module's A [r, in] and B [out, r] in other formats, adapted at these paths.

  `ranks` are the rows of A and the columns of B, which differ if factors are stacked.
  """
  leaves = (f'{paths[0]}/{leaf}' for leaf in ('kernel', 'embedding'))
  inputs, outputs = next(base.shapes[leaf] for leaf in leaves if leaf in base.shapes)
  return (ranks[0], inputs), (outputs * len(paths), ranks[1])


# PEFT saves the base's weight beside the factors of these, in case that words were added.
WORDS = ('embeddings/word', 'lm_head')


def to_parts(
  adapter: Adapter, target: str, *, holds_vera: bool = False
) -> tuple[Parts, BaseLayout]:
  """The parts of an adapter and the layout of its base, for the format `target`.

  Args:
    adapter: of LoRA or VeRA.
    target: the format's name, for errors.
    holds_vera: whether it holds VeRA as such. Else its updates are written out as factors.

  Raises:
    ValueError: for a method other than LoRA, and for factors where the format cannot hold them.
  """
  method = dict(adapter.method)
  if method['name'] not in ('lora', 'vera'):
    raise ValueError(
      f'{target} holds LoRA only; the adapter is {method["name"]!r}. Export it in the format of '
      'lora_jax, or a merged model.'
    )
  base = base_layout(adapter.config, adapter.task, adapter.num_labels)
  leaves = {path: np.asarray(x) for path, x in tree.flatten(adapter.trainable).items()}
  check_values(leaves, 'the adapter')
  names_in = FACTORS if method['name'] == 'lora' else VECTORS
  first = f'/{names_in[0]}'
  sites = [path.removesuffix(first) for path in leaves if path.endswith(first)]
  known = {path for paths in base.modules.values() for path in paths}
  if other := [path for path in sites if path not in known]:
    raise ValueError(
      f'{target} cannot compute factors on {listed(other)} as they were trained: it has factors on '
      'dense layers and on embeddings that are not the output layer as well. Export a merged model.'
    )
  if base.is_tied and 'embeddings/word/embedding' in leaves:
    raise ValueError(
      f'{target} unties embeddings/word from the output layer. Export a merged model.'
    )
  shared = None
  if method['name'] == 'vera':
    shared = Shared(*(leaves.pop(f'{PROJECTIONS}/{name}') for name in Shared._fields))
  pairs = {path: _pair(path, leaves, method) for path in sites}
  if shared and not holds_vera:
    shapes = {path: base.shapes[f'{path}/kernel'] for path in pairs}
    pairs = {path: _multiplied(pair, shared, shapes[path]) for path, pair in pairs.items()}
  if unknown := leaves.keys() - base.shapes.keys():
    raise ValueError(f'parameters that the model does not have: {listed(sorted(unknown))}')
  whole = [path for path in sites if {f'{path}/kernel', f'{path}/embedding'} & leaves.keys()]
  if whole := [path for path in whole if not (target == 'PEFT' and path in WORDS)]:
    raise ValueError(
      f'{target} has either factors or a whole module, not both: {listed(whole)}. Remove it from '
      'the targets, or export a merged model.'
    )
  return Parts(pairs, leaves, shared if holds_vera else None), base


def alpha_of(method: Options, path: str) -> float:
  """Alpha of a module's pair in other formats: of both products, if one is subtracted."""
  if method['name'] == 'vera':  # The scale is 1.
    return float(method['rank'])
  alpha = float(rule('alpha', method['alpha'], path))
  if method.get('init') not in OF_WEIGHT:
    return alpha
  return alpha * (math.sqrt(2) if method.get('rslora') else 2)  # The rank is doubled.


def _pair(path: str, leaves: dict[str, np.ndarray], method: Options) -> Pair:
  """A module's pair, taken from the leaves; a b - a0 b0 is one product of twice the rank."""
  of_lora = method['name'] == 'lora'
  a, b = (leaves.pop(f'{path}/{name}') for name in (FACTORS if of_lora else VECTORS))
  if method.get('init') in OF_WEIGHT:
    a0, b0 = (leaves.pop(f'{path}/{name}') for name in START)
    a, b = np.concatenate([a, a0], axis=-1), np.concatenate([b, -b0])
  magnitude = leaves.pop(f'{path}/{MAGNITUDE}', None)
  return Pair(a, b, alpha_of(method, path), bool(method.get('rslora', False)), magnitude)


def _multiplied(pair: Pair, shared: Shared, weight: errors.Shape) -> Pair:
  """The factors of a module of VeRA, whose pair holds its vectors."""
  found = factors(shared, pair.a, pair.b, weight)
  return pair._replace(a=np.asarray(found.a), b=np.asarray(found.b))


def _leaves_of(path: str, pair: Pair, method: Options | None) -> dict[str, np.ndarray]:
  """The inverse of `_pair`."""
  found = dict(zip(FACTORS if pair.a.ndim > 1 else VECTORS, (pair.a, pair.b)))
  if method is not None and method.get('init') in OF_WEIGHT:
    (a, a0), (b, b0) = np.split(pair.a, 2, axis=-1), np.split(pair.b, 2)
    found = dict(zip((*FACTORS, *START), (a, b, a0, -b0)))
  if pair.magnitude is not None:
    found[MAGNITUDE] = pair.magnitude
  return {f'{path}/{name}': np.array(x, np.float32) for name, x in found.items()}


def from_parts(
  parts: Parts,
  base: BaseLayout,
  *,
  task: str,
  name: str = '',
  options: Options = types.MappingProxyType({}),
  method: Options | None = None,
) -> Adapter:
  """The adapter with these parts; the inverse of `to_parts`.

  Args:
    parts: parts whose shapes fit the base.
    task, name: fields of the adapter that the parts do not show.
    options: options of the method that they do not show.
    method: all of its options, if they are known. None derives them from the parts: patterns that
      match the adapted modules and no other.

  Raises:
    ValueError: for leaves that no value of the options `train` and `bias` would train.
  """
  leaves = {path: np.array(x, np.float32) for path, x in parts.leaves.items()}
  for path, pair in parts.pairs.items():
    leaves |= _leaves_of(path, pair, method)
  if parts.shared:
    shared = parts.shared._asdict()
    leaves |= {f'{PROJECTIONS}/{name}': np.array(x, np.float32) for name, x in shared.items()}
  if method is None:
    train, bias = _train_and_bias(parts, base)
    method = {
      'name': 'lora',
      'rank': _rules({path: pair.rank for path, pair in parts.pairs.items()}, base),
      'alpha': _rules({path: pair.alpha for path, pair in parts.pairs.items()}, base),
      'targets': _patterns(parts.pairs, base),
      'train': train,
      'bias': bias,
      'dropout': 0.0,
      'rslora': any(pair.rslora for pair in parts.pairs.values()),
      'dora': any(pair.magnitude is not None for pair in parts.pairs.values()),
    }
    if parts.shared:
      method = {'name': 'vera', **{name: method[name] for name in ('rank', 'targets', 'train')}}
    method |= options
  return Adapter(
    method=method,
    trainable=tree.unflatten(leaves),
    config=base.model.config,
    task=task,
    num_labels=getattr(base.model, 'num_labels', 0) or 0,  # A Llama's is None without a head.
    base=name,
  )


def biases(base: BaseLayout, modules: Iterable[str]) -> list[str]:
  """Paths of the biases of modules."""
  return [path for module in modules if (path := f'{module}/bias') in base.shapes]


def all_biases(base: BaseLayout) -> list[str]:
  """Paths of the biases of the whole model."""
  return [path for path in base.shapes if path.endswith('/bias')]


def whole_modules(base: BaseLayout, leaves: Iterable[str]) -> list[str]:
  """Paths of the modules whose weight is among the leaves.

  Raises:
    ValueError: if such a module's bias is not among them.
  """
  leaves = set(leaves)
  chosen = {path.rsplit('/', 1)[0] for path in leaves if not path.endswith('/bias')}
  everything = dict.fromkeys(path.rsplit('/', 1)[0] for path in base.shapes)
  modules = [module for module in everything if module in chosen]
  if halves := [path for path in biases(base, modules) if path not in leaves]:
    raise ValueError(f'a module is trained as a whole, but its bias is missing: {listed(halves)}')
  return modules


def check(
  where: str,
  expected: Mapping[str, tuple[int, ...]],
  found: Mapping[str, np.ndarray],
  hint: str = '',
) -> None:
  """Raises a ValueError naming `where` and all tensors missing, unexpected or misshapen."""
  if problems := errors.mismatches(expected, found):
    raise ValueError(f'{where}: the tensors do not fit: {"; ".join(problems)}{hint}')


def _train_and_bias(parts: Parts, base: BaseLayout) -> tuple[tuple[str, ...], str]:
  """The options `train` and `bias` that train the leaves."""
  whole = whole_modules(base, parts.leaves)
  inside = {path for path in base.shapes if path.rsplit('/', 1)[0] in set(whole)}
  rest = set(parts.leaves) - inside
  in_head = lambda path: any(re.fullmatch(pattern, path) for pattern in base.model.head)
  lacking = set(all_biases(base)) - parts.leaves.keys()
  bias, train = 'none', []
  if rest == set(biases(base, parts.pairs)) and rest:
    bias = 'adapted'
  elif rest and not lacking:
    bias = 'all'
  elif rest and all(map(in_head, lacking)):  # All of a model without a head.
    train += sorted(rest)
  elif rest:
    raise ValueError(
      f'the biases {listed(sorted(rest))} are neither those of the adapted modules nor all biases '
      'of the model; only one of these can be read'
    )
  for pattern in base.model.head:
    matched = {path for path in base.shapes if re.fullmatch(pattern, path)}
    if matched <= inside:
      train.append(pattern)
      inside -= matched
  left = {path.rsplit('/', 1)[0] for path in inside}
  train += [f'{one}/[^/]*' for one in _patterns([x for x in whole if x in left], base)]
  return tuple(train), bias


def _patterns(paths: Iterable[str], base: BaseLayout) -> tuple[str, ...]:
  """Patterns of modules: one pattern for a module in all layers, and the paths of the others.

  A model whose layers are scanned has no path of a single layer.
  """
  kinds: dict[str, list[str]] = {}
  for path in paths:
    kinds.setdefault(stacking.path_in_layer(path), []).append(path)
  count = base.model.config.num_layers
  everywhere = lambda kind, members: len(members) == count and kind not in members
  patterns = (
    [f'.*/{kind}'] if everywhere(kind, members) else members for kind, members in kinds.items()
  )
  return tuple(pattern for group in patterns for pattern in group)


def _rules(numbers: Mapping[str, Number], base: BaseLayout) -> Number | dict[str, Number]:
  """The number of all paths, or a mapping from patterns that ends in the most frequent one."""
  if not numbers:
    raise ValueError('the adapter has no factors')
  ((most, _),) = collections.Counter(numbers.values()).most_common(1)
  by_number: dict[Number, list[str]] = {}
  for path, number in numbers.items():
    by_number.setdefault(number, []).append(path)
  others = {
    pattern: number
    for number, paths in by_number.items()
    if number != most
    for pattern in _patterns(paths, base)
  }
  return {**others, '.*': most} if others else most
