"""Every task by its name: loaded, or described without data."""

import json

import pytest

from lora_jax.data import load_task, load_tokenizer, tasks
from tests.data.test_samsum import CHAT
from tests.data.test_wikisql import QUESTION, TABLE


@pytest.fixture
def tokenizer(request):
  return load_tokenizer(request.path.parents[1] / 'golden' / 'tokens' / 'gpt2')


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'MNLI').mkdir()
  for split in ('train', 'dev'):
    (tmp_path / f'{split}.tables.jsonl').write_text(json.dumps(TABLE))
    (tmp_path / f'{split}.jsonl').write_text(json.dumps(QUESTION))
  for split in ('train', 'val'):
    (tmp_path / f'{split}.json').write_text(json.dumps([CHAT]))
  for split in ('train', 'dev_matched'):
    lines = 'sentence1\tsentence2\tgold_label\nIt rains.\tIt is dry. \tcontradiction\n'
    (tmp_path / 'MNLI' / f'{split}.tsv').write_text(lines)
  return tmp_path


@pytest.mark.parametrize(
  'name, held_out',
  [('wikisql', 'dev'), ('samsum', 'dev'), ('mnli_text', 'dev_matched'), ('synthetic/books', 'dev')],
)
def test_a_language_models_task_has_prompts_of_its_held_out_split(
  name, held_out, folder, tokenizer
):
  task = load_task(name, tokenizer, data_dir=str(folder), max_length=64)
  (split, prompts), *_ = task.prompts.items()
  assert (task.kind, task.scoring, list(task.evals)) == ('lm', name.split('/')[0], [split])
  assert split == held_out
  context = tokenizer.decode(prompts.ids[0][:-1])
  assert context == prompts.contexts[0] and prompts.ids[0][-1] == tokenizer.eos_id


def test_without_data_a_task_is_what_a_model_has_to_know_of_it(folder, tokenizer):
  kinds = {name: tasks.without_data(name)[1:3] for name in tasks.TASKS}
  assert kinds['stsb'] == ('regression', 1) and kinds['mnli'] == ('classification', 3)
  assert {kind for name, kind in kinds.items() if name not in tasks.glue.TASKS} == {('lm', 0)}
  loaded = load_task('wikisql', tokenizer, data_dir=str(folder))
  assert kinds['wikisql'] == (loaded.kind, loaded.num_labels)


def test_unknown_names_offer_the_nearest(tokenizer):
  with pytest.raises(ValueError, match=r"unknown task 'mprc'\. Did you mean 'mrpc'"):
    load_task('mprc', tokenizer)
  with pytest.raises(ValueError, match=r"unknown task 'mprc'\. Did you mean 'mrpc'"):
    tasks.without_data('mprc')
  with pytest.raises(ValueError, match=r"unknown data source 'file'\. Did you mean 'files'"):
    load_task('mrpc', tokenizer, source='file')


@pytest.mark.parametrize(
  'name, split, labeled',
  [
    ('mrpc', 'test', 'train, dev'),
    ('mnli', 'test_matched', 'train, dev_matched, dev_mismatched'),
    ('mnli_text', 'test_mismatched', 'train, dev_matched, dev_mismatched'),
  ],
)
def test_a_test_split_of_glue_has_no_labels(name, split, labeled):
  with pytest.raises(ValueError, match=rf'{name} {split}: .*not public.*with labels: {labeled}$'):
    tasks.check_labeled(name, [labeled.split(', ')[1], split])
  tasks.check_labeled(name, labeled.split(', '))
  tasks.check_labeled('e2e', ['test'])
