import re
import zipfile

import pytest

from lora_jax.data import data_to_text, e2e, load_task, load_tokenizer

MEANING = (
  'name[Blue Spice], eatType[coffee shop], priceRange[more than £30], area[city centre], '
  'familyFriendly[no]'
)
CONTEXT = (
  'name : Blue Spice | Type : coffee shop | price : more than £ 30 | area : city centre | '
  'family friendly : no'
)


@pytest.fixture
def gpt2(request):
  return load_tokenizer(request.path.parents[1] / 'golden' / 'tokens' / 'gpt2')


def write(folder, text, name='trainset.csv'):
  (folder / name).write_text(text, encoding='utf-8', newline='')
  return folder / name


def test_linearized_as_the_authors_do():
  assert e2e.linearize(MEANING) == CONTEXT
  every = ', '.join(f'{slot}[x]' for slot in e2e.SLOTS)
  assert e2e.linearize(every) == (
    'name : x | Type : x | food : x | price : x | customer rating : x | area : x | '
    'family friendly : x | near : x'
  )


# The first three are lines of the authors' files.
@pytest.mark.parametrize(
  'written, spaced',
  [
    (
      'There is a place in the city centre, Alimentum, that is not family-friendly.',
      'There is a place in the city centre , Alimentum , that is not family - friendly .',
    ),
    (
      'A coffee shop in the city centre area called Blue Spice. ',
      'A coffee shop in the city centre area called Blue Spice .',
    ),
    (
      'The Vaults pub near Café Adriatic has a 5 star rating.  Prices start at £30.',
      'The Vaults pub near Café Adriatic has a 5 star rating . Prices start at £ 30 .',
    ),
    ('£20-25', '£ 20 - 25'),
    ("It isn't £10.50, who's asking? 3/5.", "It is n't £ 10.50 , who 's asking ? 3 / 5 ."),
    ("The venue 'Alimentum' has hors d'oeuvres", "The venue ' Alimentum ' has hors d'oeuvres"),
    ('reviews;it is\r\n  open', 'reviews ; it is open'),
  ],
)
def test_spaces_round_punctuation(written, spaced):
  assert e2e.tokenize(written) == spaced
  assert e2e.tokenize(spaced) == spaced


def test_csv_with_quotes_line_breaks_and_a_byte_order_mark(tmp_path):
  text = f'\ufeffmr,ref\r\n"{MEANING}","Blue ""Spice"" is\r\n  closed."\r\nname[a],b\r\n'
  write(tmp_path, text)
  rows = e2e.read('train', 'files', tmp_path)
  assert rows == [(CONTEXT, 'Blue " Spice " is closed .'), ('name : a', 'b')]
  assert e2e.read('train', 'files', tmp_path, raw=True)[0].reference == (
    'Blue "Spice" is\r\n  closed.'
  )
  with zipfile.ZipFile(tmp_path / 'e2e-dataset.zip', 'w') as archive:
    archive.write(tmp_path / 'trainset.csv', 'e2e-dataset/trainset.csv')
  (tmp_path / 'trainset.csv').unlink()
  assert e2e.read('train', 'files', tmp_path) == rows


@pytest.mark.parametrize(
  'text, message',
  [
    ('mr,text\nname[a],b\n', r"line 1: expected a header .* mr, ref; ref missing in \['mr', 'text"),
    ('mr,ref\nname[a],b\nname[a],b,c\n', 'line 3: expected 2 comma-separated fields, found 3'),
    ('mr,ref\n"name[a]","x\ny"\nname[a]\n', 'line 4: expected 2 comma-separated fields, found 1'),
    ('mr,ref\nname[a],b\nname[a],"b\n', 'line 3: not CSV'),
    (
      'mr,ref\n"name[a], eattype[pub]",b\n',
      "line 2: unknown slot 'eattype'. Did you mean 'eatType'",
    ),
    ('mr,ref\nname[a] Pub,b\n', r"line 2: expected slot\[value\], .*found 'name\[a\] Pub'"),
    ('mr,ref\nname,b\n', r'line 2: expected slot\[value\]'),
    ('mr,ref\n"name[a], near[b",c\n', r"line 2: expected slot\[value\], .*found 'near\[b'"),
  ],
)
def test_bad_rows_name_file_and_line(text, message, tmp_path):
  path = write(tmp_path, text)
  with pytest.raises(ValueError, match=message) as error:
    e2e.read('train', 'files', tmp_path)
  assert str(error.value).startswith(str(path))


@pytest.mark.parametrize('reference', ['', ' ', '""'])
def test_an_empty_reference_or_file_is_refused_on_reading(tmp_path, reference):
  path = write(tmp_path, f'mr,ref\nname[A],A place.\nname[B],{reference}\n', 'testset_w_refs.csv')
  message = f'^{re.escape(str(path))}, line 3: expected a sentence as ref, found none'
  with pytest.raises(ValueError, match=message):
    e2e.read('test', 'files', tmp_path)
  write(tmp_path, 'mr,ref\n')
  with pytest.raises(ValueError, match=r'trainset.csv: expected rows below the header, found none'):
    e2e.read('train', 'files', tmp_path)


@pytest.mark.parametrize('end', ['\n', '\r\n'])
def test_a_byte_order_mark_and_the_end_of_a_line_change_nothing(tmp_path, end):
  write(tmp_path, '\ufeff' + end.join(['mr,ref', 'name[A],"A, place"', 'name[B],B', '']))
  assert [row.reference for row in e2e.read('train', 'files', tmp_path)] == ['A , place', 'B']


def test_what_tfds_cannot_give_is_said(gpt2):
  with pytest.raises(ValueError, match=r"source='files' with the official e2e-dataset.zip"):
    load_task('e2e', gpt2, source='tfds')
  with pytest.raises(ValueError, match=r"e2e has no split 'tset'. Did you mean 'test'"):
    e2e.read('tset', 'files', '.')


@pytest.mark.real_data
@pytest.mark.parametrize(
  'split, size, contexts', [('train', 42061, 4862), ('dev', 4672, 547), ('test', 4693, 630)]
)
def test_real_files(split, size, contexts, shared_data):
  rows = e2e.read(split, 'files', shared_data)
  groups = data_to_text.group(rows)
  assert (len(rows), len(groups)) == (size, contexts)
  assert sum(map(len, groups.values())) == size
  if split == 'test':
    assert rows[0] == (
      'name : Blue Spice | Type : coffee shop | area : city centre',
      'A coffee shop in the city centre area called Blue Spice .',
    )


@pytest.mark.real_data
def test_real_task(shared_data):
  tokenizer = load_tokenizer(shared_data / 'tokenizer-gpt2.zip')
  task = load_task('e2e', tokenizer, data_dir=str(shared_data), limit=100, evals=('dev', 'test'))
  assert (task.kind, task.metric, task.higher_is_better) == ('lm', 'loss', False)
  assert (len(task.train), list(task.evals), len(task.evals['dev'])) == (100, ['dev', 'test'], 4672)
  assert task.scoring == 'e2e' and list(task.prompts) == ['dev', 'test']
  assert [len(task.prompts[split].contexts) for split in ('dev', 'test')] == [547, 630]
  assert [sum(map(len, p.references)) for p in task.prompts.values()] == [4672, 4693]
  first = task.prompts['test']
  assert first.contexts[0] == 'name : Blue Spice | Type : coffee shop | area : city centre'
  assert first.references[0] == [
    'A coffee shop in the city centre area called Blue Spice .',
    'Blue Spice is a coffee shop in city centre .',
  ]
  assert first.ids[0][-1] == 50256 and tokenizer.decode(first.ids[0][:-1]) == first.contexts[0]
