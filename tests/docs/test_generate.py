"""The pages that are made: every field, command, room, name and result is on one."""

import importlib.util
import json
import re

import pytest

import lora_jax
from lora_jax import fields
from tests.docs import pages

ROOT = pages.ROOT


@pytest.fixture(scope='module')
def generate():
  spec = importlib.util.spec_from_file_location('generate', ROOT / 'docs/generate.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_every_field_has_a_row_with_its_meaning(generate):
  rows = {line.split(' | ')[0]: line for line in generate.config_page().splitlines()}
  for path, field in fields.ALL.items():
    assert field.meaning.replace('|', '\\|') in rows[f'| `{path}`']


def test_every_command_is_listed_with_its_flags(generate):
  page = generate.commands_page()
  for path in (ROOT / 'experiments').glob('[a-z]*.py'):
    section = page.split(f'## experiments.{path.stem}\n')[1].split('\n## ')[0]
    defined = re.findall(r'DEFINE_(?!alias)\w+\(\s*[\'"](\w+)', path.read_text())
    assert len(section.split('|')[0]) > 40 and all(f'| `--{name}` |' in section for name in defined)


def test_every_config_file_is_there_with_its_commands_as_code(generate):
  page = generate.configs_page()
  for path in (ROOT / 'configs').glob('[a-z]*.py'):
    assert f'## configs/{path.name}\n' in page
  assert '```\npython -m experiments.train --workdir=runs/mrpc \\\n    --config=' in page
  assert page.count('```') % 2 == 0


def test_the_arrows_are_those_of_the_structure_test(generate):
  from tests.test_architecture import ARROWS

  assert generate.arrows() == ARROWS
  levels = generate.levels(ARROWS)
  place = {name: number for number, level in enumerate(levels) for name in level}
  assert all(place[to] < place[name] for name in ARROWS for to in ARROWS[name])
  assert all(f'| `{name}` |' in generate.arrows_page() for name in ARROWS)
  with pytest.raises(ValueError, match='import each other'):
    generate.levels({'a': {'b'}, 'b': {'a'}})


def test_every_public_name_and_module_has_a_reference(generate):
  made = generate.api_pages()
  listed = re.findall(r'auto\w+:: lora_jax\.(\w+)', made['public'])
  assert sorted([*listed, 'METHODS']) == sorted(generate.public_names())
  assert all(hasattr(lora_jax, name) for name in listed)
  modules = {m for text in made.values() for m in re.findall(r'automodule:: (\S+)', text)}
  assert {'lora_jax.methods.lora', 'lora_jax.train', 'lora_jax.report.pages.glue'} < modules


def test_the_results_keep_their_text_and_their_pictures(generate, tmp_path):
  folder = tmp_path / 'results'
  folder.mkdir()
  (folder / 'README.md').write_text('# Results\n\n[A](a.md)\n')
  (folder / 'a.md').write_text('# A\n\n### Part\n\n#### Of it\n\n![x](a.png)\n')
  (folder / 'a.png').write_bytes(b'png')
  generate.write(tmp_path / 'made', folder)
  made = tmp_path / 'made' / 'results'
  assert (made / 'a.png').read_bytes() == b'png'
  assert (made / 'a.md').read_text() == '# A\n\n## Part\n\n### Of it\n\n![x](a.png)\n'
  assert (made / 'index.md').read_text().startswith('# Results\n\n[A](a.md)\n')
  assert not (made / 'README.md').exists()


def test_a_notebook_becomes_a_page_with_its_outputs(generate, tmp_path):
  cells = [
    {'cell_type': 'markdown', 'source': ['# Title\n', '[a](../b.md) [c](../../results/c.md)']},
    {
      'cell_type': 'code',
      'source': ['print(1)'],
      'outputs': [
        {'output_type': 'stream', 'text': ['1\n']},
        {'output_type': 'display_data', 'data': {'image/png': 'cG5n'}},
      ],
    },
  ]
  (tmp_path / 'own.ipynb').write_text(json.dumps({'cells': cells}))
  generate.notebook_page(tmp_path / 'own.ipynb', tmp_path / 'made')
  page = (tmp_path / 'made' / 'own.md').read_text()
  assert page.startswith('# Title\n') and '```python\nprint(1)\n```\n\n```text\n1\n```' in page
  assert (tmp_path / 'made' / 'own-1.png').read_bytes() == b'png'
  assert '](own-1.png)' in page and 'own.ipynb' in page
  assert '[a](../../b.md) [c](../results/c.md)' in page
