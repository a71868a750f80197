"""`text.score`: its laws, its errors, and what it does where Java is missing or fails."""

import random
import shutil

import pytest

from lora_jax.metrics import java, text

needs_java = pytest.mark.skipif(not shutil.which('java'), reason='needs java')

PREDICTIONS = [
  'Blue Spice is a coffee shop in the city centre.',
  'It costs £20 - 25 a head .',
  'No',
]
REFERENCES = [
  ['A coffee shop in the city centre is Blue Spice.', 'Blue Spice: a coffee shop, in the centre.'],
  ['It costs more than £20 a head.'],
  ['Yes', 'no', 'Not so , says the café .'],
]
WITHOUT_JAVA = [
  ('e2e', ('bleu', 'nist', 'nist_pymteval')),
  ('webnlg', ('bleu', 'ter')),
  ('dart', ('bleu', 'bleu_filled', 'ter')),
  ('synthetic', ('bleu',)),
]
WITH_JAVA = [
  pytest.param('e2e', ('rouge_l', 'cider'), marks=needs_java),
  pytest.param('e2e', ('meteor',), marks=[needs_java, pytest.mark.slow]),
  pytest.param('webnlg', ('meteor',), marks=[needs_java, pytest.mark.slow]),
]
LAWS = [*WITHOUT_JAVA, *WITH_JAVA]


@pytest.mark.parametrize('scoring, metrics', LAWS)
def test_order_does_not_matter(scoring, metrics):
  expected = text.score(scoring, PREDICTIONS, REFERENCES, metrics).scores
  assert set(expected) == set(metrics)
  turned = text.score(scoring, PREDICTIONS, [texts[::-1] for texts in REFERENCES], metrics)
  assert turned.scores == pytest.approx(expected, abs=1e-9)
  order = random.Random(0).sample(range(len(PREDICTIONS)), len(PREDICTIONS))
  assert order != sorted(order)
  mixed = [[values[i] for i in order] for values in (PREDICTIONS, REFERENCES)]
  assert text.score(scoring, *mixed, metrics).scores == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('scoring, metrics', LAWS)
def test_nothing_scores_better_than_a_reference(scoring, metrics):
  best = text.score(scoring, [texts[-1] for texts in REFERENCES], REFERENCES, metrics).scores
  found = text.score(scoring, PREDICTIONS, REFERENCES, metrics).scores
  for name in metrics:
    sign, worst = (-1, 99) if name == 'ter' else (1, 0)
    assert sign * best[name] > sign * found[name] > sign * worst, name
  ideal = {'bleu': 1, 'bleu_filled': 1, 'ter': 0, 'rouge_l': 1, 'meteor': 1}
  for name in ideal.keys() & best.keys():
    assert best[name] == pytest.approx(ideal[name], abs=1e-6), name


@pytest.mark.parametrize('scoring, metrics', WITHOUT_JAVA)
def test_nothing_predicted(scoring, metrics):
  found = text.score(scoring, [''] * 3, REFERENCES, metrics).scores
  assert found == {name: float(name == 'ter') for name in metrics}


@needs_java
def test_nothing_predicted_by_java(monkeypatch):
  monkeypatch.setenv('LC_ALL', 'C')  # In which `è` and `é` are both `?` to Java.
  metrics = ['meteor', 'rouge_l', 'cider']
  found = text.score('e2e', ['', ' ', '\n', 'è è'], [*REFERENCES, ['é é']], metrics).scores
  assert found == {'meteor': 0, 'rouge_l': 0, 'cider': 0}


def test_text_of_webnlg_is_split_at_every_non_word_character():
  assert text.split_words("It's  a 3.5-Star café,\nMary_Ann!") == (
    "it ' s a 3 . 5 - star café , mary_ann !"
  )
  report = text.score('webnlg', ['A-B, c.'], [['a - b , C .']], ['bleu', 'ter'])
  assert report.scores == {'bleu': pytest.approx(1), 'ter': 0}


def test_six_references_and_no_more():
  references = [['x y z w'] * 5 + ['a b c e', 'a b c d']]
  report = text.score('dart', ['a b c d'], references, ['ter'])
  assert report.scores['ter'] == 1 / 4
  assert (report.references, report.settings['references_left_out']) == (6, 1)
  assert text.score('synthetic', ['a b c d'], references).scores['bleu'] == pytest.approx(1)


def test_empty_references():
  references = [['a b c d e f g h i j k', '', ' ']]
  report = text.score('dart', ['a b c d'], references, ['bleu', 'bleu_filled', 'ter'])
  assert report.scores['bleu'] == pytest.approx(1) != report.scores['bleu_filled']
  assert report.scores['ter'] == 7 / 11
  assert (report.references, report.settings['empty_references']) == (1, 2)
  # E2E has no such convention: an empty text is no reference.
  plain = text.score('e2e', ['a b c d'], references, ['bleu'])
  assert plain.scores['bleu'] == pytest.approx(report.scores['bleu_filled'])


@pytest.mark.parametrize(
  'arguments, words',
  [
    (('bleurt', ['a'], [['a']]), ["unknown scoring 'bleurt'", 'webnlg']),
    (('e2e', ['a'], [['a']], ['ter']), ["e2e has no metric 'ter'", 'rouge_l']),
    (('e2e', ['a', 'b'], [['a']]), ['2 predictions', '1 lists']),
    (('e2e', [], []), ['0 predictions']),
    (('e2e', ['a', 'b c'], [['a'], []]), ['segment 2 of 2 has no reference', 'b c']),
    (('dart', ['a'], [['', ' ']]), ['segment 1 of 1 has no reference']),
  ],
)
def test_mistakes(arguments, words):
  with pytest.raises(ValueError) as error:
    text.score(*arguments)
  assert all(word in str(error.value) for word in words), error.value


STARTS = 'case "$*" in *-version*) echo \'openjdk version "17"\' >&2; exit 0;; esac\n'
OLD = 'java.lang.UnsupportedClassVersionError: Meteor : Unsupported major.minor version 51.0'
BROKEN = {
  'none': ('', 'no `java` on PATH'),
  'too old': (f"{STARTS}echo 'Exception in main {OLD}' >&2; exit 1", OLD),
  'does not start': ('exit 127', 'ended with status 127'),
  'dies unasked': (f'{STARTS}exit 3', 'ended with status 3'),
  'dies while asked': (f'{STARTS}read line; echo 1.0 2.0; read line; exit 4', 'with status 4'),
  'says no numbers': (f"{STARTS}read line; echo 'Error: what?'; read line", 'Error: what?'),
  'hangs': (f'{STARTS}while read line; do :; done', 'not ended within 0.2 s'),
}


@pytest.mark.parametrize('case', BROKEN)
def test_without_a_java_that_works(case, fake_java, monkeypatch):
  script, words = BROKEN[case]
  fake_java(script)
  if case == 'hangs':
    monkeypatch.setattr(java, 'SECONDS', 0.2)
  report = text.score('dart', PREDICTIONS, REFERENCES)
  assert set(report.scores) == {'bleu', 'ter'}
  assert set(report.unavailable) == {'meteor'}
  assert words in report.unavailable['meteor']
  remedied = 'apt install default-jre-headless' in report.unavailable['meteor']
  assert remedied == (case in ('none', 'too old'))  # Elsewhere Java is there.


@pytest.mark.parametrize('case', ['none', 'dies unasked', 'dies while asked', 'too old'])
def test_e2e_without_a_java_that_works(case, fake_java):
  script, words = BROKEN[case]
  fake_java(script)
  report = text.score('e2e', PREDICTIONS, REFERENCES)
  assert set(report.scores) == {'bleu', 'nist', 'nist_pymteval'}
  assert set(report.unavailable) == {'meteor', 'rouge_l', 'cider'}
  assert all(words in reason for reason in report.unavailable.values())
  assert ('java' in report.versions) == script.startswith(STARTS)


def test_java_is_not_looked_for_in_vain(fake_java):
  fake_java('')
  report = text.score('synthetic', PREDICTIONS, REFERENCES)
  assert report.unavailable == {} and list(report.scores) == ['bleu']
  assert list(report.versions) == ['sacrebleu']


def test_a_tokenizer_that_loses_lines_is_not_believed(fake_java):
  fake_java(f'{STARTS}read line; echo one; while read line; do :; done')
  report = text.score('e2e', PREDICTIONS, REFERENCES, ['rouge_l'])
  assert report.scores == {}
  assert 'answered 9 lines with 1' in report.unavailable['rouge_l']


def test_a_score_that_is_not_finite_is_an_error(monkeypatch):
  lost = lambda *_: ({'bleu': 0.5, 'ter': float('nan')}, {}, '')
  monkeypatch.setattr(text.text_metrics, 'compute', lost)
  with pytest.raises(FloatingPointError, match='dart: ter is nan, not a score'):
    text.score('dart', PREDICTIONS, REFERENCES, ['bleu', 'ter'])
