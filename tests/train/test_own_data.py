"""A run on a user's own file: what it keeps, without the file too, and what it refuses."""

import json

import pytest

from lora_jax import sweep
from lora_jax.adapters import native
from lora_jax.train import base_options, check, evaluate, generate, loop, run_adapter, rundir

REVIEWS = 'review,stars\n' + ''.join(
  f'the {"good" if i % 2 else "bad"} film was {"very " * (i % 5)}not a plot {i},{i % 2 * 4 + 1}\n'
  for i in range(40)
)


def own_config(make_config, path, **overrides):
  files = {'data': str(path), 'text': 'review', 'label': 'stars', 'pair': 'pair'}
  config = make_config(**{'train.epochs': 1, **overrides})
  with config.unlocked():
    config.task, config.own = 'own/reviews', files
  return config


@pytest.fixture(scope='module')
def reviewed(tmp_path_factory, make_config):
  """The folder of a file, and a finished run on it."""
  folder = tmp_path_factory.mktemp('reviews')
  (folder / 'reviews.csv').write_text(REVIEWS)
  loop.train(own_config(make_config, folder / 'reviews.csv'), folder / 'run')
  return folder


def test_a_run_is_evaluated_on_its_dev_rows_and_on_another_file(reviewed):
  (reviewed / 'more.csv').write_text('review,stars\nthe good film,5\n')
  more = str(reviewed / 'more.csv')
  found = evaluate.evaluate_run(reviewed / 'run', splits=('dev', more))['adapted']
  assert {'dev/accuracy', 'dev/macro_f1', f'{more}/accuracy'} <= found.keys()
  assert rundir.read_result(reviewed / 'run')['truncation']['dev']['examples'] == 4


def test_its_classes_outlive_the_file(reviewed, tmp_path):
  path = reviewed / 'reviews.csv'
  path.rename(tmp_path / 'gone.csv')
  try:
    adapter = run_adapter.from_run(reviewed / 'run')
    native.save_adapter(tmp_path / 'adapter', adapter)
    with pytest.raises(FileNotFoundError, match=r'train: there is no file .*reviews\.csv'):
      evaluate.evaluate_run(reviewed / 'run')
  finally:
    (tmp_path / 'gone.csv').rename(path)
  found = native.read(tmp_path / 'adapter')
  assert (found.task, found.num_labels, found.label_names) == ('classification', 2, ('1', '5'))


def test_a_changed_file_is_refused_by_name(reviewed):
  path = reviewed / 'reviews.csv'
  path.write_text(REVIEWS + 'a score,5\n')
  try:
    with pytest.raises(ValueError, match='made from other files than those found now: data/train'):
      evaluate.evaluate_run(reviewed / 'run')
  finally:
    path.write_text(REVIEWS)


def test_a_head_is_kept_for_the_same_files_alone(reviewed, make_config):
  base = {'model.name': str(reviewed / 'run')}
  same = own_config(make_config, reviewed / 'reviews.csv', **base)
  other = own_config(make_config, reviewed / 'others.csv', **base)
  assert (base_options.head_choice(same), base_options.head_choice(other)) == ('keep', 'fresh')
  assert rundir.read_task(reviewed / 'run').label_names == ('1', '5')


def test_the_runs_of_a_sweep_keep_their_classes_too(reviewed, make_config, tmp_path):
  config = own_config(make_config, reviewed / 'reviews.csv', **{'sweep.width': 2})
  sweep.train(config, [{'seed': 0}, {'seed': 1}], tmp_path)
  tasks = [rundir.read_task(path.parent) for path in tmp_path.glob('*/result.json')]
  assert [task.label_names for task in tasks] == [('1', '5')] * 2
  assert all(not finding.is_damaged for finding in check.check(tmp_path))


def test_a_language_model_learns_completions_and_writes_them(make_language_model, tmp_path):
  rows = [{'prompt': f'Bake a {word}', 'completion': 'the oven'} for word in 'abcdefghijkl']
  (tmp_path / 'a.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  (tmp_path / 'more.csv').write_text('prompt,completion\nBake a b,the  oven\nBake a b,"an\noven"\n')
  overrides = {'data.limit': 0, 'train.batch_size': 4, 'train.epochs': 8, 'decode.beams': 1}
  config = make_language_model(**overrides, **{'optim.lr': 1e-2})
  with config.unlocked():
    config.task, config.own = 'own/a', {'data': str(tmp_path / 'a.jsonl'), 'dev_rows': 2}
  result = loop.train(config, tmp_path / 'run')
  assert result['best']['dev/loss'] < result['history'][0]['dev/loss']
  more = str(tmp_path / 'more.csv')
  out = tmp_path / 'out.txt'
  found = generate.generate_run(tmp_path / 'run', config.decode, split=more, out=out)
  assert found['scores'].keys() == {'bleu', 'rouge_1', 'rouge_2', 'rouge_lcs', 'accuracy'}
  assert found['contexts'] == 1 and len(out.read_text().splitlines()) == 1
  assert (tmp_path / 'references-more.csv.txt').read_text() == 'the oven\nan oven\n'


def test_examples_of_which_none_fits_are_refused_before_anything_is_estimated(
  make_language_model, tmp_path
):
  rows = [f'{"Bake a b " * 40}{letter},the oven' for letter in 'abcd']
  (tmp_path / 'long.csv').write_text('\n'.join(['prompt,completion', *rows]))
  config = make_language_model(**{'data.limit': 0, 'data.max_length': 16, 'model.scan': None})
  with config.unlocked():
    config.task, config.own = 'own/long', {'data': str(tmp_path / 'long.csv'), 'dev_rows': 1}
  with pytest.raises(ValueError, match=r'none of 3 examples is left: .*config\.data\.max_length'):
    loop.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('damage', ['', '[]', '{"kind": 3, "label_names": []}', '{"kind": "lm"}'])
def test_a_damaged_task_is_named(damage, finished, tmp_path):
  (tmp_path / 'config.json').write_text((finished[0] / 'config.json').read_text())
  assert rundir.read_task(tmp_path).label_names == ('negative', 'positive')  # Of an older version.
  (tmp_path / rundir.TASK).write_text(damage)
  with pytest.raises(ValueError, match=rf'{tmp_path}/task\.json'):
    rundir.read_task(tmp_path)
  assert [x.path.name for x in check.check(tmp_path) if x.is_damaged] == ['task.json']


def test_what_a_run_keeps_is_what_a_model_has_to_know(finished):
  kept = json.loads((finished[0] / rundir.TASK).read_text())
  assert kept == {'kind': 'classification', 'label_names': ['negative', 'positive']}
