"""The structure of the package, counted: one loop, one home for each fact, short functions."""

import pytest

from tests import house

MOST_LINES, MOST_LEVELS, MOST_ANY, READING_PATH = 80, 4, 200, 850
# What only one module does: an identifier, and the module that uses it.
HOMES = {'get_close_matches': 'errors.py', 'fsync': 'files.py'}
# Modules, and folders of them, without a test file of their name, and what tests them.
UNTESTED = {
  'analysis_schema': 'types alone; tests/analysis reads what is written by them',
  'bench': 'it measures and decides nothing; `experiments.bench` runs every part of it',
  'models/encoder': 'tests/models/test_models.py and test_parity.py, by its families',
  'models/gpt2': 'tests/models/test_models.py and test_parity.py, with the encoders',
  'result_schema': 'types alone; tests/train/test_result.py compares them with what is written',
}


@pytest.mark.parametrize('folder', ['lora_jax', 'experiments', 'configs'])
def test_text_files_are_utf_8_whatever_the_locale_is(folder):
  assert house.unencoded(house.ROOT / folder) == [], "name encoding='utf-8'"


def test_there_is_one_training_loop():
  assert house.training_loops() == ['train/loop.py:fit']


def test_functions_are_short_and_flat():
  long = {name: lines for name, lines, _ in house.functions() if lines > MOST_LINES}
  deep = {name: levels for name, _, levels in house.functions() if levels > MOST_LEVELS}
  assert not long and not deep


def test_what_is_untyped_stays_the_exception():
  assert sum(house.names('Any').values()) < MOST_ANY


@pytest.mark.parametrize('identifier', HOMES)
def test_each_fact_has_one_home(identifier):
  assert set(house.names(identifier)) == {HOMES[identifier]}


def test_no_module_imports_itself_by_way_of_others():
  assert house.circles(house.modules()) == []


def test_a_newcomer_reads_five_files_with_the_gradient_in_them():
  assert house.reading_path_lines() <= READING_PATH
  step = (house.PACKAGE / 'train/step.py').read_text()
  assert 'value_and_grad' in step and '{}/step'.format('train') in house.READING_PATH


def test_each_module_has_a_test_file_of_its_name():
  found = house.untested()
  folders = {name for name in found for folder in UNTESTED if name.startswith(f'{folder}/')}
  assert found - folders == UNTESTED.keys() - {'bench'}, 'one has none, or needs no exemption'


PLANTED = """
def train(engine, batches):
  for batch in batches:
    if batch:
      while batch.rows:
        with open(batch):
          try:
            engine.advance(batch)
          except OSError:
            pass
"""


def test_the_counts_see_what_they_count(tmp_path):
  root = tmp_path / 'planted'
  (root / 'sweep').mkdir(parents=True)
  (root / 'sweep/chunk.py').write_text(PLANTED)
  assert house.training_loops(root) == ['sweep/chunk.py:train']
  ((_, lines, levels),) = house.functions(root)
  assert (lines, levels) == (9, 5)
  (root / 'a.py').write_text('from planted import b\nx: Any = os.fsync(1)\n')
  (root / 'b.py').write_text('from planted.a import x\n')
  assert house.circles(house.modules(root)) == [['planted.a', 'planted.b']]
  assert house.names('fsync', root) == house.names('Any', root) == {'a.py': 1}
  (root / 'c.py').write_text(
    "p.open()\np.open('w')\np.read_text()\nopen(p, 'a')\np.write_text(x, newline='')\n"
    "p.open('rb')\nopen(p, 'wb')\np.read_text(encoding='utf-8')\nImage.open(p)\nos.open(p, 1)\n"
  )
  assert house.unencoded(root) == [f'planted/c.py:{line}' for line in range(1, 6)] + [
    'planted/sweep/chunk.py:6'
  ]
  (root / 'c.py').unlink()
  (tmp_path / 'tests').mkdir()
  (tmp_path / 'tests/test_b.py').touch()
  assert house.untested(root, tmp_path / 'tests') == {'a', 'sweep/chunk'}
