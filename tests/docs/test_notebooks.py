"""The notebooks run, at toy size, and are committed with the outputs of all their cells."""

import json

import pytest

from tests.docs import notebooks, pages

TINY = {
  'own_model': {'PRETRAINING': 2, 'STEPS': 2, 'RANKS': (1,)},
  'ranks_to_subspaces': {'PRETRAINING': 2, 'STEPS': 2, 'LOW': 1, 'HIGH': 2},
}
PATHS = {path.stem: path for path in sorted((pages.DOCS / 'notebooks').glob('*.ipynb'))}


@pytest.mark.slow  # Several programs are compiled for either.
@pytest.mark.parametrize('name', PATHS)
def test_a_notebook_runs(name):
  ran = notebooks.execute(PATHS[name], TINY[name])
  kept = json.loads(PATHS[name].read_text())
  kinds = lambda notebook: [
    [output['output_type'] for output in cell.get('outputs', ())] for cell in notebook['cells']
  ]
  assert kinds(ran) == kinds(kept)


@pytest.mark.parametrize('name', PATHS)
def test_a_notebook_is_small_and_was_run_in_order(name):
  assert PATHS[name].stat().st_size < 200_000
  cells = json.loads(PATHS[name].read_text())['cells']
  code = [cell for cell in cells if cell['cell_type'] == 'code']
  assert [cell['execution_count'] for cell in code] == list(range(1, len(code) + 1))
  pictures = [out for cell in code for out in cell['outputs'] if 'data' in out]
  assert pictures and name in TINY


def test_cells_share_names_and_a_failure_names_its_cell(tmp_path):
  cell = lambda source, **metadata: {
    'cell_type': 'code', 'metadata': metadata, 'source': [source], 'outputs': []
  }  # fmt: skip
  path = tmp_path / 'one.ipynb'
  cells = [cell('n = 3', tags=['parameters']), cell('print(n)'), cell('print(1 / (n - 4))')]
  path.write_text(json.dumps({'cells': cells}))
  assert notebooks.execute(path)['cells'][1]['outputs'][0]['text'] == ['3\n']
  assert notebooks.execute(path, {'n': 5})['cells'][2]['outputs'][0]['text'] == ['1.0\n']
  with pytest.raises(ZeroDivisionError) as raised:
    notebooks.execute(path, {'n': 4})
  assert str(raised.traceback[-1].path).endswith('one.ipynb[2]')
  with pytest.raises(ValueError, match="no parameters \\['m'\\]"):
    notebooks.execute(path, {'m': 4})
