"""WikiSQL, SAMSum and MNLI as text, on lines of their official formats."""

import json

import pytest

from lora_jax.data import load_task, load_tokenizer, mnli_text, samsum, wikisql

TABLE = {'id': '1-10', 'header': ['Player', 'No.', 'Player'], 'rows': [], 'types': []}
QUESTION = {
  'phase': 1,
  'table_id': '1-10',
  'question': 'Who wore  4?',
  'sql': {'sel': 0, 'agg': 3, 'conds': [[1, 0, 4], [0, 1, "O'Neal"]]},
}
CHAT = {'id': '1', 'summary': 'Ann is\nlate.', 'dialogue': 'Ann: Sorry!\r\nBob:  No problem'}


@pytest.fixture
def gpt2(request):
  return load_tokenizer(request.path.parents[1] / 'golden' / 'tokens' / 'gpt2')


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'MNLI').mkdir()
  for split in ('train', 'dev'):
    (tmp_path / f'{split}.tables.jsonl').write_text(json.dumps(TABLE) + '\n')
    (tmp_path / f'{split}.jsonl').write_text(json.dumps(QUESTION) + '\n\n')
  for split in ('train', 'val'):
    (tmp_path / f'{split}.json').write_text(json.dumps([CHAT, CHAT | {'dialogue': ' '}]))
  for split in ('train', 'dev_matched'):
    lines = 'sentence1\tsentence2\tgold_label\nIt rains.\tIt is dry. \tcontradiction\n'
    (tmp_path / 'MNLI' / f'{split}.tsv').write_text(lines)
  return tmp_path


def test_rows_are_in_the_form_that_is_documented(folder):
  context = 'Player | No. | Player\nWho wore 4?'
  query = """SELECT COUNT("Player") FROM table WHERE "No." = '4' AND "Player" > 'O''Neal'"""
  assert wikisql.read('dev', 'files', folder) == [(context, query)]
  chat = ('Ann: Sorry!\nBob: No problem\n\n', 'Ann is late.')
  assert samsum.read('dev', 'files', folder) == [chat]
  pair = ('It rains.\nIt is dry.', 'contradiction')
  assert mnli_text.read('dev_matched', 'files', folder) == [pair]


@pytest.mark.parametrize('name', ['wikisql', 'samsum', 'mnli_text'])
def test_each_is_a_task_with_prompts(name, folder, gpt2):
  task = load_task(name, gpt2, data_dir=str(folder), max_length=64)
  (split, prompts), *_ = task.prompts.items()
  assert (task.kind, task.scoring, list(task.evals)) == ('lm', name, [split])
  context = gpt2.decode(prompts.ids[0][:-1])
  assert context == prompts.contexts[0] and prompts.ids[0][-1] == gpt2.eos_id


SQL = QUESTION['sql']


@pytest.mark.parametrize(
  'change, message',
  [
    ({'table_id': '2'}, "dev.jsonl, line 1: table '2' is not among the 1"),
    ({'sql': SQL | {'sel': 3}}, 'expected a selected column from 0 to 2, found 3'),
    ({'sql': SQL | {'agg': None}}, 'expected an aggregation from 0 to 5, found None'),
    ({'sql': SQL | {'conds': [[0, 9, 'x']]}}, 'expected an operator from 0 to 3, found 9'),
    ({'sql': SQL | {'conds': [[0, 1]]}}, r'expected \[column, operator, value\], found \[0, 1\]'),
    ({'sql': SQL | {'conds': [[-1, 1, 'x']]}}, 'a column of a condition from 0 to 2, found -1'),
    ({'sql': []}, 'line 1, sql: expected an object'),
    ({'question': 4}, 'line 1, question: expected a string'),
  ],
)
def test_a_question_that_is_not_as_expected_is_named(change, message, folder):
  (folder / 'dev.jsonl').write_text(json.dumps(QUESTION | change))
  with pytest.raises(ValueError, match=message):
    wikisql.read('dev', 'files', folder)


def test_damaged_files_are_named(folder):
  (folder / 'dev.jsonl').write_text('{"phase": 1')
  with pytest.raises(ValueError, match=r'dev\.jsonl, line 1: not JSON'):
    wikisql.read('dev', 'files', folder)
  (folder / 'dev.jsonl').write_text('\n')
  with pytest.raises(ValueError, match='expected questions, found none'):
    wikisql.read('dev', 'files', folder)
  (folder / 'val.json').write_text(json.dumps([CHAT | {'summary': ''}]))
  with pytest.raises(ValueError, match=r'val\.json, chat 1: expected a summary, found none'):
    samsum.read('dev', 'files', folder)
  (folder / 'val.json').write_text('[]')
  with pytest.raises(ValueError, match='expected chats, found none in 0'):
    samsum.read('dev', 'files', folder)
  (folder / 'MNLI' / 'test_matched.tsv').write_text('sentence1\tsentence2\na\tb\n')
  with pytest.raises(ValueError, match="'test_matched' has no labels"):
    mnli_text.read('test_matched', 'files', folder)
  with pytest.raises(FileNotFoundError, match=r'No test.tables.jsonl'):
    wikisql.read('test', 'files', folder)
