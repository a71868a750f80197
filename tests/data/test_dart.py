import json
import re
import zipfile

import pytest

from lora_jax.data import dart, load_task, load_tokenizer

SET = {
  'tripleset': [['Mars Hill College', 'JOINED', '1973'], ['Mars Hill College', 'NO._OF', 'One']],
  'subtree_was_extended': False,
  'annotations': [
    {'source': 'WikiSQL_decl_sents', 'text': 'It joined in 1973. '},
    {'source': 'WikiSQL_lily', 'text': None},
    {'source': 'WikiSQL_lily', 'text': 'A school joined in 1973.'},
  ],
}
CONTEXT = 'Mars Hill College : joined : 1973 | Mars Hill College : no._of : One'


@pytest.fixture
def gpt2(request):
  return load_tokenizer(request.path.parents[1] / 'golden' / 'tokens' / 'gpt2')


def write(folder, *sets, split='train'):
  path = folder / f'dart-v1.1.1-full-{split}.json'
  path.write_text(json.dumps(list(sets)))
  return path


def test_every_annotation_is_a_row_and_relations_are_lower_cased(tmp_path):
  path = write(tmp_path, SET)
  rows = dart.read('train', 'files', tmp_path)
  assert rows == [(CONTEXT, 'It joined in 1973.'), (CONTEXT, 'A school joined in 1973.')]
  with zipfile.ZipFile(tmp_path / 'dart-v1.1.1.zip', 'w') as archive:
    archive.write(path, path.name)
  path.unlink()
  assert dart.read('train', 'files', tmp_path) == rows


def test_equal_triple_sets_are_one_prompt(tmp_path, gpt2):
  swapped = SET | {'tripleset': SET['tripleset'][::-1]}
  write(tmp_path, SET)
  write(tmp_path, SET, swapped, SET, split='dev')
  task = load_task('dart', gpt2, data_dir=str(tmp_path))
  prompts = task.prompts['dev']
  assert (task.scoring, len(task.train), len(task.evals['dev'])) == ('dart', 2, 6)
  assert [len(references) for references in prompts.references] == [4, 2]
  assert prompts.contexts[0] == CONTEXT and prompts.groups == {}


@pytest.mark.parametrize(
  'entry, message',
  [
    ({'annotations': []}, "expected the key 'tripleset', found annotations"),
    (SET | {'tripleset': []}, 'expected at least one triple'),
    (SET | {'tripleset': [['a', 'b']]}, r"expected \[subject, relation, object\], found \['a', '"),
    (SET | {'tripleset': [['a', 'b', 3]]}, "expected a string, found '3'"),
    (SET | {'tripleset': ['abc']}, "expected a list, found 'abc'"),
    (SET | {'annotations': [{'source': 'x'}]}, "expected the key 'text', found source"),
    (SET | {'annotations': [{'text': ' '}]}, 'text: expected a text, found an empty one'),
    (SET | {'annotations': ['x']}, "expected an object, found 'x'"),
    ([], r"expected an object, found '\[\]'"),
  ],
)
def test_sets_that_are_not_as_expected_are_named(entry, message, tmp_path):
  path = write(tmp_path, SET, entry)
  with pytest.raises(ValueError, match=f'^{re.escape(str(path))}, set 2.*{message}'):
    dart.read('train', 'files', tmp_path)


def test_a_file_without_texts_or_that_is_no_list_is_refused(tmp_path):
  path = write(tmp_path, SET | {'annotations': []})
  with pytest.raises(ValueError, match='expected annotations, found none in 1 triple sets'):
    dart.read('train', 'files', tmp_path)
  path.write_text('[{"tripleset": []},\n]')
  with pytest.raises(ValueError, match=r'line [12]: not JSON'):
    dart.read('train', 'files', tmp_path)
  path.write_text('{}')
  with pytest.raises(ValueError, match=r"expected a list, found '{}'"):
    dart.read('train', 'files', tmp_path)


@pytest.mark.real_data
def test_a_missing_training_file_says_where_it_is(shared_data, gpt2):
  with pytest.raises(FileNotFoundError, match=r'https://github.com/Yale-LILY/dart.*even for an'):
    load_task('dart', gpt2, data_dir=str(shared_data), evals=('test',))


@pytest.mark.real_data
@pytest.mark.parametrize(
  'split, sets, contexts, texts', [('dev', 2768, 2721, 6980), ('test', 5097, 4159, 12551)]
)
def test_real_files(split, sets, contexts, texts, shared_data):
  rows = dart.read(split, 'files', shared_data)
  with zipfile.ZipFile(shared_data / 'dart-v1.1.1.zip') as archive:
    assert len(json.loads(archive.read(dart.SPLITS[split]))) == sets
  assert (len(rows), len({row.context for row in rows})) == (texts, contexts)
  if split == 'dev':
    assert rows[0] == (
      'Mars Hill College : joined : 1973 | '
      'Mars Hill College : location : Mars Hill, North Carolina',
      'A school from Mars Hill, North Carolina, joined in 1973.',
    )
