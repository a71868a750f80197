"""The forms that `experiments.score` reads, its mistakes named by file and line, and its JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import score

ROOT = Path(__file__).resolve().parents[2]
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
  found = score.read_predictions(write(name, FORMS[name]))
  assert found.texts == TEXTS
  assert found.meanings == [PUB, CAFE]


def test_lines_are_those_of_the_file(write):
  assert score.read_predictions(write('harv.tsv', FORMS['harv.tsv'])).lines == [2, 3]
  assert score.read_predictions(write('blank.tsv', FORMS['blank.tsv'])).lines == [3, 5]
  two = 'output,mr\n"a\nb",x\nc,y\n'
  assert score.read_predictions(write('a.csv', two)).lines == [2, 4]


def test_predictions_without_meanings(write):
  lines = 'one\u2028line\r\n"two"\n'
  assert score.read_predictions(write('a.txt', lines)).texts == ['one\u2028line', '"two"']
  for name, text in {'a.csv': 'Output\n"a, b"\nc\n', 'a.tsv': 'output\na, b\nc'}.items():
    found = score.read_predictions(write(name, text))
    assert (found.texts, found.meanings) == (['a, b', 'c'], None)


def test_forms_of_references(write):
  rows = [[PUB, 'a'], [CAFE, 'b'], [PUB, 'c']]
  table = 'mr,ref\n' + '\n'.join(','.join(quoted(*row)) for row in rows)
  found = score.read_references([write('refs.csv', table)])
  assert found.texts == [['a', 'c'], ['b']] and found.meanings == [PUB, CAFE]
  grouped = score.read_references([write('refs.txt', 'a\nc\n\nb\n\n')])
  assert grouped.texts == [['a', 'c'], ['b']] and grouped.meanings is None
  assert score.read_references([write('one.txt', 'a\nb\n')]).texts == [['a'], ['b']]
  files = [write('ref0', 'a\r\nb\r\n'), write('ref1', 'c\r\n\r\n')]
  assert score.read_references(files).texts == [['a', 'c'], ['b', '']]


def test_predictions_find_their_references(write):
  references = score.read_references([write('r.csv', 'mr,ref\nx,a\ny,b\nx,c\n')])
  turned = score.read_predictions(write('p.tsv', 'MR\toutput\ny\tB\nx\tA\n'))
  assert score.aligned(turned, references) == ['A', 'B']
  # Where one of them names no MR, the order does.
  lines = score.read_references([write('r.txt', 'a\n\nb\n')])
  assert score.aligned(turned, lines) == ['B', 'A']


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
  'no lines': ('p.txt', '', 'p.txt: holds no predictions'),
  'no rows': ('p.csv', 'mr,output\n', 'p.csv: holds no predictions'),
}


@pytest.mark.parametrize('case', BAD_PREDICTIONS)
def test_mistakes_in_predictions(case, write):
  name, data, words = BAD_PREDICTIONS[case]
  with pytest.raises(ValueError) as error:
    score.read_predictions(write(name, data))
  assert words in str(error.value)


@pytest.mark.parametrize('name', ['an empty line', 'an empty output', 'an empty field'])
def test_empty_predictions_on_demand(name, write):
  found = score.read_predictions(write(*BAD_PREDICTIONS[name][:2]), allow_empty=True)
  assert found.texts in (['a', '', 'b'], ['a', ''], ['a', ' '])


BAD_REFERENCES = {
  'an empty reference': ({'r.csv': 'mr,ref\nx,a\ny,\n'}, 'r.csv, line 3: an empty ref'),
  'an empty mr': ({'r.csv': 'mr,ref\nx,a\n,b\n'}, 'r.csv, line 3: an empty mr'),
  'other columns': ({'r.csv': 'MR\nx\n'}, 'ref missing'),
  'two empty lines': ({'r.txt': 'a\n\n\nb\n'}, 'r.txt, line 3: expected one empty line'),
  'an empty beginning': ({'r.txt': '\na\n'}, 'r.txt, line 1: expected one empty line'),
  'nothing': ({'r.txt': '\n\n'}, 'r.txt: holds no references'),
  'unequal files': ({'r0': 'a\nb\n', 'r1': 'a\n'}, 'r1, line 1: the file ends'),
  'no reference': ({'r0': 'a\n\n', 'r1': 'a\n \n'}, 'r0, line 2: empty here and in all'),
  'latin1': ({'r0': 'a\n', 'r1': b'\xe9\n'}, 'r1, line 1: expected UTF-8'),
}


@pytest.mark.parametrize('case', BAD_REFERENCES)
def test_mistakes_in_references(case, write):
  files, words = BAD_REFERENCES[case]
  paths = [write(name, data) for name, data in files.items()]
  with pytest.raises(ValueError) as error:
    score.read_references(paths)
  assert words in str(error.value)


BAD_PAIRS = {
  'too few': ('p.txt', 'A\n', 'r.csv, line 3: the first without a partner'),
  'too many': ('p.txt', 'A\nB\nC\nD\n', 'p.txt, line 4: the first without a partner'),
  'missing': ('p.tsv', 'MR\toutput\nx\tA\nz\tC\n', "for 1 of 3 MRs, the first of them 'y'"),
  'extra': ('p.tsv', 'MR\toutput\nx\tA\ny\tB\nw\tD\nz\tC\n', "no references for 'w'"),
  'twice': ('p.tsv', 'MR\toutput\nx\tA\ny\tB\nz\tC\nx\tD\n', 'p.tsv, line 5: a second prediction'),
}  # fmt: skip


@pytest.mark.parametrize('case', BAD_PAIRS)
def test_predictions_without_partner(case, write):
  name, data, words = BAD_PAIRS[case]
  references = score.read_references([write('r.csv', 'mr,ref\nx,a\ny,b\nz,c\n')])
  predictions = score.read_predictions(write(name, data))
  with pytest.raises(ValueError) as error:
    score.aligned(predictions, references)
  assert words in str(error.value)


def run(*flags, **env):
  command = [sys.executable, '-m', 'experiments.score', *flags]
  done = subprocess.run(
    command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **env}, check=False
  )
  assert 'Traceback' not in done.stderr
  return done


def test_prints_json(write, tmp_path):
  predictions = write('p.tsv', 'MR\toutput\ny\tdu café\nx\tA b c d\n')
  references = write('r.csv', 'mr,ref\nx,a b c d\ny,du café\nx,e\n')
  files = [f'--predictions={predictions}', f'--references={references}']
  done = run('--task=e2e', *files, PATH=str(tmp_path))
  report = json.loads(done.stdout)
  assert report['scores']['bleu'] == pytest.approx(1)
  assert set(report['scores']) == {'bleu', 'nist', 'nist_pymteval'}
  assert set(report['unavailable']) == {'meteor', 'rouge_l', 'cider'}
  assert 'apt install' in report['unavailable']['meteor']
  assert (report['segments'], report['references']) == (2, 3)
  assert set(report['settings']) > {'bleu', 'nist'} and 'sacrebleu' in report['versions']
  assert done.returncode == 0


def test_mistakes_end_in_one_message(write):
  files = [f'--predictions={write("p.txt", "a")}', f'--references={write("r.txt", "a")}']
  for flags, words in {
    ('--task=e2e', '--metrics=bleu,ter'): "e2e has no metric 'ter'",
    ('--task=e2e', f'--predictions={files[0][14:]}.gone'): 'No such file',
  }.items():
    done = run(*files, *flags)
    assert done.returncode == 1 and done.stdout == ''
    assert words in done.stderr
