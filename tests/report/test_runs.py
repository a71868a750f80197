"""Files are read by what they hold; runs that differ in nothing but the seed are one group."""

import json

import pytest

from lora_jax.report import runs
from tests.report.toys import ablation, run


def write(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(value))


def test_files_are_told_apart_by_what_they_hold(tmp_path):
  write(tmp_path / 'a.json', run(0, 0.8))
  for kind in ('analysis', 'bench', 'counts', 'latency', 'tokenizer'):
    write(tmp_path / 'more' / f'{kind}.json', {'experiment': kind})
  write(tmp_path / 'claims.json', {'experiment': 'plan', 'claims': {}})
  write(tmp_path / 'plan.json', {'experiment': 'plan', 'measured': {}})
  found = runs.read(tmp_path)
  assert {kind: list(files) for kind, files in vars(found).items()} == {
    'runs': ['a.json'],
    'analysis': ['more/analysis.json'],
    'latency': ['more/latency.json'],
    'bench': ['more/bench.json'],
    'counts': ['more/counts.json'],
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
  other = run(0, 0.7, config={'seed': 0, 'optim': {'lr': 1e-2}})
  assert runs.by_seed([first, other, second]) == [[first, second], [other]]
  assert runs.settings(first, [first, other]) == 'optim.lr=0.001'
  assert runs.settings(first, [first]) == ''
  assert len(runs.by_seed([first, second | {'cpu': 'other'}])) == 2


@pytest.mark.parametrize('limit, said', [(100, 'data.limit=100'), (0, '')])
def test_a_run_on_a_part_of_its_examples_says_so(limit, said):
  one = run(0, 0.8, config={'seed': 0, 'data': {'limit': limit}})
  assert runs.settings(one, [one]) == said


def test_a_run_in_words():
  one = ablation('rank', 'Wq,Wv', 8, 0, 0.8, model='/models/mini/')
  assert runs.method_name(one) == 'lora (query, value)'
  assert (runs.model_name(one), runs.machine(one)) == ('mini', '1 x cpu (2 x x86_64)')
  assert runs.parameters(one['parameters']) == '3,000 (1,600)'
  assert runs.seeds([run(2, 0), run(0, 0)]) == '0, 2'
  with pytest.raises(ValueError, match=r'config\.optim: expected a section, found 3'):
    runs.section({'optim': 3}, 'optim')
