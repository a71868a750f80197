"""A comparison tries every rate, then trains the seeds at the best one, as the page shows it."""

import json
import math

import pytest

from configs import _base, compare, glue
from lora_jax.cost import counts
from lora_jax.models import presets
from lora_jax.report.pages import comparison
from lora_jax.sweep import grouping


def test_a_comparison_is_methods_by_rates_then_the_best_rates_by_seeds(tmp_path):
  arg = 'task=stsb,model=/m/encoder'
  config = compare.get_config(arg)
  runs = grouping.members(config, compare.sweep(f'{arg},seeds=1'))
  assert len(runs) == sum(map(len, _base.RATES.values()))
  assert set(_base.RATES) == {
    'full', 'bitfit', 'adapter_h', 'adapter_l', 'adapter_p', 'prefix_embed', 'prefix_layer', 'lora',
  }  # fmt: skip
  for name, made in runs:
    method = made.method.name
    own = glue.get_config(f'{arg},preset=compare,method={method}')
    assert name.startswith(f'method={method},')
    assert made.method.to_dict() == own.method.to_dict()
    assert made.optim.lr in _base.RATES[method] and own.optim.lr in _base.RATES[method]
    apart = {'optim': {}, 'method': {}}
    assert own.to_dict() | apart == made.to_dict() | apart

  results = {}
  for name, made in runs:  # The middle rate is best, but for bitfit.
    rates = _base.RATES[made.method.name]
    best = rates[2 if made.method.name == 'bitfit' else 1]
    result = {
      'experiment': 'glue', 'preset': 'compare', 'model': '/elsewhere/encoder',
      'task': 'stsb', 'method': made.method.name, 'seed': made.seed, 'metric': 'dev/pearson',
      'commit': 'a' * 40,
      'best': {'dev/pearson': 0.9 if made.optim.lr == best else 0.8},
      'config': {
        'optim': {'lr': made.optim.lr}, 'method': json.loads(made.method.to_json_best_effort()),
      },
    }  # fmt: skip
    (tmp_path / name).mkdir()
    (tmp_path / name / 'result.json').write_text(json.dumps(result))
    results.setdefault(made.method.name, []).append(result)
  for task, seeds in (('stsb', {1, 2}), ('mrpc', {0, 1, 2})):
    chosen = list(compare.sweep(f'task={task},model=/m/encoder,rates={tmp_path}'))
    assert len(chosen) == 8 * len(seeds) and {run['seed'] for run in chosen} == seeds
    for run in chosen:
      method = run['method']['name']
      assert run['optim.lr'] == _base.RATES[method][2 if method == 'bitfit' else 1]
      found = comparison.best(results[method], comparison.column_of(results[method][0]))
      assert [one['config']['optim']['lr'] for one in found] == [run['optim.lr']]  # As on the page.

  worse = results['lora'][0] | {'task': 'mrpc', 'metric': 'f1', 'best': {'f1': 0.1}}
  (tmp_path / 'mrpc').mkdir()
  (tmp_path / 'mrpc/result.json').write_text(json.dumps(worse))  # Of the first rate.
  for task, place in (('mrpc', 0), ('stsb', 1)):
    chosen = compare.sweep(f'task={task},model=/m/encoder,rates={tmp_path}')
    rates = {run['optim.lr'] for run in chosen if run['method']['name'] == 'lora'}
    assert rates == {_base.RATES['lora'][place]}

  with pytest.raises(ValueError, match=r"finished run of .*'prefix': 24.* seeds=1 first"):
    list(compare.sweep(f'{arg},rates={tmp_path},prefix=24'))  # Those have longer prefixes.
  (tmp_path / runs[0].name / 'result.json').unlink()
  list(compare.sweep(f'{arg},rates={tmp_path}'))
  for member in runs[1 : len(_base.RATES['full'])]:
    (tmp_path / member.name / 'result.json').unlink()
  with pytest.raises(ValueError, match=r"finished run of .*'full'"):
    list(compare.sweep(f'{arg},rates={tmp_path}'))


def test_a_comparison_takes_the_rates_of_what_the_report_has_kept(tmp_path):
  arg = f'task=stsb,model=/m/encoder,methods=lora+full,rates={tmp_path}'
  section = json.loads(json.dumps(_base.method('lora', _base.lora(rank=8, alpha=16))))

  def keep(name, lr, seed, score, **more):
    run = {
      'experiment': 'glue', 'preset': 'compare', 'model': 'models/encoder', 'task': 'stsb',
      'seed': seed, 'metric': 'm', 'best': {'m': score},
      'config': {'optim': {'lr': lr}, 'method': section},
    }  # fmt: skip
    (tmp_path / f'{name}.json').write_text(json.dumps(run | more))

  keep('a', 1e-3, 0, 0.85)
  keep('b', 1e-3, 1, 0.75)  # A seed that the other has not: not compared.
  keep('c', 3e-4, 0, 0.84)
  keep('d', 3e-4, 0, 0.99, model='models/other')
  keep('e', 3e-4, 0, 0.99, preset='small')
  (tmp_path / 'bench.json').write_text('{"experiment": "bench"}')
  with pytest.raises(ValueError, match=r"finished run of .*'full'"):
    list(compare.sweep(arg))
  runs = list(compare.sweep(arg.replace('lora+full', 'lora')))
  assert [(run['optim.lr'], run['seed']) for run in runs] == [(1e-3, 2)]
  with pytest.raises(ValueError, match=r"method of a comparison 'lore'.*lora"):
    compare.get_config('methods=lore')


def test_a_search_goes_beyond_the_edge_and_refines_inside():
  grid = _base.RATES['lora']  # 3e-4, 1e-3, 3e-3, 1e-2

  def searched(score):
    scores = {}
    while following := compare.next_rate(scores, grid):
      scores[following] = score(following)
    return list(scores)

  inside = searched(lambda rate: -abs(math.log(rate / 2e-3)))
  assert inside[: len(grid)] == list(grid) and len(inside) == compare.TRIES
  assert 1e-3 < inside[-1] < 3e-3
  above = searched(lambda rate: rate if rate < 4e-2 else -math.inf)
  assert above[4:] == [0.03, 0.09]  # The last one diverged, and so the best one lies inside.
  below = searched(lambda rate: -rate)
  assert below[4:] == sorted(below[4:], reverse=True) and below[4] < grid[0]
  assert len(below) == compare.MOST  # Bounded.
  assert len(searched(lambda rate: 0.0)) <= compare.MOST


def test_a_comparison_at_given_rates_and_one_seed():
  runs = list(compare.sweep('task=rte,model=/m/e,methods=lora+full,lr=1e-3+3e-3,seed=2'))
  assert [(run['method']['name'], run['optim.lr']) for run in runs] == [
    ('lora', 1e-3), ('lora', 3e-3), ('full', 1e-3), ('full', 3e-3),
  ]  # fmt: skip
  assert {run['seed'] for run in runs} == {2}
  with pytest.raises(ValueError, match='expected numbers'):
    compare.get_config('lr=fast')


def test_a_rate_at_which_a_run_diverged_counts_as_tried(tmp_path):
  arg = 'task=stsb,model=/m/encoder,methods=lora,seed=0'
  ((name, config), *_) = grouping.members(compare.get_config(arg), compare.sweep(arg))
  folder = tmp_path / 'stsb-lora-rates' / name
  folder.mkdir(parents=True)
  (folder / 'config.json').write_text(config.to_json_best_effort())
  (folder / 'failed.json').write_text('{"error": "nan"}')
  (found,) = compare.read_finished(str(tmp_path), 'encoder')
  assert (found.lr, found.score, found.task) == (config.optim.lr, -math.inf, 'stsb')
  assert found.section == json.loads(json.dumps(compare.section_of('lora')))


def test_the_prefixes_of_a_comparison_can_be_shorter():
  runs = compare.sweep('task=cola,model=/m/encoder,prefix=24,seeds=1')
  sizes = {run['method']['name']: run['method'].get('prefix') for run in runs}
  assert {name: size for name, size in sizes.items() if size} == {
    'prefix_embed': 24,
    'prefix_layer': 24,
  }
  with pytest.raises(ValueError, match='expected a number of tokens'):
    compare.get_config('prefix=short')
  with pytest.raises(ValueError, match='preset of a comparison'):
    compare.get_config('preset=small')


def test_a_comparisons_methods_have_about_lora_s_count():
  """On the shape of all-MiniLM-L6-v2, for which _base.OPTIONS was made."""
  shape = dict(hidden_size=384, num_layers=6, num_heads=12)
  made = {
    name: counts.summarize(presets.architecture('bert', **shape), name, dict(section), scan=True)
    for name in _base.RATES
    if (section := _base.method(name, _base.lora(rank=8, alpha=16))) and section.pop('name')
  }
  trained = {name: summary.trainable - summary.head for name, summary in made.items()}
  assert trained['lora'] == 73_728
  for name in set(trained) - {'full', 'bitfit'}:  # Which have no size.
    assert abs(trained[name] / trained['lora'] - 1) < 0.07, name
