"""The forms of files of predictions and references; mistakes are named by file and line."""

import pytest

from lora_jax.data import scored_texts

PUB, CAFE = 'name[The Mill], eatType[pub]', 'name[Zizzi], eatType[café], near["The Mill"]'
TEXTS = ['The Mill is a pub, cheap.', "Zizzi's café is near 'The Mill'"]


@pytest.fixture
def write(tmp_path):
  def write(name, data):
    (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(tmp_path / name)

  return write


def quoted(*fields):
  return ['"' + field.replace('"', '""') + '"' for field in fields]


# What the challenge's files have: quotes of both kinds or none, a BOM, lines ended by CR CR LF.
FORMS = {
  'tgen.tsv': '\n'.join(['MR\toutput', f'{PUB}\t{TEXTS[0]}', f'{CAFE}\t{TEXTS[1]}', '']),
  'slug.tsv': '\r\n'.join(
    ['MR\toutput', '\t'.join(quoted(PUB, TEXTS[0])), f'{quoted(CAFE)[0]}\t{TEXTS[1]}']
  ),
  'tnt1.tsv': '\n'.join(
    ['MR\toutput', f"'{PUB}'\t'{TEXTS[0]}'", f"'{CAFE}'\t'{TEXTS[1]}'".replace("i's", "i''s")]
  ),
  'sheff2.tsv': b'\xef\xbb\xbf'
  + '\r\n'.join(['MR\toutput', f'{PUB}\t{TEXTS[0]}', f'{CAFE}\t{TEXTS[1]}', '']).encode(),
  'harv.tsv': '\r\r\n'.join(['MR\toutput', f'{PUB}\t{TEXTS[0]}', f'{CAFE}\t{TEXTS[1]}', '']),
  'blank.tsv': '\n\n'.join(['MR\toutput', f'{PUB}\t{TEXTS[0]}', f'{CAFE}\t{TEXTS[1]}', '\n']),
  'turned.tsv': '\n'.join(['output\tMR', f'{TEXTS[0]}\t{PUB}', f'{TEXTS[1]}\t{CAFE}']),
  'some.csv': '\n'.join(
    ['mr,output', ','.join(quoted(PUB, TEXTS[0])), ','.join(quoted(CAFE, TEXTS[1]))]
  ),
}


@pytest.mark.parametrize('name', FORMS)
def test_forms_of_predictions(name, write):
  found = scored_texts.read_predictions(write(name, FORMS[name]))
  assert found.texts == TEXTS
  assert found.meanings == [PUB, CAFE]


def test_lines_are_those_of_the_file(write):
  assert scored_texts.read_predictions(write('harv.tsv', FORMS['harv.tsv'])).lines == [2, 3]
  assert scored_texts.read_predictions(write('blank.tsv', FORMS['blank.tsv'])).lines == [3, 5]
  two = 'output,mr\n"a\nb",x\nc,y\n'
  assert scored_texts.read_predictions(write('a.csv', two)).lines == [2, 4]


def test_predictions_without_meanings(write):
  lines = 'one\u2028line\r\n"two"\n'
  assert scored_texts.read_predictions(write('a.txt', lines)).texts == ['one\u2028line', '"two"']
  for name, text in {'a.csv': 'Output\n"a, b"\nc\n', 'a.tsv': 'output\na, b\nc'}.items():
    found = scored_texts.read_predictions(write(name, text))
    assert (found.texts, found.meanings) == (['a, b', 'c'], None)


def test_forms_of_references(write):
  rows = [[PUB, 'a'], [CAFE, 'b'], [PUB, 'c']]
  table = 'mr,ref\n' + '\n'.join(','.join(quoted(*row)) for row in rows)
  found = scored_texts.read_references([write('refs.csv', table)])
  assert found.texts == [['a', 'c'], ['b']] and found.meanings == [PUB, CAFE]
  grouped = scored_texts.read_references([write('refs.txt', 'a\nc\n\nb\n\n')])
  assert grouped.texts == [['a', 'c'], ['b']] and grouped.meanings is None
  assert scored_texts.read_references([write('one.txt', 'a\nb\n')]).texts == [['a'], ['b']]
  files = [write('ref0', 'a\r\nb\r\n'), write('ref1', 'c\r\n\r\n')]
  assert scored_texts.read_references(files).texts == [['a', 'c'], ['b', '']]


def test_predictions_find_their_references(write):
  references = scored_texts.read_references([write('r.csv', 'mr,ref\nx,a\ny,b\nx,c\n')])
  turned = scored_texts.read_predictions(write('p.tsv', 'MR\toutput\ny\tB\nx\tA\n'))
  assert scored_texts.align(turned, references) == ['A', 'B']
  # Where one of them names no MR, the order does.
  lines = scored_texts.read_references([write('r.txt', 'a\n\nb\n')])
  assert scored_texts.align(turned, lines) == ['B', 'A']


BAD_PREDICTIONS = {
  'an empty line': ('p.txt', 'a\n\nb\n', 'p.txt, line 2: an empty prediction'),
  'an empty output': ('p.tsv', 'MR\toutput\nx\ta\ny\t\n', 'p.tsv, line 3: an empty prediction'),
  'an empty field': ('p.csv', 'mr,output\nx,a\ny," "\n', 'p.csv, line 3: an empty prediction'),
  'latin1': ('p.txt', b'a\nb\xe9\n', 'p.txt, line 2: expected UTF-8, found byte 0xe9'),
  'utf-16': ('p.txt', 'a'.encode('utf-16'), 'p.txt, line 1: expected UTF-8'),
  'no header': ('p.tsv', 'x\ta\ny\tb\n', 'p.tsv, line 1: expected a header'),
  'no output': ('p.csv', 'mr,answer\nx,a\n', 'p.csv, line 1: expected a header'),
  'three fields': ('p.tsv', 'MR\toutput\nx\ta\ny\tb\tc\n', 'p.tsv, line 3: expected 2'),
  'one field': ('p.tsv', 'MR\toutput\nx\n', 'p.tsv, line 2: expected 2'),
  'open quotes': ('p.csv', 'mr,output\nx,"a\n', 'p.csv, line 2: not CSV'),
  'nothing': ('p.tsv', '', 'p.tsv, line 1: expected a header'),
  'no lines': ('p.txt', '', 'p.txt holds no predictions'),
  'no rows': ('p.csv', 'mr,output\n', 'p.csv holds no predictions'),
}


@pytest.mark.parametrize('case', BAD_PREDICTIONS)
def test_mistakes_in_predictions(case, write):
  name, data, words = BAD_PREDICTIONS[case]
  with pytest.raises(ValueError) as error:
    scored_texts.read_predictions(write(name, data))
  assert words in str(error.value)


@pytest.mark.parametrize('name', ['an empty line', 'an empty output', 'an empty field'])
def test_empty_predictions_on_demand(name, write):
  found = scored_texts.read_predictions(write(*BAD_PREDICTIONS[name][:2]), allow_empty=True)
  assert found.texts in (['a', '', 'b'], ['a', ''], ['a', ' '])


BAD_REFERENCES = {
  'an empty reference': ({'r.csv': 'mr,ref\nx,a\ny,\n'}, 'r.csv, line 3: an empty ref'),
  'an empty mr': ({'r.csv': 'mr,ref\nx,a\n,b\n'}, 'r.csv, line 3: an empty mr'),
  'other columns': ({'r.csv': 'MR\nx\n'}, 'ref missing'),
  'two empty lines': ({'r.txt': 'a\n\n\nb\n'}, 'r.txt, line 3: expected one empty line'),
  'an empty beginning': ({'r.txt': '\na\n'}, 'r.txt, line 1: expected one empty line'),
  'nothing': ({'r.txt': '\n\n'}, 'r.txt holds no references'),
  'unequal files': ({'r0': 'a\nb\n', 'r1': 'a\n'}, 'r1, line 1: the file ends'),
  'no reference': ({'r0': 'a\n\n', 'r1': 'a\n \n'}, 'r0, line 2: empty here and in all'),
  'latin1': ({'r0': 'a\n', 'r1': b'\xe9\n'}, 'r1, line 1: expected UTF-8'),
}


@pytest.mark.parametrize('case', BAD_REFERENCES)
def test_mistakes_in_references(case, write):
  files, words = BAD_REFERENCES[case]
  paths = [write(name, data) for name, data in files.items()]
  with pytest.raises(ValueError) as error:
    scored_texts.read_references(paths)
  assert words in str(error.value)


HEAD = 'MR\toutput\nx\tA\n'
BAD_PAIRS = {
  'too few': ('p.txt', 'A\n', 'r.csv, line 3: the first without a partner'),
  'too many': ('p.txt', 'A\nB\nC\nD\n', 'p.txt, line 4: the first without a partner'),
  'missing': ('p.tsv', f'{HEAD}z\tC\n', "for 1 of 3 MRs, the first of them 'y'"),
  'extra': ('p.tsv', f'{HEAD}y\tB\nw\tD\nz\tC\n', "no references for 'w'"),
  'twice': ('p.tsv', f'{HEAD}y\tB\nz\tC\nx\tD\n', 'p.tsv, line 5: a second prediction'),
}


@pytest.mark.parametrize('case', BAD_PAIRS)
def test_predictions_without_partner(case, write):
  name, data, words = BAD_PAIRS[case]
  references = scored_texts.read_references([write('r.csv', 'mr,ref\nx,a\ny,b\nz,c\n')])
  predictions = scored_texts.read_predictions(write(name, data))
  with pytest.raises(ValueError) as error:
    scored_texts.align(predictions, references)
  assert words in str(error.value)
