"""Every row of tables 2 and 3 has a config that trains what is printed, or is refused as quoted."""

import json
import re

import pytest

from configs import base, base_glue, compare, dart, e2e, glue, webnlg
from experiments import counts
from lora_jax.report import comparison
from lora_jax.report.counts import agrees
from lora_jax.sweep import grouping

ROWS = [
  *((glue, 'table 2', cell) for cell in base_glue.TABLE_2),
  *((e2e, 'table 3', cell) for cell in e2e.TABLE_3),
]
OWN = [row for row in ROWS if row[2].arg]
QUOTED = [row for row in ROWS if not row[2].arg]


@pytest.mark.parametrize('module, table, cell', OWN)
def test_a_row_of_the_papers_own_has_a_config_that_trains_its_count(module, table, cell):
  config = module.get_config(f'model={cell.model},{cell.arg}')
  assert config.cell.removesuffix(' †') == table
  section = dict(config.method)
  assert section.pop('name') == cell.method
  assert section.items() >= cell.options.items()
  section.pop('train')
  summary = counts.trained(cell.model, cell.method, section, scan=True)
  trained = summary.trainable - summary.head
  named = (cell.model, cell.method) in counts.NOTES
  assert agrees(cell.printed, trained) or named, (cell.printed, trained)


@pytest.mark.parametrize('module, table, cell', QUOTED)
def test_a_quoted_row_has_no_settings_and_the_error_says_so(module, table, cell):
  for preset in ('paper', 'script'):
    with pytest.raises(ValueError) as error:
      module.get_config(f'model={cell.model},method={cell.method},preset={preset}')
    message = str(error.value)
    assert f'preset={preset} has no settings of method={cell.method}: {table} quotes' in message
    assert cell.printed in message and 'preset=small' in message
  small = module.get_config(f'model={cell.model},method={cell.method},preset=small')
  assert (small.method.name, small.cell) == (cell.method, '')


def test_the_tables_have_the_papers_rows():
  rows = lambda cells, quoted: sorted(
    f'{cell.model} {cell.method} {cell.printed}' for cell in cells if quoted == (not cell.arg)
  )
  assert rows(base_glue.TABLE_2, quoted=True) == [
    'deberta-v2-xxlarge full 1500.0M', 'roberta-base adapter_d 0.3M',
    'roberta-base adapter_d 0.9M', 'roberta-base bitfit 0.1M', 'roberta-base full 125.0M',
    'roberta-large full 355.0M',
  ]  # fmt: skip
  assert rows(base_glue.TABLE_2, quoted=False) == [
    'deberta-v2-xxlarge lora 4.7M', 'roberta-base lora 0.3M', 'roberta-large adapter_h 0.8M',
    'roberta-large adapter_h 6.0M', 'roberta-large adapter_p 0.8M', 'roberta-large adapter_p 3.0M',
    'roberta-large lora 0.8M', 'roberta-large lora 0.8M',
  ]  # fmt: skip
  assert rows(e2e.TABLE_3, quoted=True) == [
    'gpt2-large full 774.03M', 'gpt2-large prefix_layer 0.77M', 'gpt2-medium adapter_l 0.37M',
    'gpt2-medium adapter_l 11.09M', 'gpt2-medium full 354.92M', 'gpt2-medium prefix_layer 0.35M',
    'gpt2-medium top_layers 25.19M',
  ]  # fmt: skip
  assert rows(e2e.TABLE_3, quoted=False) == [
    'gpt2-large adapter_l 0.88M', 'gpt2-large adapter_l 23.00M', 'gpt2-large lora 0.77M',
    'gpt2-medium adapter_h 11.09M', 'gpt2-medium lora 0.35M',
  ]  # fmt: skip


# Table 10 and the scripts, by columns as paper.md has them.
COLUMNS = ('mnli', 'sst2', 'mrpc', 'cola', 'qnli', 'qqp', 'rte', 'stsb')
BOTH = {
  'train.epochs': '5 16 30 10 8 11 11 10',
  'optim.weight_decay': '0 0.01 0.01 0 0.01 0.01 0.01 0.1',
  'model.classifier_dropout': '0.15 0 0 0.1 0.1 0.2 0.2 0.2',
  'data.max_length': '256 128 128 64 512 320 320 128',
}
XXLARGE = {
  'paper': BOTH | {
    'train.batch_size': '8 8 32 4 6 8 4 4',
    'optim.lr': '1e-4 6e-5 2e-4 1e-4 1e-4 1e-4 2e-4 2e-4',
    'optim.warmup_ratio': '0.1 0.1 0.1 0.1 0.1 0.1 0.1 0.1',
    'optim.warmup_steps': '0 0 0 0 0 0 0 0',
    'eval.every_steps': '0 0 0 0 0 0 0 0',
  },
  'script': BOTH | {
    'train.batch_size': '64 64 256 32 48 64 32 32',
    'optim.lr': '1e-4 6e-5 2e-4 1.3e-4 1e-4 1e-4 2.6e-4 2e-4',
    'optim.warmup_ratio': '0 0 0.1 0 0 0 0 0',
    'optim.warmup_steps': '1000 1000 0 100 500 10000 50 100',
    'eval.every_steps': '500 100 10 20 500 500 20 50',
  },
}  # fmt: skip


@pytest.mark.parametrize('preset', XXLARGE)
def test_deberta_has_the_settings_of_table_10_and_of_the_scripts(preset):
  for field, column in XXLARGE[preset].items():
    for task, value in zip(COLUMNS, column.split(), strict=True):
      config = glue.get_config(f'task={task},model=deberta-v2-xxlarge,preset={preset}')
      section, name = field.split('.')
      assert config[section][name] == float(value), (task, field)
      assert (config.method.rank, config.method.alpha, config.method.init) == (16, 32, 'normal')
      assert (config.optim.schedule, config.cell) == ('linear', 'table 2')
  folder = glue.get_config(f'model=/models/deberta-v2-xxlarge/,preset={preset}')
  assert folder.optim.weight_decay == 0.01


def test_the_papers_own_adapters_of_gpt2_take_table_11():
  config = e2e.get_config('model=gpt2-large,method=adapter_l')
  assert (config.method.bottleneck, config.cell) == (8, 'table 3')
  large = e2e.get_config('model=gpt2-large,method=adapter_l,bottleneck=248')
  assert (large.method.bottleneck, large.optim.lr, large.optim.warmup_steps) == (248, 2e-4, 500)
  assert (large.train.batch_size, large.train.epochs, large.optim.weight_decay) == (8, 5, 0.01)
  for module, cell in ((webnlg, 'table 14'), (dart, 'table 13')):
    assert module.get_config('model=gpt2-large,method=adapter_l').cell == cell


@pytest.mark.parametrize(
  'module, arg, message',
  [
    (e2e, 'method=adapter_l,bottleneck=6', 'table 3 quotes its row of gpt2-medium (0.37M and'),
    (e2e, 'method=adapter_h,bottleneck=9', 'Known: 112'),
    (e2e, 'method=adapter_h,preset=script', 'no script of method=adapter_h. Take preset=paper'),
    (e2e, 'method=lora,bottleneck=8', 'none of method=lora on gpt2-medium'),
    (e2e, 'method=bitfit', 'table 3 has no such row of gpt2-medium'),
    (dart, 'method=full', 'table 13 quotes its row of gpt2-medium (354M'),
    (webnlg, 'model=gpt2-xl,method=adapter_l', 'table 14 has no such row of gpt2-xl'),
    (glue, 'model=roberta-large,method=adapter_h', 'preset=dagger has the adapters'),
    (glue, 'model=deberta-v2-xxlarge,method=bitfit', 'no such row of deberta-v2-xxlarge'),
    (glue, 'preset=compare,method=top_layers', "Unknown method of preset=compare 'top_layers'"),
  ],
)  # fmt: skip
def test_what_the_paper_does_not_have_is_refused_with_what_there_is(module, arg, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    module.get_config(arg)


def test_a_comparison_is_methods_by_rates_then_the_best_rates_by_seeds(tmp_path):
  arg = 'task=stsb,model=/m/encoder'
  config = compare.get_config(arg)
  runs = grouping.lanes(config, compare.sweep(f'{arg},seeds=1'))
  assert len(runs) == sum(map(len, base_glue.RATES.values()))
  assert set(base_glue.RATES) == {
    'full', 'bitfit', 'adapter_h', 'adapter_l', 'adapter_p', 'prefix_embed', 'prefix_layer', 'lora',
  }  # fmt: skip
  for name, made in runs:
    method = made.method.name
    own = glue.get_config(f'{arg},preset=compare,method={method}')
    assert name.startswith(f'method={method},')
    assert made.method.to_dict() == own.method.to_dict()
    assert made.optim.lr in base_glue.RATES[method] and own.optim.lr in base_glue.RATES[method]
    apart = {'optim': {}, 'method': {}}
    assert own.to_dict() | apart == made.to_dict() | apart

  results = {}
  for name, made in runs:  # The middle rate is best, but for bitfit.
    rates = base_glue.RATES[made.method.name]
    best = rates[2 if made.method.name == 'bitfit' else 1]
    result = {
      'experiment': 'glue', 'preset': 'compare', 'model': '/elsewhere/encoder',
      'task': 'stsb', 'method': made.method.name, 'seed': made.seed, 'metric': 'dev/pearson',
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
      assert run['optim.lr'] == base_glue.RATES[method][2 if method == 'bitfit' else 1]
      found = comparison.best(results[method], comparison.column_of(results[method][0]))
      assert [one['config']['optim']['lr'] for one in found] == [run['optim.lr']]  # As on the page.

  worse = results['lora'][0] | {'task': 'mrpc', 'metric': 'f1', 'best': {'f1': 0.1}}
  (tmp_path / 'mrpc').mkdir()
  (tmp_path / 'mrpc/result.json').write_text(json.dumps(worse))  # Of the first rate.
  for task, place in (('mrpc', 0), ('stsb', 1)):
    chosen = compare.sweep(f'task={task},model=/m/encoder,rates={tmp_path}')
    rates = {run['optim.lr'] for run in chosen if run['method']['name'] == 'lora'}
    assert rates == {base_glue.RATES['lora'][place]}

  with pytest.raises(ValueError, match=r"finished run of .*'prefix': 24.* seeds=1 first"):
    list(compare.sweep(f'{arg},rates={tmp_path},prefix=24'))  # Those have longer prefixes.
  (tmp_path / runs[0].name / 'result.json').unlink()
  list(compare.sweep(f'{arg},rates={tmp_path}'))
  for lane in runs[1 : len(base_glue.RATES['full'])]:
    (tmp_path / lane.name / 'result.json').unlink()
  with pytest.raises(ValueError, match=r"finished run of .*'full'"):
    list(compare.sweep(f'{arg},rates={tmp_path}'))


def test_a_comparison_goes_on_from_what_the_report_has_kept(tmp_path):
  arg = f'task=stsb,model=/m/encoder,methods=lora+full,rates={tmp_path}'
  section = json.loads(json.dumps(base.method('lora', base.lora(rank=8, alpha=16))))

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


def test_the_prefixes_of_a_comparison_can_be_shorter():
  runs = compare.sweep('task=cola,model=/m/encoder,prefix=24,seeds=1')
  sizes = {run['method']['name']: run['method'].get('prefix') for run in runs}
  assert {name: size for name, size in sizes.items() if size} == {
    'prefix_embed': 24, 'prefix_layer': 24,
  }  # fmt: skip
  with pytest.raises(ValueError, match='how many tokens'):
    compare.get_config('prefix=short')
  with pytest.raises(ValueError, match='preset of a comparison'):
    compare.get_config('preset=small')


def test_a_comparisons_methods_have_about_lora_s_count():
  """On the shape of all-MiniLM-L6-v2, for which base.OPTIONS was made."""
  shape = dict(hidden_size=384, num_layers=6, num_heads=12)
  made = {
    name: counts.of(
      counts.presets.architecture('bert', **shape), name, dict(section), scan=True
    )
    for name in base_glue.RATES
    if (section := base.method(name, base.lora(rank=8, alpha=16))) and section.pop('name')
  }  # fmt: skip
  trained = {name: summary.trainable - summary.head for name, summary in made.items()}
  assert trained['lora'] == 73_728
  for name in set(trained) - {'full', 'bitfit'}:  # Which have no size.
    assert abs(trained[name] / trained['lora'] - 1) < 0.07, name
