"""The peers' scripts, read but not run: they stand alone and have the shapes that are used here."""

import ast
import json
import pathlib
import sys

import pytest

from lora_jax.bench import comparison, timing

PEERS = pathlib.Path(__file__).resolve().parents[2] / 'experiments' / 'peers'
SCRIPTS = sorted(PEERS.glob('*.py'))
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
  script = constants(PEERS / 'peft_step.py')
  for name, (width, layers, heads) in script['SIZES'].items():
    own = timing.SHAPES[name]
    assert (own.hidden_size, own.num_layers, own.num_heads) == (width, layers, heads)
    assert own.intermediate_size == 4 * width
    published = script['GPT2' if 'gpt2' in name else 'ROBERTA']['vocab_size']
    toy = name.startswith('toy')
    assert own.vocab_size == (script['TOY_VOCABULARY'] if toy else published)
  for sizes in (comparison.Sizes(), comparison.TOYS):
    shapes = (sizes.base, sizes.large, sizes.decoder)
    assert {shape.partition(':')[0] for shape in shapes} <= set(script['SIZES'])


def test_the_last_whole_line_counts():
  lines = [json.dumps({'measured': {'a': 1}}), '{"measured": {"b"']
  assert list(comparison.last_complete(lines)) == [{'measured': {'a': 1}}]
  assert list(comparison.last_complete(['{'])) == []


def test_ratios_are_to_the_fastest_attention_and_only_where_both_were_measured():
  sizes = comparison.Sizes()
  measured = {
    'mfu, roberta-base 32x128': {
      'lora, xla': {'seconds': 6.0}, 'lora, cudnn': {'seconds': 5.0}, 'full': {'seconds': 9.0},
    },
    'PEFT, roberta-base 32x128': {'lora, compile': {'seconds': 10.0}},
    'PEFT, gpt2-medium 8x512': {'lora, eager': {'seconds': 10.0}},
  }  # fmt: skip
  assert comparison.against_peers(measured, sizes) == {
    'lora, roberta-base 32x128': {'seconds': 5.0, 'peft_compile': 10.0, 'of_compile': 0.5}
  }


def test_each_section_runs_what_its_flags_say(monkeypatch, tmp_path):
  commands = []

  def child(command, seconds, env=None):
    commands.append(command[1:])
    for flag in command:
      if flag.startswith('--out='):
        found = {'device': 'gpu', 'measured': {'t': {}}, 'notes': {}, 'skipped': {}}
        pathlib.Path(flag[6:]).write_text(json.dumps(found))
    return '{"measured": {"s": {}}, "errors": {}, "versions": {"torch": "2"}, "dtype": "x"}\n'

  monkeypatch.setattr(comparison.budget, 'child', child)
  options = comparison.Options(peers=PEERS, peer_python='python3', is_toy=True)
  by_name = {section.name: section for section in comparison.sections(options)}
  (found,) = by_name['mfu_base'].run(60)
  assert found['device'] == 'gpu' and '--shapes=toy-roberta:4x32' in commands[0]
  (found,) = by_name['peft_base'].run(60)
  assert found['measured'] == {'PEFT, s': {}} and found['versions'] == {'torch': '2'}
  assert commands[1][0] == str(PEERS / 'peft_step.py') and '--methods=lora,full' in commands[1]
  with pytest.raises(ValueError, match='needs --data_dir'):
    list(by_name['rte'].run(60))
  options = comparison.Options(peers=PEERS)
  by_name = {section.name: section for section in comparison.sections(options)}
  with pytest.raises(ValueError, match='--peer_python names no Python'):
    list(by_name['generate'].run(60))


def test_what_a_killed_section_had_found_is_kept(monkeypatch):
  def child(command, seconds, env=None):
    line = '{"measured": {"s": {}}, "errors": {}, "versions": {}, "dtype": "x"}\n{"meas'
    raise comparison.budget.ChildError('was ended after 1 s', line)

  monkeypatch.setattr(comparison.budget, 'child', child)
  section = comparison.peer(comparison.Options(peers=PEERS, peer_python='p'), 'peft_step.py')
  found = section(1)
  assert next(found)['measured'] == {'PEFT, s': {}}
  with pytest.raises(comparison.budget.ChildError):
    next(found)


@pytest.mark.parametrize(
  'given, message',
  [
    ({'peer_python': 'no-such-python'}, r'--peer_python=no-such-python: .*torch.*No such file'),
    ({'peer_python': '-'}, r'--peer_python=.*: expected .*torch.*No module named'),
    ({'model': 'no-such-folder'}, r'--model=no-such-folder: expected a folder'),
    ({'data_dir': 'no-such-folder'}, r'--data_dir=no-such-folder: expected a folder'),
  ],
)
def test_what_a_section_would_fail_on_is_refused_before_all_of_them(given, message, tmp_path):
  if given.get('peer_python') == '-':  # A Python without any package.
    lonely = tmp_path / 'python'
    lonely.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    lonely.chmod(0o755)
    given = {'peer_python': str(lonely)}
  with pytest.raises(ValueError, match=message):
    comparison.check(comparison.Options(peers=PEERS, **given))
