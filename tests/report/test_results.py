"""The results page is what the committed runs say, and says when a file is no run."""

from pathlib import Path

import pytest

from lora_jax.report import results

ROOT = Path(__file__).resolve().parents[2]


def run(seed, best, **more):
  return {
    'experiment': 'glue', 'task': 'mrpc', 'model': 'small', 'method': 'lora', 'preset': 'small',
    'metric': 'dev/accuracy', 'device': '1 x cpu', 'cpu': '2 x x86_64', 'seed': seed,
    'best': {'dev/accuracy': best}, 'last': {'dev/accuracy': best - 0.1}, 'history': [],
    'parameters': {'trainable': 3000, 'trainable_without_head': 1000},
    'seconds': {'training': 60.0, 'compiling': 30.0, 'evaluation': 30.0},
    'tokens_per_second': 1234.5, 'padding': 0.05, 'commit': 'a' * 40,
    'config': {'seed': seed, 'optim': {'lr': 1e-3}}, **more,
  }  # fmt: skip


def test_seeds_are_one_row_and_other_configs_another():
  other = run(0, 0.7, config={'seed': 0, 'optim': {'lr': 1e-2}})
  first, second = results.run_rows([run(0, 0.8), run(1, 0.9), other])
  assert first['best'] == '0.8500 ± 0.0707'
  assert first['last'] == '0.7500 ± 0.0707'
  assert (first['seeds'], first['minutes']) == ('0, 1', '2.0')
  assert first['trained (without head)'] == '3,000 (1,000)'
  assert (second['best'], second['seeds']) == ('0.7000', '0')


def test_the_committed_page_is_that_of_the_committed_runs():
  found = results.read(ROOT / 'results' / 'runs')
  assert (ROOT / 'results' / 'README.md').read_text() == results.render(found), (
    'results/README.md is stale: python -m experiments.report'
  )


def test_a_file_that_is_no_run_is_named(tmp_path):
  (tmp_path / 'half.json').write_text('{"experiment": "glue", ')
  with pytest.raises(ValueError, match=r'half\.json: expected the JSON of a run'):
    results.read(tmp_path)
