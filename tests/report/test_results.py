"""Reading of runs, the page of all of them, and that the committed pages are those of the runs."""

import json
import shutil
from pathlib import Path

import pytest

from configs import rank
from experiments import report
from lora_jax.report import page, pages, results
from tests.report.runs import run

ROOT = Path(__file__).resolve().parents[2]


def test_seeds_are_one_row_and_other_configs_another():
  other = run(0, 0.7, config={'seed': 0, 'optim': {'lr': 1e-2}})
  first, second = results.run_rows([run(0, 0.8), run(1, 0.9), other])
  assert first['best'] == '0.8500 ± 0.0707'
  assert first['last'] == '0.7500 ± 0.0707'
  assert (first['seeds'], first['minutes']) == ('0, 1', '2.0')
  assert first['trained (without head)'] == '3,000 (1,000)'
  assert (second['best'], second['seeds']) == ('0.7000', '0')
  assert (first['settings'], second['settings']) == ('optim.lr=0.001', 'optim.lr=0.01')
  assert results.run_rows([run(0, 0.8), run(1, 0.9)])[0]['settings'] == ''


def test_a_run_on_a_part_of_its_examples_says_so():
  (row,) = results.run_rows([run(0, 0.8, config={'seed': 0, 'data': {'limit': 100}})])
  assert row['settings'] == 'data.limit=100'
  (row,) = results.run_rows([run(0, 0.8, config={'seed': 0, 'data': {'limit': 0}})])
  assert row['settings'] == ''


def test_a_run_is_kept_without_the_folders_of_its_machine():
  config = {'data': {'dir': '/home/me/data', 'limit': 3}, 'targets': ['/a/b', '.*/query', 'c/d']}
  assert report.without_folders(config) == {
    'data': {'dir': 'data', 'limit': 3},
    'targets': ['b', '.*/query', 'c/d'],
  }


def test_the_overrides_of_a_run_are_what_its_config_file_does_not_say():
  arg = 'task=cola,model=path/to/small,preset=small'
  config = json.loads(rank.get_config(arg).to_json())
  config['method'] |= {'rank': 64, 'targets': ['.*/attention/key']}
  config |= {'seed': 2, 'model': config['model'] | {'name': '/elsewhere/small'}}
  own = run(2, 0.8, experiment='rank', task='cola', config=config)
  assert report.overrides(own) == ''
  config['train'] |= {'epochs': 9}
  config['method'] |= {'alpha': 1.0}
  assert report.overrides(own) == ' --config.train.epochs=9 --config.method.alpha=1.0'
  compared = own | {'experiment': 'glue', 'preset': 'compare'}
  assert '--config.method' not in report.overrides(compared)
  assert (
    report.overrides(own | {'experiment': 'glue'})
    == report.overrides({'experiment': 'bench'})
    == ''
  )


def test_a_run_that_no_config_file_can_make_is_named(tmp_path):
  (tmp_path / 'odd.json').write_text(json.dumps(run(0, 0.8, experiment='rank', task='colla')))
  with pytest.raises(ValueError, match=r"odd\.json: not a run.*'colla'.*cola"):
    report.recorded(tmp_path)


def test_what_is_kept_of_a_run_a_sweep_and_an_analysis(tmp_path):
  def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))

  write(tmp_path / 'one/result.json', run(0, 0.8, model='/m/mini'))
  ((name, found),) = report.kept(tmp_path / 'one')
  assert (name, found['model']) == ('mrpc-mini-one', 'mini')
  write(tmp_path / 'sweep/sweep.json', {})
  for lane in ('rank=1', 'rank=2'):
    write(tmp_path / 'sweep' / lane / 'result.json', run(0, 0.8, experiment='rank'))
  names = [name for name, _ in report.kept(tmp_path / 'sweep')]
  assert names == ['mrpc-small-rank-rank=1', 'mrpc-small-rank-rank=2']
  write(tmp_path / 'pair/analysis.json', {'experiment': 'analysis', 'runs': ['/a/b']})
  assert list(report.kept(tmp_path / 'pair')) == [
    ('pair/analysis', {'experiment': 'analysis', 'runs': ['b']})
  ]
  with pytest.raises(ValueError, match=r'no result\.json'):
    list(report.kept(tmp_path / 'none'))


def test_the_committed_pages_are_those_of_the_committed_runs():
  made = pages.pages(report.recorded(ROOT / 'results/runs'), report.commands())
  stale = page.stale(made, ROOT / 'results')
  assert not stale, f'{stale} in results: python -m experiments.report'


def test_a_change_of_a_run_makes_its_pages_and_pictures_stale(tmp_path):
  source = 'cola-all-MiniLM-L6-v2-lora-seed0.json'
  shutil.copytree(ROOT / 'results', tmp_path / 'results')
  path = tmp_path / 'results/runs' / source
  found = json.loads(path.read_text())
  found['best']['dev/matthews'] += 0.1
  path.write_text(json.dumps(found))
  (tmp_path / 'results/more.md').write_text(page.MADE)
  (tmp_path / 'results/notes.md').write_text('by hand')
  made = pages.pages(report.recorded(tmp_path / 'results/runs'), report.commands())
  wanted = ['more.md', 'runs.md', 'table-2.md', 'table-2.png']
  assert page.stale(made, tmp_path / 'results') == wanted
  written = page.write(made, tmp_path / 'results')
  assert [path.name for path in written if path.suffix == '.png'] == ['table-2.png']
  assert page.stale(made, tmp_path / 'results') == []
  assert (tmp_path / 'results/notes.md').exists()


def test_a_file_that_is_no_run_is_named(tmp_path):
  (tmp_path / 'half.json').write_text('{"experiment": "glue", ')
  with pytest.raises(ValueError, match=r'half\.json: expected the JSON of a run'):
    results.read(tmp_path)
