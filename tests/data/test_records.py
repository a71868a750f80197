"""A user's own files: what each kind holds, and what is refused by file and line."""

import pytest

from lora_jax import provenance
from lora_jax.data import records


@pytest.fixture
def read(tmp_path):
  def read(name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return records.read(str(path), 'train')

  return read


GOOD = {
  'a.csv': '\ufeffText,Label\r\n"one, ""two""\nthree",x\r\n\r\nfour,y\r\n',
  'a.tsv': 'text\tLABEL\n"one, ""two"""\tx\n\n"four\ty\n',
  'a.jsonl': '{"text": "one", "label": 1}\n\n{"label": [2], "text": null}\n',
}
ROWS = {
  'a.csv': ([2, 5], ['one, "two"\nthree', 'four'], ['x', 'y']),
  'a.tsv': ([2, 4], ['one, "two"', '"four'], ['x', 'y']),
  'a.jsonl': ([1, 3], ['one', None], [1, [2]]),
}


@pytest.mark.parametrize('name', GOOD)
def test_a_row_has_the_values_of_its_columns_and_its_line(name, read):
  found = read(name, GOOD[name])
  lines, texts, labels = ROWS[name]
  assert (found.columns, found.lines) == (('text', 'label'), lines)
  assert [row['text'] for row in found.rows] == texts
  assert [row['label'] for row in found.rows] == labels
  assert found.where(1) == f'{found.name}, line {lines[1]}'


@pytest.mark.parametrize(
  'name, content, message',
  [
    ('a.csv', 'text,label\none,x\ntwo\n', 'line 3: expected 2 comma-separated fields, found 1'),
    ('a.csv', 'text,label\n"one,x\n', 'line 2: not CSV'),
    ('a.csv', 'text,Text\none,x\n', 'line 1: two columns have the same name: text, Text'),
    ('a.csv', b'text,label\none,\xe9\n', r'line 2: expected UTF-8, found byte 0xe9.*iconv'),
    ('a.jsonl', b'{"a": "b", "a": "c"}\n', 'line 1: .*an object has two values of a'),
    ('a.csv', 'text\nx\n'.encode('utf-16'), 'found byte 0xff.*iconv -f utf-16'),
    ('a.csv', 'text,label\n', 'expected rows, found none'),
    ('a.csv', '', 'expected rows, found none'),
    ('a.tsv', 'text\tlabel\none\tx\ty\n', r'line 2: expected 2 tab-separated fields, found 3.*csv'),
    ('a.jsonl', '{"text": "a"}\n{"text": \n', 'line 2: expected an object in JSON'),
    ('a.jsonl', '[1]\n', 'line 1: expected an object, found'),
    ('a.jsonl', '{"a": 1}\n\n{"b": 1}\n', r'line 3: expected the columns of line 1 \(a\), found b'),
    ('a.jsonl', '{"a": 1}\n{"a": 1, "b": 2}\n', 'line 2: .*found a, b'),
    ('a.json', '[]', 'train .*a.json: expected a file whose name ends in .jsonl, .csv, .tsv'),
  ],
)
def test_a_damaged_file_is_refused_by_its_line(name, content, message, read):
  with pytest.raises(ValueError, match=message):
    read(name, content)


def test_a_file_that_is_not_there_is_named_with_what_it_is_for(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'dev: there is no file .*none\.csv'):
    records.read(str(tmp_path / 'none.csv'), 'dev')


def test_a_file_is_read_once_noted_each_time_and_read_anew_when_it_changed(read, monkeypatch):
  first = read('a.csv', 'a\n1\n')
  with monkeypatch.context() as patch, provenance.recording() as noted:
    patch.setattr(records, '_csv', None)
    assert records.read(first.name, 'train') is first
  assert noted.inputs()['train']['path'] == first.name
  assert read('a.csv', 'a\n1\n2\n').lines == [2, 3]


def test_a_column_has_a_name_of_its_own_only_where_the_user_gave_one():
  files = records.Files(data='a', text=' Review ', number='', pair='pair')
  assert (files.column('text'), files.named) == ('review', {'text'})


def test_a_long_field_of_a_table_is_read(read):
  text = 'word ' * 30_000  # The csv module stops at 131,072 characters by itself.
  assert read('a.csv', f'text,label\n{text},x\n').rows[0]['text'] == text
