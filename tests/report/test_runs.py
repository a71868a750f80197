"""Files are read by what they hold; runs that differ in nothing but the seed are one group."""

import json

import pytest

from lora_jax import fields
from lora_jax.report import runs, scores
from lora_jax.report.pages import all_runs
from tests.report.toys import ablation, generated, run


def write(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(value))


def test_files_are_told_apart_by_what_they_hold(tmp_path):
  write(tmp_path / 'a.json', run(0, 0.8))
  write(tmp_path / 'b.json', run(1, 0.8) | {'error': 'loss is nan at step 3.'})
  for kind in ('bench', 'baselines', 'counts', 'latency', 'tokenizer'):
    write(tmp_path / 'more' / f'{kind}.json', {'experiment': kind})
  for name in ('analysis', 'copy'):
    analysis = {'experiment': 'analysis', 'kind': 'pair', 'of': 'a', 'measured': {}}
    write(tmp_path / 'more' / f'{name}.json', analysis)
  write(tmp_path / 'claims.json', {'experiment': 'plan', 'claims': {}})
  write(tmp_path / 'plan.json', {'experiment': 'plan', 'measured': {}})
  found = runs.read(tmp_path)
  assert {kind: list(files) for kind, files in vars(found).items()} == {
    'runs': ['a.json'],
    'diverged': ['b.json'],
    'analysis': ['more/analysis.json'],
    'latency': ['more/latency.json'],
    'baselines': ['more/baselines.json'],
    'bench': ['more/bench.json'],
    'counts': ['more/counts.json'],
    'chaos': [],
    'claims': ['claims.json'],
    'measured_plans': ['plan.json'],
  }


@pytest.mark.parametrize('text', ['{"experiment": "glue", ', '[]', '{"task": "mrpc"}'])
def test_a_file_that_is_not_of_a_run_is_named(tmp_path, text):
  (tmp_path / 'half.json').write_text(text)
  with pytest.raises(ValueError, match=r'half\.json: expected the JSON of a run'):
    runs.read(tmp_path)


def test_groups_differ_in_more_than_the_seed():
  first, second = run(0, 0.8), run(1, 0.9)
  other = run(0, 0.7, config=run(0, 0)['config'] | {'optim': {'lr': 1e-2}})
  assert runs.by_seed([first, other, second]) == [[first, second], [other]]
  assert runs.settings(first, [first, other]) == 'optim.lr=0.001'
  assert runs.settings(first, [first]) == ''
  assert len(runs.by_seed([first, second | {'cpu': 'other'}])) == 1  # A machine is no setting.


def test_runs_of_before_a_field_have_its_default(tmp_path):
  older, newer = run(0, 0.8), run(1, 0.9)
  newer['config'] |= {'decode': {'beams': 10}, 'method': {'rank': 8}, 'eval': {'every_epochs': 1}}
  other = run(2, 0.7)
  other['config'] |= {'eval': {'every_epochs': 9}}
  for name, one in {'a': older, 'b': newer, 'c': other}.items():
    write(tmp_path / f'{name}.json', one)
  found = list(runs.read(tmp_path).runs.values())
  first, second = runs.by_seed(found)
  assert [one['seed'] for one in first] == [0, 1] and second == found[2:]
  assert runs.settings(found[2], found) == 'eval.every_epochs=9'


def test_decoding_is_a_setting_of_a_language_model_and_devices_of_no_run(tmp_path):
  # A default is a tuple, a value of a file a list.
  decode = {'beams': 4, 'stop': list(fields.defaults()['decode']['stop'])}
  assert isinstance(fields.defaults()['decode']['stop'], tuple)
  for metric in ('dev/loss', 'dev/accuracy'):
    older, newer = (run(seed, 0.8, metric=metric, task=metric[4:]) for seed in range(2))
    newer['config'] |= {'decode': decode, 'mesh': {'data': 1}}
    for name, one in {'older': older, 'newer': newer}.items():
      one |= {'best': {metric: 0.8}, 'last': {metric: 0.8}, 'history': [{metric: 0.8}]}
      write(tmp_path / f'{metric[4:]}' / f'{name}.json', one)
  found = list(runs.read(tmp_path).runs.values())
  by_metric = {one['metric']: one for one in found if one['seed']}
  assert len(runs.by_seed(found)) == 3  # The seeds of the classifier are one row.
  assert runs.settings(by_metric['dev/accuracy'], found) == ''
  assert runs.settings(by_metric['dev/loss'], found) == 'decode.beams=4'


@pytest.mark.parametrize('limit, said', [(1000, '1,000 examples'), (0, '')])
def test_a_run_on_a_part_of_its_examples_says_so(limit, said):
  one = run(0, 0.8, config={'seed': 0, 'data': {'limit': limit}})
  assert runs.settings(one, [one]) == said
  other = run(0, 0.8, config={'seed': 0, 'data': {'limit': 7}})
  assert runs.settings(one, [one, other]) == (said or 'all examples')


def test_how_long_a_run_trains_names_another_dtype_than_float32():
  config = {'train': {'epochs': 2, 'batch_size': 32}}
  assert runs.passes(run(0, 0.8, config=config)) == '2 epochs with batches of 32'
  config |= {'model': {'dtype': 'bfloat16'}}
  assert runs.passes(run(0, 0.8, config=config)) == '2 epochs with batches of 32, bfloat16'


def test_a_run_in_words():
  one = ablation('rank', 'Wq,Wv', 8, 0, 0.8, model='/models/mini/')
  assert runs.method_name(one) == 'lora (query, value)'
  assert (runs.model_name(one), runs.machine(one)) == ('mini', '1 x cpu (2 x x86_64)')
  assert runs.parameters(one['parameters']) == '3,000 (1,600)'
  assert runs.seeds([run(2, 0), run(0, 0)]) == '0, 2'
  with pytest.raises(ValueError, match=r'config\.optim: expected a section, found 3'):
    runs.section({'optim': 3}, 'optim')


def test_two_copies_of_one_run_are_one_seed(tmp_path, caplog):
  for name, one in {'a': run(0, 0.8), 'b': run(0, 0.8), 'c': run(1, 0.9)}.items():
    one['config']['data'] = {'dir': name}
    one['model'] = f'models/{name}/small'
    write(tmp_path / f'{name}.json', one)
  found = runs.read(tmp_path)
  assert list(found.runs) == ['a.json', 'c.json']
  assert caplog.messages == ['b.json is left out: it has the same config and seed as a.json']
  assert scores.entry(list(found.runs.values())) == '85.0 ± 7.1'


@pytest.mark.parametrize('value', ['nan', 'inf', '-inf'])
def test_a_score_that_is_not_a_number_is_refused_by_file(tmp_path, value):
  write(tmp_path / 'bad.json', run(0, 0.8) | {'best': {'dev/accuracy': value}})
  with pytest.raises(ValueError, match=rf'bad\.json.*dev/accuracy.*{value}.*not a result'):
    runs.read(tmp_path)
  write(tmp_path / 'bad.json', generated(0, 0.7, value))
  with pytest.raises(ValueError, match=rf'bad\.json.*nist.*{value}.*not a result'):
    runs.read(tmp_path)


def test_a_measurement_that_is_not_a_number_is_refused_by_file(tmp_path):
  measured = {'title': {'row': {'seconds': 1.0, 'rate': 'nan'}}}
  write(tmp_path / 'bench.json', {'experiment': 'bench', 'measured': measured})
  with pytest.raises(ValueError, match=r'bench\.json.*measured\.title\.row\.rate is not a number'):
    runs.read(tmp_path)


def test_a_last_evaluation_that_is_not_a_number_is_shown_as_that(tmp_path):
  for seed in (0, 1):
    last = {'dev/accuracy': 'nan', 'train/loss': 1.0}
    write(tmp_path / f'{seed}.json', run(seed, 0.8, last=last, history=[last]))
  (row,) = all_runs.rows(list(runs.read(tmp_path).runs.values()))
  assert (row['best'], row['last']) == ('0.8000 ± 0.0000', 'nan ± nan')
