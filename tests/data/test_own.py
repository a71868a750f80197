"""Tasks in a user's own files: the kind by the columns, the cut, the labels, what is refused."""

import dataclasses
import json
import logging

import numpy as np
import pytest

from lora_jax import provenance
from lora_jax.data import load_task, load_tokenizer, own, tasks
from lora_jax.data.records import Files

REVIEWS = 'text,label\n' + ''.join(f'a film {i % 15},{("good", "Bad")[i % 2]}\n' for i in range(40))
PAIRS = 'text\tpair\tnumber\n' + ''.join(f'one {i}\tother {i}\t{i / 4}\n' for i in range(20))
ANSWERS = ''.join(
  json.dumps({'prompt': prompt, 'completion': text, 'id': i}) + '\n'
  for i, (prompt, text) in enumerate([('Q: a\nA:', ' x'), ('b', 'y'), ('c\n', 'z '), ('b', 'w')])
)
CHAT = [{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello'}]


@pytest.fixture
def tokens(request):
  golden = request.path.parents[1] / 'golden'
  folders = {'bert': golden / 'tokens/bert', 'gpt2': golden / 'tokens/gpt2'}
  return {name: load_tokenizer(path) for name, path in folders.items()} | {'golden': golden}


@pytest.fixture
def write(tmp_path):
  def write(name, content):
    (tmp_path / name).write_text(content)
    return str(tmp_path / name)

  return write


def texts_of(task, tokenizer, split=''):
  data = task.evals[split] if split else task.train
  return [tokenizer.decode(ids) for ids in data.ids]


def test_a_text_and_a_label_are_classes_sorted_by_name(write, tokens):
  files = Files(data=write('a.csv', REVIEWS), dev=write('dev.csv', 'x,text,label\n1,a film,good\n'))
  task = load_task('own/a', tokens['bert'], own=files)
  assert (task.kind, task.num_labels, task.label_names) == ('classification', 2, ('Bad', 'good'))
  assert task.train.labels.tolist() == [1, 0] * 20
  assert task.evals['dev'].labels.tolist() == [1] and task.metric == 'accuracy'
  assert texts_of(task, tokens['bert'])[1] == 'a film 1'
  known = tasks.without_data('own/a', files)
  assert known[:3] == task[:3] and known.label_names == task.label_names and not len(known.train)


def test_whole_numbers_as_labels_are_classes_in_their_order(write, tokens):
  rows = ''.join(json.dumps({'text': 'a', 'label': x}) + '\n' for x in (10, 9, 2, '2'))
  files = Files(data=write('a.jsonl', rows), dev=write('dev.csv', 'text,label\na, 10\n'))
  task = load_task('own/a', tokens['bert'], own=files)
  assert task.label_names == ('2', '9', '10') and task.train.labels.tolist() == [2, 1, 0, 0]


def test_true_beside_other_labels_is_refused_by_its_line(write, tokens):
  labels = (1, 0, True, False)
  rows = ''.join(json.dumps({'text': f'a {i}', 'label': x}) + '\n' for i, x in enumerate(labels))
  with pytest.raises(ValueError, match=r'a\.jsonl, line 3: .* true or false, but .*line 1'):
    load_task('own/a', tokens['bert'], own=Files(data=write('a.jsonl', rows)))


def test_a_pair_and_a_number_are_a_regression(write, tokens):
  task = load_task('own/a', tokens['bert'], own=Files(data=write('a.tsv', PAIRS)))
  assert (task.kind, task.num_labels, task.label_names) == ('regression', 1, ())
  assert task.train.labels.dtype == np.float32 and len(task.train) == 18
  assert set(task.train.token_types[0].tolist()) == {0, 1}
  assert task.score(np.arange(3.0), np.arange(3.0))['spearman'] == pytest.approx(1.0)


def test_a_completion_is_a_target_after_its_prompt(write, tokens):
  data = write('a.jsonl', ANSWERS)
  task = load_task('own/a', tokens['gpt2'], own=Files(data=data, dev=data), seed=0)
  assert (task.kind, task.scoring, task.label_names) == ('lm', 'own', ())
  ends = [
    tokens['gpt2'].decode(ids[s:]) for ids, s in zip(task.train.ids, task.train.target_starts)
  ]
  assert ends == [' x', ' y', 'z ', ' w']
  assert all(ids[-1] == tokens['gpt2'].eos_id for ids in task.train.ids)
  prompts = task.prompts['dev']
  assert prompts.contexts == ['Q: a\nA:', 'b', 'c\n']
  assert prompts.references == [['x'], ['y', 'w'], ['z']]
  np.testing.assert_array_equal(prompts.ids[0], task.train.ids[0][: task.train.target_starts[0]])


def test_what_a_tokenizer_puts_before_a_text_stands_before_a_prompt(write, tokens):
  task = load_task('own/a', tokens['bert'], own=Files(data=write('a.jsonl', ANSWERS)))
  first = task.train.ids[0][: task.train.target_starts[0]]
  plain = tokens['bert'].encode_pairs([''], max_length=9)[0][0]
  assert len(plain) and first[: len(plain)].tolist() == plain.tolist()


def test_chats_need_a_template_which_is_noted(write, tokens):
  rows = ''.join(json.dumps({'messages': CHAT[:1] * i + CHAT}) + '\n' for i in range(4))
  files = Files(data=write('a.jsonl', rows))
  with pytest.raises(ValueError, match='no chat template'):
    load_task('own/a', tokens['gpt2'], own=files)
  folder = tokens['golden'] / 'chats'
  tokenizer = load_tokenizer(folder)
  template = json.loads((folder / 'chats.json').read_text())['chatml']['template']
  digests = []
  for bos in ('a', 'b'):
    tokenizer.template = own.chat.ChatTemplate('x', template, {'bos_token': bos})
    with provenance.recording() as noted:
      task = load_task('own/a', tokenizer, own=files, limit=2)
    found = noted.inputs()
    assert found.keys() == {'train', 'chat_template', 'special_tokens'}
    digests.append({name: one['sha256'] for name, one in found.items()})
  assert [x for x in digests[0] if digests[0][x] != digests[1][x]] == ['special_tokens']
  assert (len(task.train), task.prompts['dev'].references) == (2, [['Hello']])


def test_rows_of_one_input_are_cut_off_together_whatever_the_seed(write, tokens):
  files = Files(data=write('a.csv', REVIEWS))
  found = [load_task('own/a', tokens['bert'], own=files, seed=seed) for seed in (0, 1)]
  train, dev = texts_of(found[0], tokens['bert']), texts_of(found[0], tokens['bert'], 'dev')
  assert not set(train) & set(dev) and len(train) + len(dev) == 40 and 4 <= len(dev) < 8
  assert texts_of(found[1], tokens['bert'], 'dev') == dev
  other = Files(data=files.data, dev_seed=1, dev_rows=10)
  other = texts_of(load_task('own/a', tokens['bert'], own=other), tokens['bert'], 'dev')
  assert len(other) >= 10 and set(other) != set(dev)


def test_inputs_of_dev_that_are_in_train_too_are_said(write, tokens, caplog):
  files = Files(
    data=write('a.csv', REVIEWS), dev=write('b.csv', 'text,label\na film 2,good\nb,Bad\n')
  )
  with caplog.at_level(logging.WARNING):
    load_task('own/a', tokens['bert'], own=files)
  assert caplog.messages == ['own/a: 1 of 2 inputs of dev are in train as well']


def test_a_split_is_named_or_the_path_of_a_file(write, tokens):
  path = write('more.tsv', 'label\ttext\ngood\ta\n')
  files = Files(data=write('a.csv', REVIEWS), test=path)
  task = load_task('own/a', tokens['bert'], own=files, evals=('test', path, 'train', 'dev'))
  assert [len(data) for data in task.evals.values()][:2] == [1, 1]
  assert len(task.evals['train']) + len(task.evals['dev']) == 40
  with pytest.raises(ValueError, match=r"no split 'tset'. Known: train, dev, test if.*\.jsonl"):
    load_task('own/a', tokens['bert'], own=files, evals=('tset',))
  with pytest.raises(
    ValueError, match=r'expected the columns text, label of .*a.csv; label is mis'
  ):
    own.read(Files(data=files.data, dev=write('dev.csv', 'text,x\na,b\n')), 'dev')


def test_named_columns_decide_and_an_empty_name_is_none(write):
  data = write('a.csv', 'Premise,question,gold,label\na,b,1.5,x\nc,d,2,y\n')
  named = Files(data=data, text='premise', pair='Question', number='gold')
  assert own.describe(named) == ('regression', ())
  assert own.describe(Files(data=data, text='premise')) == ('classification', ('x', 'y'))
  both = write('b.csv', 'text,number,label\na,1,x\nb,2,y\n')
  with pytest.raises(
    ValueError, match=r'several tasks: text and label or text and number.*number='
  ):
    own.describe(Files(data=both))
  assert own.describe(Files(data=both, number='')) == ('classification', ('x', 'y'))
  with pytest.raises(ValueError, match=r"no column 'premsie' for text. Did you mean 'premise'"):
    own.describe(Files(data=data, text='premsie'))


@pytest.mark.parametrize(
  'name, content, message',
  [
    (
      'a.csv',
      'review,stars\na,1\n',
      r'columns review, stars; expected text and label \(and pair\)',
    ),
    ('a.csv', 'text,label\na,x\n ,y\n', "line 3: expected a text in text, found ' '"),
    ('a.csv', 'text,label\na,x\nb,\n', "line 3: expected a label, .*found ''"),
    ('a.csv', 'text,label\na,x\nb,x\n', 'two labels or more, found only x'),
    (
      'a.csv',
      'text,label\na,Yes\nb,yes\n',
      "line 3: the label 'yes' is 'Yes' of .*line 2 in other",
    ),
    ('a.csv', 'text,label\na,1.5\nb,2.5\n', r'labels are numbers \(1.5, 2.5\).*number=label'),
    ('a.jsonl', '{"text": "a", "label": 1.5}\n', 'line 1: expected a label, .*found 1.5'),
    ('a.jsonl', '{"text": 3, "label": 1}\n{"text": "b", "label": 2}\n', 'line 1: expected a text'),
    ('a.csv', 'text,number\na,1\nb,nan\n', "line 3: expected a finite number, found 'nan'"),
    ('a.csv', 'text,number\na,1\nb,1e39\n', 'line 3: expected a finite'),
    ('a.jsonl', '{"text": "a", "number": true}\n' * 2, 'line 1: expected a finite number, found T'),
    ('a.csv', 'prompt,completion\na,b\nb,""\n', 'line 3: expected a text in completion'),
    ('a.jsonl', '{"messages": []}\n{"messages": [1]}\n', 'line 1: expected a chat'),
    ('a.csv', 'messages\n[]\n', r'messages is a list of messages.*Write the chats as \.jsonl'),
    ('a.jsonl', '{"text": "\\ud800", "label": "x"}\n', 'line 1, text: .*half of a surrogate'),
    ('a.csv', 'text,label\na,x\na,y\n', r'cutting 1 rows for dev leaves none of 2 .*\(1 different'),
  ],
)
def test_what_does_not_fit_is_refused_by_file_and_line(name, content, message, write, tokens):
  tokenizer = load_tokenizer(tokens['golden'] / 'chats')
  tokenizer.template = own.chat.ChatTemplate('x', '', {})
  data = write(name, content)
  dev = {} if 'cutting' in message else {'dev': data}
  with pytest.raises(ValueError, match=message) as error:
    load_task('own/a', tokenizer, own=Files(data=data, **dev))
  assert data in str(error.value)


@pytest.mark.parametrize('last, values', [('label', 'zy'), ('number', '12')])
def test_a_dev_of_one_value_is_said_where_it_was_cut_off(last, values, write, tokens, caplog):
  rows = ''.join(f'a film {i},{values[i % 2]}\n' for i in range(20))
  files = Files(data=write('a.csv', f'text,{last}\n{rows}'), dev_rows=1)
  said = f'a.csv: the rows that were cut off for dev (1) have all the same {last}'
  load_task('own/a', tokens['bert'], own=files)
  assert said in caplog.text and 'dev=FILE' in caplog.text
  caplog.clear()
  named = dataclasses.replace(files, dev=write('dev.csv', f'text,{last}\nb,{values[0]}\n'))
  for other in (named, dataclasses.replace(files, dev_rows=8)):
    load_task('own/a', tokens['bert'], own=other)
  assert 'have all the same' not in caplog.text


def test_a_class_that_is_cut_off_as_a_whole_is_said(write, tokens, caplog):
  rows = [f'a {i},{label}' for i, label in enumerate('xxxxyyyyz')]
  files = Files(data=write('a.csv', '\n'.join(['text,label', *rows])))
  cut = lambda seed: own.read(dataclasses.replace(files, dev_seed=seed), 'dev').rows
  seed = next(seed for seed in range(99) if cut(seed) == [8])
  load_task('own/a', tokens['bert'], own=dataclasses.replace(files, dev_seed=seed))
  assert 'all rows with the label z were cut off for dev' in caplog.text
  two = dataclasses.replace(files, data=write('b.csv', '\n'.join(['text,label', *rows[3:5]])))
  with pytest.raises(ValueError, match=r'b\.csv: all rows with the label . were cut off for dev'):
    load_task('own/b', tokens['bert'], own=two)


def test_a_label_that_train_has_not_is_refused_by_its_line(write, tokens):
  dev = write('dev.csv', 'text,label\na,good\nb,Goood\n')
  with pytest.raises(ValueError, match=r"dev.csv, line 3: the label 'Goood' .*training.*'good'"):
    load_task('own/a', tokens['bert'], own=Files(data=write('a.csv', REVIEWS), dev=dev))


def test_without_a_file_the_config_to_take_is_said(tokens):
  for read in (lambda: load_task('own/a', tokens['bert']), lambda: tasks.without_data('own/a')):
    with pytest.raises(ValueError, match=r'no file is named: configs/own\.py:data=FILE'):
      read()
