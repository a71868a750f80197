"""WikiSQL's questions, on lines of the official format."""

import json

import pytest

from lora_jax.data import wikisql

TABLE = {'id': '1-10', 'header': ['Player', 'No.', 'Player'], 'rows': [], 'types': []}
SQL = {'sel': 0, 'agg': 3, 'conds': [[1, 0, 4], [0, 1, "O'Neal"]]}
QUESTION = {'phase': 1, 'table_id': '1-10', 'question': 'Who wore  4?', 'sql': SQL}


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'dev.tables.jsonl').write_text(json.dumps(TABLE) + '\n')
  (tmp_path / 'dev.jsonl').write_text(json.dumps(QUESTION) + '\n\n')
  return tmp_path


def test_a_row_is_in_the_form_that_is_documented(folder):
  context = 'Player | No. | Player\nWho wore 4?'
  query = """SELECT COUNT("Player") FROM table WHERE "No." = '4' AND "Player" > 'O''Neal'"""
  assert wikisql.read('dev', 'files', folder) == [(context, query)]


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
    ({'question': ' \t'}, 'line 1, question: expected a text, found an empty one'),
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
  with pytest.raises(FileNotFoundError, match=r'No test.tables.jsonl'):
    wikisql.read('test', 'files', folder)
