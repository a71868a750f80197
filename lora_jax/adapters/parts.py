"""An adapter taken apart into what every format of LoRA has: pairs of factors, and whole leaves.

    parts = take_apart(adapter)              # Parts(pairs, leaves), by paths
    adapter = put_together(parts, config, ...)

`peft.py` and `loralib.py` give the parts their names and layouts there.
"""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from lora_jax import tree
from lora_jax.adapters.adapter import Adapter
from lora_jax.methods.lora import rule
from lora_jax.models import presets
from lora_jax.pretrained import huggingface, names


class Pair(NamedTuple):
  """Factors of one module: the update of its weight [in, out] is `scale` a b."""

  a: np.ndarray  # [in, r]
  b: np.ndarray  # [r, out]
  alpha: float
  rslora: bool = False

  @property
  def rank(self) -> int:
    return self.a.shape[-1]

  @property
  def scale(self) -> float:
    return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class Parts(NamedTuple):
  """Pairs by the path of their module, and what else was trained by the path of its leaf."""

  pairs: dict[str, Pair]
  leaves: dict[str, np.ndarray]


class Base(NamedTuple):
  """The model that an adapter is for.

  Attributes:
    model: the Flax module.
    shapes: of its parameters, by path of the looped tree.
    modules: paths here of the modules that PEFT and loralib can adapt, by plain name there; a fused
      projection has three, in its order.
  """

  model: nn.Module
  shapes: dict[str, tuple[int, ...]]
  modules: dict[str, list[str]]


def base_of(config: presets.Config, task: str, num_labels: int) -> Base:
  """What an adapter's fields say of its base; nothing is read."""
  options = {} if task == 'lm' else {'num_labels': num_labels}
  model = huggingface.make_model(config, task=task, **options)
  shapes = huggingface.shapes(model)
  modules: dict[str, list[str]] = {}
  for path, shape in shapes.items():
    module, leaf = path.rsplit('/', 1)
    dense = leaf == 'kernel' and len(shape) == 2
    # DeBERTa's table of relative positions is an embedding that nobody looks up; GPT-2's words are
    # the output layer as well, which factors here follow, and elsewhere do not.
    table = leaf == 'embedding' and module.startswith('embeddings/')
    if dense or (table and (config.family, module) != ('gpt2', 'embeddings/word')):
      modules.setdefault(names.module(config, module), []).append(module)
  for paths in modules.values():  # The tree's own order of a c_attn's thirds is another.
    paths.sort(key=lambda path: names.third(config, path) or 0)
  return Base(model, shapes, modules)


def task_of(
  where: str, config: presets.Config, tensors: Mapping[str, np.ndarray], labels: int
) -> tuple[str, int]:
  """Task and number of labels: as many as the head has among the tensors, `labels` without one."""
  if presets.TASKS[config.family] == ('lm',):
    return 'lm', 0
  name = names.OUTPUT[config.family]
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
    ValueError: if two have the same.
  """
  tensors: dict[str, np.ndarray] = {}
  for name, x in named:
    if (plain := names.plain(name, family)) in tensors:
      raise ValueError(
        f'{where}: two tensors are {plain}, with and without {names.PREFIXES[family]}'
      )
    tensors[plain] = x
  return tensors


def factor_shapes(
  base: Base, module: str, paths: Sequence[str], ranks: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
  """Shapes there of a module's A and B, for the paths that are adapted in it.

  `ranks` are the rows of A and the columns of B, which differ where factors are stacked.
  """
  leaves = (f'{paths[0]}/{leaf}' for leaf in ('kernel', 'embedding'))
  inputs, outputs = next(base.shapes[leaf] for leaf in leaves if leaf in base.shapes)
  return (ranks[0], inputs), (outputs * len(paths), ranks[1])


def take_apart(adapter: Adapter, target: str) -> tuple[Parts, Base]:
  """The parts of an adapter, as `target`, a format, can hold them.

  Raises:
    ValueError: for a method other than LoRA, and factors where the format has none.
  """
  method = dict(adapter.method)
  if method['name'] != 'lora':
    raise ValueError(
      f'{target} holds LoRA only; the adapter is {method["name"]!r}. Export it in the format of '
      'lora_jax, or a merged model.'
    )
  base = base_of(adapter.config, adapter.task, adapter.num_labels)
  leaves = {path: np.asarray(x) for path, x in tree.flatten(adapter.trainable).items()}
  sites = [path.removesuffix('/lora_a') for path in leaves if path.endswith('/lora_a')]
  known = {path for paths in base.modules.values() for path in paths}
  if other := [path for path in sites if path not in known]:
    raise ValueError(
      f'{target} computes factors on {listed(other)} in another way than they were trained, or '
      'not at all: only on dense layers, and on embeddings that are not the output layer as well. '
      'Export a merged model.'
    )
  if adapter.config.family == 'gpt2' and 'embeddings/word/embedding' in leaves:
    raise ValueError(
      f'{target} unties embeddings/word from the output layer. Export a merged model.'
    )
  rslora = bool(method.get('rslora', False))
  pairs = {
    path: Pair(
      leaves.pop(f'{path}/lora_a'),
      leaves.pop(f'{path}/lora_b'),
      float(rule('alpha', method['alpha'], path)),
      rslora,
    )
    for path in sites
  }
  if unknown := leaves.keys() - base.shapes.keys():
    raise ValueError(f'parameters that the model does not have: {listed(sorted(unknown))}')
  if whole := [path for path in sites if {f'{path}/kernel', f'{path}/embedding'} & leaves.keys()]:
    raise ValueError(
      f'{target} has either factors or a whole module, not both: {listed(whole)}. Take it out of '
      'the targets, or export a merged model.'
    )
  return Parts(pairs, leaves), base


def put_together(
  parts: Parts,
  base: Base,
  *,
  task: str,
  dropout: float = 0.0,
  name: str = '',
  method: Mapping[str, Any] | None = None,
) -> Adapter:
  """The adapter of parts that fit the base; the inverse of `take_apart`.

  Args:
    parts: checked against the base's shapes.
    task, dropout, name: what the parts do not show.
    method: options that give these parts, where they are known; else they are found: patterns that
      match the adapted modules and no other.

  Raises:
    ValueError: for leaves that no option `train` or `bias` gives.
  """
  leaves = {path: np.array(x, np.float32) for path, x in parts.leaves.items()}
  for path, pair in parts.pairs.items():
    leaves[f'{path}/lora_a'] = np.array(pair.a, np.float32)
    leaves[f'{path}/lora_b'] = np.array(pair.b, np.float32)
  if method is None:
    train, bias = _trained(parts, base)
    method = {
      'name': 'lora',
      'rank': _rules({path: pair.rank for path, pair in parts.pairs.items()}),
      'alpha': _rules({path: pair.alpha for path, pair in parts.pairs.items()}),
      'targets': _targets(parts.pairs, base.model.config.num_layers),
      'train': train,
      'bias': bias,
      'dropout': dropout,
      'rslora': any(pair.rslora for pair in parts.pairs.values()),
    }
  return Adapter(
    method=method,
    trainable=tree.unflatten(leaves),
    config=base.model.config,
    task=task,
    num_labels=getattr(base.model, 'num_labels', 0),
    base=name,
  )


def biases(base: Base, modules: Iterable[str]) -> list[str]:
  """Paths of the biases of modules."""
  return [path for module in modules if (path := f'{module}/bias') in base.shapes]


def all_biases(base: Base) -> list[str]:
  """Paths of the biases of the whole model."""
  return [path for path in base.shapes if path.endswith('/bias')]


def whole_modules(base: Base, leaves: Iterable[str]) -> list[str]:
  """Paths of the modules of which the weight is among the leaves.

  Raises:
    ValueError: if the bias of such a module is not.
  """
  leaves = set(leaves)
  chosen = {path.rsplit('/', 1)[0] for path in leaves if not path.endswith('/bias')}
  everything = dict.fromkeys(path.rsplit('/', 1)[0] for path in base.shapes)
  modules = [module for module in everything if module in chosen]
  if halves := [path for path in biases(base, modules) if path not in leaves]:
    raise ValueError(f'a module is trained as a whole; lacking are {listed(halves)}')
  return modules


def check(
  where: str,
  expected: Mapping[str, tuple[int, ...]],
  found: Mapping[str, np.ndarray],
  hint: str = '',
) -> None:
  """Raises a ValueError naming `where` and all tensors missing, unexpected or misshapen."""
  problems = {
    'missing': [f'{name} {shape}' for name, shape in expected.items() if name not in found],
    'unexpected': [f'{name} {x.shape}' for name, x in found.items() if name not in expected],
    'misshapen': [
      f'{name} is {found[name].shape}, expected {shape}'
      for name, shape in expected.items()
      if name in found and found[name].shape != shape
    ],
  }
  if said := [f'{kind} {listed(items)}' for kind, items in problems.items() if items]:
    raise ValueError(f'{where}: the tensors do not fit: {"; ".join(said)}{hint}')


def _trained(parts: Parts, base: Base) -> tuple[tuple[str, ...], str]:
  """The options `train` and `bias` that give the leaves."""
  whole = whole_modules(base, parts.leaves)
  inside = {path for path in base.shapes if path.rsplit('/', 1)[0] in set(whole)}
  rest = set(parts.leaves) - inside
  bias = 'none'
  if rest == set(biases(base, parts.pairs)) and rest:
    bias = 'adapted'
  elif rest and set(all_biases(base)) <= parts.leaves.keys():
    bias = 'all'
  elif rest:
    raise ValueError(
      f'the biases {listed(sorted(rest))} are neither those of the adapted modules nor all; only '
      'one of these can be read'
    )
  train = []
  for pattern in base.model.head:
    matched = {path for path in base.shapes if re.fullmatch(pattern, path)}
    if matched <= inside:
      train.append(pattern)
      inside -= matched
  left = {path.rsplit('/', 1)[0] for path in inside}
  train += [f'{module}/[^/]*' for module in whole if module in left]
  return tuple(train), bias


def _targets(paths: Iterable[str], num_layers: int) -> tuple[str, ...]:
  """Patterns for modules: one for those that are in all layers, else the paths."""
  kinds: dict[str, list[str]] = {}
  for path in paths:
    kinds.setdefault(names.LAYER.sub('', path), []).append(path)
  everywhere = lambda kind, members: len(members) == num_layers and kind not in members
  patterns = (
    [f'.*/{kind}'] if everywhere(kind, members) else members for kind, members in kinds.items()
  )
  return tuple(pattern for group in patterns for pattern in group)


def _rules(numbers: Mapping[str, Any]) -> Any:
  """One number, or a mapping from path to number that ends in the most frequent."""
  if not numbers:
    raise ValueError('there are no factors in it')
  ((most, _),) = collections.Counter(numbers.values()).most_common(1)
  others = {path: number for path, number in numbers.items() if number != most}
  return {**others, '.*': most} if others else most


def listed(items: Sequence[str], limit: int = 12) -> str:
  """Names for a message; of many, the first."""
  more = f' and {len(items) - limit} more' if len(items) > limit else ''
  return f'{", ".join(items[:limit])}{more}'
