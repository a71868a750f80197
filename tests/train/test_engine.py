"""Both engines have what the loop asks of one: names and signatures of the protocol."""

import ast
import inspect
from pathlib import Path

import pytest

from lora_jax.sweep.stacked import Stacked
from lora_jax.train import engine, loop, single

ENGINES = (single.Single, Stacked)
METHODS = {
  name: inspect.signature(value)
  for name, value in vars(engine.Engine).items()
  if inspect.isfunction(value) and not name.startswith('_')
}
ATTRIBUTES = {'members', *engine.Engine.__annotations__}


@pytest.mark.parametrize('of', ENGINES, ids=lambda x: x.__name__)
@pytest.mark.parametrize('name', METHODS)
def test_a_method_is_called_as_the_protocol_says(of, name):
  shape = lambda signature: [(x.name, x.kind, x.default) for x in signature.parameters.values()]
  assert shape(inspect.signature(getattr(of, name))) == shape(METHODS[name])


@pytest.mark.parametrize('of', ENGINES, ids=lambda x: x.__name__)
def test_the_attributes_are_set_at_the_start(of):
  (body,) = ast.parse(inspect.getsource(of)).body
  (start,) = (x for x in body.body if isinstance(x, ast.FunctionDef) and x.name == '__init__')
  assert assigned(start) >= ATTRIBUTES


def assigned(function):
  """The attributes of `self` that a function assigns to."""
  targets = (t for node in ast.walk(function) if isinstance(node, ast.Assign) for t in node.targets)
  every = (x for t in targets for x in ast.walk(t) if isinstance(x, ast.Attribute))
  return {x.attr for x in every if getattr(x.value, 'id', '') == 'self'}


def test_the_loop_asks_for_nothing_else():
  source = ast.parse(Path(loop.__file__).read_text())
  used = {
    node.attr
    for node in ast.walk(source)
    if isinstance(node, ast.Attribute) and getattr(node.value, 'id', '') == 'engine'
  }
  assert used and used <= ATTRIBUTES | METHODS.keys()
