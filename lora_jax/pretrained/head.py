"""The task head of a model's parameters: drawn anew, or its outputs put in another order."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from lora_jax import tree
from lora_jax.pretrained import names


def output_part(model: nn.Module, paths: Iterable[str]) -> list[str]:
  """Those of the head's paths that go with its output layer.

  A head goes by its modules, as in the authors' code: RoBERTa's is one module, whose dense layer
  goes with its output; BERT's and DeBERTa's pooler is a module of its own, and stays.
  """
  outer = [pattern for pattern in model.head if not pattern.startswith('pooler')]
  return [path for path in paths if any(re.fullmatch(pattern, path) for pattern in outer)]


def fresh_output(model: nn.Module, params: tree.Params, seed: int) -> tree.Tree:
  """The parameters with another head's output part, as `load_model` draws it from the seed."""
  drawn = tree.flatten(draw(model, seed))
  leaves = tree.flatten(params)
  kept = set(leaves) - set(output_part(model, leaves))
  own = {path: drawn[path] for path in output_part(model, drawn)}
  return tree.unflatten({path: leaves[path] for path in kept} | own)


def reorder(model: nn.Module, params: tree.Params, outputs: Sequence[int]) -> tree.Tree:
  """The parameters with the outputs of the head in another order."""
  head = names.OUTPUT[model.config.family].rsplit('.', 1)[0]

  def place(path: str, leaf: jax.Array) -> jax.Array:
    return leaf[..., jnp.array(outputs)] if path.rsplit('/', 1)[0] == module else leaf

  leaves = tree.flatten(params)
  paths = {path.rsplit('/', 1)[0] for path in output_part(model, leaves)}
  module = next(path for path in paths if names.module_name(model.config, path) == head)
  return tree.unflatten({path: place(path, leaf) for path, leaf in leaves.items()})


def check(model: nn.Module, tensors: Iterable[str], where: str) -> None:
  """Raises a ValueError naming `where` if a checkpoint has no head of its own."""
  family = model.config.family
  if names.OUTPUT[family] not in {names.plain_name(name, family) for name in tensors}:
    raise ValueError(
      f'{where}: has no classification head ({names.OUTPUT[family]}), and one is needed: name a '
      'base that has it, or draw a fresh one (--config.model.head=fresh)'
    )


def draw(model: nn.Module, seed: int) -> tree.Tree:
  """The head's leaves as `fresh_model` would draw them: a parameter's key is that of its path."""
  small = model.clone(config=dataclasses.replace(model.config, num_layers=1))
  draw = jax.jit(lambda key: tree.split(initialize(small, key), model.head)[1])
  return draw(jax.random.key(seed))


def initialize(model: nn.Module, key: jax.Array) -> tree.Params:
  """A model's parameters, drawn with a key; their shapes do not depend on the input's."""
  return model.init(key, jnp.zeros((1, 1), jnp.int32))['params']
