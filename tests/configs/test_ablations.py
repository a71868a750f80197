"""The ablations sweep the grids of the paper's tables over a task's config."""

import pytest

from configs import _base, glue, low_data, matrices, rank, sizes
from lora_jax import methods
from lora_jax.paper import entries

SMALL = 'task=cola,model=path/to/small,preset=small'


def test_the_config_is_the_tasks_but_for_its_name():
  expected = glue.get_config(f'{SMALL},method=lora').to_dict() | {'experiment': 'rank'}
  assert rank.get_config(SMALL).to_dict() == expected
  assert rank.get_config('task=e2e').paper_table == 'table 18'
  for arg in ('task=e2e,tiny=true', 'task=e2e,model=runs/pretrain', SMALL):
    assert rank.get_config(arg).paper_table == ''


def test_ranks_and_matrices_are_those_of_tables_5_6_15_and_18():
  runs = list(rank.sweep(f'{SMALL},seeds=1'))
  assert [run['method.rank'] for run in runs] == 3 * [1, 2, 4, 8, 64]
  assert runs[0]['method.targets'] == ('.*/attention/query',)
  assert {run['method.targets'] for run in rank.sweep('task=e2e')} == {
    ('.*/attention/(query|value)',)
  }
  assert len(list(rank.sweep('task=e2e'))) == 3 * 11
  assert [run['method.rank'] for run in matrices.sweep(f'{SMALL},seeds=1')] == [8] * 4 + [4, 4, 2]


@pytest.mark.parametrize(
  'module, arg, count',
  [
    (rank, SMALL, 45),
    (rank, 'task=e2e,model=gpt2-medium,seeds=1', 11),
    (matrices, SMALL, 21),
  ],
)
def test_every_run_of_a_sweep_is_another(module, arg, count):
  runs = list(module.sweep(arg))
  assert len(runs) == len(set(map(str, runs))) == count
  assert list(runs[0]) == ['method.rank', 'method.targets', 'seed']
  config = module.get_config(arg)
  config.update_from_flattened_dict(dict(runs[-1]))
  assert config.method.rank == runs[-1]['method.rank']


def test_a_sweep_of_rows_ranks_and_named_seeds():
  every = {(run['method.rank'], run['seed']) for run in rank.sweep('task=e2e,ranks=8+64,seeds=2')}
  assert every == {(8, 0), (64, 0), (8, 1), (64, 1)}
  of_6 = list(rank.sweep('task=e2e,rows=6,seed=2'))
  assert of_6 == [run | {'seed': 2} for run in rank.sweep(f'{SMALL},seeds=1')]
  assert rank.get_config('task=e2e,rows=6').paper_table == ''
  for module in (matrices, low_data):
    assert {run['seed'] for run in module.sweep(f'{SMALL},seed=4')} == {4}
    two = list(module.sweep(f'{SMALL},seed=4+1'))  # A list, as of ranks or methods.
    assert two == [*module.sweep(f'{SMALL},seed=4'), *module.sweep(f'{SMALL},seed=1')]


def test_the_budget_of_table_5_is_one():
  runs = list(matrices.sweep(f'{SMALL},seeds=1'))
  adapted = [run['method.targets'][0].count('|') + 1 for run in runs]
  assert {run['method.rank'] * count for run, count in zip(runs, adapted)} == {8}


@pytest.mark.parametrize(
  'module, arg, message',
  [
    (rank, 'tsk=rte', "unknown key 'tsk'.*Did you mean 'task'"),
    (rank, 'task=mprc', "Did you mean 'mrpc'"),
    (rank, 'preset=smal', "Did you mean 'small'"),
    (rank, 'seeds=many', "seeds='many': expected the number of seeds"),
    (matrices, 'rows=5', "unknown key 'rows'"),
    (sizes, 'methods=adapter', "unknown part of methods= 'adapter'.*Did you mean 'adapter_h'"),
    (sizes, 'sizes=32+33', "unknown part of sizes= '33'"),
    (low_data, 'rows=5', "unknown key 'rows'"),
    (low_data, 'methods=lora+ful', "unknown part of methods= 'ful'.*Did you mean 'full'"),
    (low_data, 'examples=100+some', "examples='100.some': expected whole numbers"),
    (low_data, 'lr=high', "lr='high': expected numbers"),
    (rank, 'rows=5', "unknown rows '5'.*Known: 6, 18"),
    (rank, 'ranks=8,64', "expected key=value, found '64'"),
    (rank, 'ranks=8+many', 'expected whole numbers'),
    (rank, 'seeds=1+2', 'seed=1.2 names them'),
    (matrices, 'seed=two', "seed='two': expected one seed"),
    (matrices, 'seed=1+', "seed='1.': expected one seed"),
  ],
)
def test_a_mistake_in_an_argument_is_answered_with_near_names(module, arg, message):
  with pytest.raises(ValueError, match=message):
    module.get_config(arg)


def test_few_examples_get_more_epochs_in_the_proportion_of_table_17():
  epochs = low_data.get_config(SMALL).train.epochs
  runs = list(low_data.sweep(f'{SMALL},methods=lora,seeds=1'))
  assert [(run['data.limit'], run['train.epochs'] // epochs) for run in runs] == [
    (100, 20),
    (1_000, 20),
    (10_000, 2),
    (0, 1),
  ]
  few = low_data.sweep(f'{SMALL},methods=lora,examples=50+500+5000+50000+0,seeds=1')
  assert [run['train.epochs'] // epochs for run in few] == [20, 20, 2, 1, 1]


def test_few_examples_are_trained_with_the_methods_of_table_16_at_their_own_rates():
  compared = SMALL.replace('small', 'compare').replace('path/to/compare', 'path/to/small')
  runs = list(low_data.sweep(f'{compared},examples=100,seeds=2'))
  methods = ['full', 'prefix_embed', 'prefix_layer', 'lora']
  assert [(run['method']['name'], run['seed']) for run in runs] == [
    (method, seed) for seed in (0, 1) for method in methods
  ]
  assert [run['optim.lr'] for run in runs[:4]] == [_base.RATES[method][1] for method in methods]
  rates = list(low_data.sweep(f'{compared},examples=100+0,methods=full,lr=1e-5+1e-4,seeds=1'))
  assert [(run['data.limit'], run['optim.lr']) for run in rates] == [
    (100, 1e-5), (100, 1e-4), (0, 1e-5), (0, 1e-4)
  ]  # fmt: skip
  config = low_data.get_config(compared)
  config.update_from_flattened_dict(dict(rates[0]))
  assert config.method.name == 'full'
  # The paper has settings of LoRA alone.
  assert {run['method']['name'] for run in low_data.sweep('task=cola')} == {'lora'}
  with pytest.raises(ValueError, match='preset=paper has no settings of method=full'):
    list(low_data.sweep('task=cola,methods=full'))


def test_the_rows_of_table_15_by_method_and_size():
  compared = 'task=cola,model=path/to/small,preset=compare,seed=0'
  own = {'prefix', 'infix', 'bottleneck', 'rank', 'targets'}
  runs = [
    run['method'] | {name: run[f'method.{name}'] for name in own if f'method.{name}' in run}
    for run in sizes.sweep(compared)
  ]
  rows = [row for row in entries.TABLE_15 if '+' not in row.method]
  assert len(runs) == len(rows) == 26
  assert [run['name'] for run in runs] == [row.method for row in rows]
  assert all(row.options.items() <= run.items() for row, run in zip(rows, runs))
  for run in runs:
    methods.make(**run)
  some = list(sizes.sweep(f'{compared},methods=prefix_embed+full,sizes=32+64,lr=1e-3+1e-2'))
  assert [(run.get('method.prefix'), run['optim.lr']) for run in some] == [
    (32, 1e-3), (32, 1e-2), (64, 1e-3), (64, 1e-2), (None, 1e-3), (None, 1e-2)
  ]  # fmt: skip
  config = sizes.get_config(compared)
  config.update_from_flattened_dict(dict(some[0]))
  assert (config.experiment, config.method.prefix) == ('sizes', 32)
  assert {run['method']['name'] for run in sizes.sweep('task=cola')} == {'lora'}
  assert len(list(sizes.sweep('tiny=1,seeds=1'))) == 2


def test_a_number_of_seeds_is_positive():
  assert [run['seed'] for run in low_data.sweep('tiny=1,seeds=2')] == [0, 0, 1, 1]
  with pytest.raises(ValueError, match='expected the number of seeds'):
    rank.get_config('seeds=0')
