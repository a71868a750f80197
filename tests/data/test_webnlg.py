import copy
import json
import re
import zipfile

import pytest

from lora_jax.data import load_task, load_tokenizer, webnlg

TRIPLE = {'subject': 'Aarhus', 'property': 'leaderName', 'object': 'Jacob_Bundsgaard'}
ENTRY = {
  'category': 'City',
  'modifiedtripleset': [TRIPLE, TRIPLE | {'property': 'leader'}],
  'lexicalisations': [
    {'comment': 'good', 'lex': ' The leader of Aarhus is Jacob Bundsgaard. '},
    {'comment': 'toFix', 'lex': 'The leader.'},
    {'comment': 'good', 'lex': 'Jacob Bundsgaard leads Aarhus.'},
  ],
}
CONTEXT = 'Aarhus : leaderName : Jacob_Bundsgaard | Aarhus : leader : Jacob_Bundsgaard'
OTHER = ENTRY | {
  'category': 'Artist',
  'modifiedtripleset': [TRIPLE],
  'lexicalisations': ENTRY['lexicalisations'][:1],
}
UNFIT = OTHER | {'lexicalisations': ENTRY['lexicalisations'][1:2]}


@pytest.fixture
def gpt2(request):
  return load_tokenizer(request.path.parents[1] / 'golden' / 'tokens' / 'gpt2')


def write(folder, *entries, split='train'):
  path = folder / f'{split}.json'
  path.write_text(json.dumps({'entries': [{str(i + 1): e} for i, e in enumerate(entries)]}))
  return path


def test_a_row_is_a_good_text_and_a_context_is_its_triples(tmp_path):
  path = write(tmp_path, ENTRY, UNFIT)
  found = webnlg.read('train', 'files', tmp_path)
  assert webnlg.rows(found) == [
    (CONTEXT, 'The leader of Aarhus is Jacob Bundsgaard.'),
    (CONTEXT, 'Jacob Bundsgaard leads Aarhus.'),
  ]
  assert [entry.category for entry in found] == ['City', 'Artist']
  with zipfile.ZipFile(tmp_path / 'webnlg-2017.zip', 'w') as archive:
    archive.write(path, 'train.json')
  path.unlink()
  assert webnlg.read('train', 'files', tmp_path) == found


def test_parts_of_the_prompts_are_the_categories_of_training_and_the_others(tmp_path, gpt2):
  write(tmp_path, ENTRY)
  write(tmp_path, OTHER, UNFIT | {'modifiedtripleset': [TRIPLE] * 3}, ENTRY, split='test')
  task = load_task('webnlg', gpt2, data_dir=str(tmp_path), evals=('test',))
  prompts = task.prompts['test']
  assert prompts.contexts == ['Aarhus : leaderName : Jacob_Bundsgaard', CONTEXT]
  assert prompts.groups['seen'].tolist() == [False, True]
  assert prompts.groups['unseen'].tolist() == [True, False]
  assert (task.scoring, len(task.train)) == ('webnlg', 2)


def broken(*path, value=None):
  """ENTRY with the value at a path replaced, or taken away."""
  entry = copy.deepcopy(ENTRY)
  inner = entry
  for key in path[:-1]:
    inner = inner[key]
  inner.pop(path[-1]) if value is None else inner.__setitem__(path[-1], value)
  return entry


@pytest.mark.parametrize(
  'entry, message',
  [
    (broken('category'), "entry 2: expected the key 'category', found modifiedtripleset, lex"),
    (broken('category', value=3), "entry 2, category: expected a string, found '3'"),
    (broken('modifiedtripleset', value={}), 'entry 2, modifiedtripleset: expected a list'),
    (broken('modifiedtripleset', value=[]), 'entry 2: expected at least one triple'),
    (broken('modifiedtripleset', 1, 'object'), "entry 2: expected the key 'object'"),
    (broken('modifiedtripleset', 0, value='a'), "entry 2: expected an object, found 'a'"),
    (broken('lexicalisations', 0, 'lex'), "entry 2: expected the key 'lex', found comment"),
    (broken('lexicalisations', 0, 'comment', value=1), 'entry 2, comment: expected a string'),
    (broken('lexicalisations', 0, 'lex', value='\n'), 'entry 2, lex: expected a text, found an'),
    ('text', "entry 2: expected an object, found 'text'"),
  ],
)
def test_entries_that_are_not_as_expected_are_named(entry, message, tmp_path):
  path = write(tmp_path, ENTRY, entry)
  with pytest.raises(ValueError, match=f'^{re.escape(str(path))}, {message}'):
    webnlg.read('train', 'files', tmp_path)


@pytest.mark.parametrize(
  'text, message',
  [
    ('{"entries": [\n{"1": {}},\n{"2" {}}]}', 'line 3: not JSON'),
    ('', 'line 1: not JSON'),
    ('[]', r"expected an object, found '\[\]'"),
    ('{"entry": []}', "expected the key 'entries', found entry"),
    ('{"entries": []}', "expected lexicalisations with the comment 'good', found none in 0"),
    (json.dumps({'entries': [{'1': UNFIT}]}), 'found none in 1 entries'),
  ],
)
def test_a_damaged_file_is_named(text, message, tmp_path):
  (tmp_path / 'train.json').write_text(text)
  with pytest.raises(ValueError, match=message) as error:
    webnlg.read('train', 'files', tmp_path)
  assert str(error.value).startswith(str(tmp_path / 'train.json'))


def test_what_is_not_there_is_said(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'No train.json. Looked for .*webnlg-2017.zip'):
    webnlg.read('train', 'files', tmp_path)
  with pytest.raises(ValueError, match=r"webnlg has no split 'tset'. Did you mean 'test'"):
    webnlg.read('tset', 'files', tmp_path)
  with pytest.raises(ValueError, match=r"webnlg-2017.zip alone: use config.data.source='files'"):
    webnlg.read('test', 'tfds', tmp_path)


# Counts of entries, distinct triple sets and good texts, by the challenge's files.
@pytest.mark.real_data
@pytest.mark.parametrize(
  'split, entries, contexts, texts',
  [('train', 6940, 6888, 18025), ('dev', 872, 870, 2258), ('test', 1862, 1862, 4928)],
)
def test_real_files(split, entries, contexts, texts, shared_data):
  found = webnlg.read(split, 'files', shared_data)
  rows = webnlg.rows(found)
  assert (len(found), len(rows)) == (entries, texts)
  assert len({row.context for row in rows}) == contexts
  seen = {entry.category for entry in found}
  assert seen >= set(webnlg.SEEN) if split != 'test' else seen & set(webnlg.SEEN)
  if split != 'test':
    assert seen == set(webnlg.SEEN)


@pytest.mark.real_data
def test_real_task(shared_data):
  tokenizer = load_tokenizer(shared_data / 'tokenizer-gpt2.zip')
  task = load_task('webnlg', tokenizer, data_dir=str(shared_data), limit=50, evals=('test',))
  prompts = task.prompts['test']
  assert (len(task.train), len(task.evals['test']), len(prompts.contexts)) == (50, 4928, 1862)
  assert (prompts.groups['seen'].sum(), prompts.groups['unseen'].sum()) == (971, 891)
  assert not (prompts.groups['seen'] & prompts.groups['unseen']).any()
  assert prompts.contexts[0] == 'Abilene_Regional_Airport : cityServed : Abilene,_Texas'
  assert prompts.references[0] == [
    'Abilene, Texas is served by the Abilene regional airport.',
    'Abilene Regional Airport serves the city of Abilene in Texas.',
  ]
