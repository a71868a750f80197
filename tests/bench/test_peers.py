"""The peers' scripts, read but not run: they stand alone and have the shapes that are used here."""

import ast
import json
import pathlib
import sys

import pytest

from experiments import compare_peers
from lora_jax.bench import timing

SCRIPTS = sorted(compare_peers.PEERS.glob('*.py'))
ALLOWED = {'torch', 'transformers', 'peft', *sys.stdlib_module_names}


def constants(path: pathlib.Path) -> dict[str, object]:
  """The module's constants: literals, and `dict(...)` of literals."""
  found = {}
  for node in ast.parse(path.read_text()).body:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
      value = node.value
      if isinstance(value, ast.Call):
        found[node.targets[0].id] = {x.arg: ast.literal_eval(x.value) for x in value.keywords}
      else:
        found[node.targets[0].id] = ast.literal_eval(value)
  return found


@pytest.mark.parametrize('path', SCRIPTS, ids=lambda path: path.stem)
def test_a_script_stands_alone(path):
  imported = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      imported |= {alias.name.split('.')[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      imported.add((node.module or '').split('.')[0])
  assert 'torch' in imported and imported <= ALLOWED


def test_the_shapes_are_those_that_are_measured_here():
  script = constants(compare_peers.PEERS / 'peft_step.py')
  for name, (width, layers, heads) in script['SIZES'].items():
    own = timing.SHAPES[name]
    assert (own.hidden_size, own.num_layers, own.num_heads) == (width, layers, heads)
    assert own.intermediate_size == 4 * width
    published = script['GPT2' if 'gpt2' in name else 'ROBERTA']['vocab_size']
    toy = name.startswith('toy')
    assert own.vocab_size == (script['TOY_VOCABULARY'] if toy else published)
  for sizes in (compare_peers.Sizes(), compare_peers.TOYS):
    shapes = (sizes.base, sizes.large, sizes.decoder)
    assert {shape.partition(':')[0] for shape in shapes} <= set(script['SIZES'])


def test_the_last_whole_line_counts():
  lines = [json.dumps({'measured': {'a': 1}}), '{"measured": {"b"']
  assert list(compare_peers.last_complete(lines)) == [{'measured': {'a': 1}}]
  assert list(compare_peers.last_complete(['{'])) == []


def test_ratios_are_to_the_fastest_attention_and_only_where_both_were_measured():
  sizes = compare_peers.Sizes()
  measured = {
    'mfu, roberta-base 32x128': {
      'lora, xla': {'seconds': 6.0}, 'lora, cudnn': {'seconds': 5.0}, 'full': {'seconds': 9.0},
    },
    'PEFT, roberta-base 32x128': {'lora, compile': {'seconds': 10.0}},
    'PEFT, gpt2-medium 8x512': {'lora, eager': {'seconds': 10.0}},
  }  # fmt: skip
  assert compare_peers.against_peers(measured, sizes) == {
    'lora, roberta-base 32x128': {'seconds': 5.0, 'peft_compile': 10.0, 'of_compile': 0.5}
  }
