"""The docstrings of the configs name entries and pages of results that exist."""

import importlib
import pathlib
import re

import pytest

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
NAMES = [path.stem for path in sorted(CONFIGS.glob('*.py')) if not path.name.startswith('_')]


@pytest.mark.parametrize('own', NAMES)
def test_the_commands_of_a_docstring_name_configs_that_exist(own):
  doc = importlib.import_module(f'configs.{own}').__doc__
  found = re.findall(r'--config=configs/(\w+)\.py(?::(\S+))?', doc)
  assert own in [name for name, _ in found]
  for name, arg in found:
    importlib.import_module(f'configs.{name}').get_config(arg)
  for page in re.findall(r'results/[\w-]+\.md', doc):
    assert (CONFIGS.parent / page).is_file(), page
