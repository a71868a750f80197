"""Java's programs: their tokens, and their end."""

import shutil

import pytest

from lora_jax.metrics import java

needs_java = pytest.mark.skipif(not shutil.which('java'), reason='needs java')


@needs_java
def test_tokens_keep_line_and_letter_whatever_the_locale(monkeypatch):
  monkeypatch.setenv('LC_ALL', 'C')
  texts = ['Café (cheap), £20!', '', 'one\ntwo\x85three\u2028four\rfive', "It's 5-star; isn't it?"]
  assert java.ptb_tokens(texts) == [
    'café -lrb- cheap -rrb- # 20',
    '',
    'one two three four five',
    "it 's 5-star is n't it",
  ]


LOCALES = [
  {'JAVA_TOOL_OPTIONS': '-Duser.language=de -Duser.country=DE'},
  {'_JAVA_OPTIONS': '-Duser.language=de -Duser.region=DE -Dfile.encoding=ISO-8859-1'},
  {'_JAVA_OPTIONS': '-Xmx64m'},
  {'LC_ALL': 'de_DE.UTF-8', 'LANG': 'fr_FR.UTF-8'},
]


@needs_java
@pytest.mark.slow
@pytest.mark.parametrize('variables', LOCALES)
def test_the_score_does_not_depend_on_the_locale_or_on_options_of_the_environment(
  monkeypatch, variables
):
  texts = ['the cat sat on the mat', 'a café'], [['the cat is on a mat', 'a cat'], ['the café']]
  expected = java.meteor(lambda: texts)
  for name, value in variables.items():
    monkeypatch.setenv(name, value)
  assert java.meteor(lambda: texts) == expected
  assert 0 < expected < 1 and java.ptb_tokens(['£20, 1.5']) == ['# 20 1.5']


def test_java_is_given_the_locale_and_no_options_of_the_environment(fake_java, monkeypatch):
  monkeypatch.setenv('JAVA_TOOL_OPTIONS', '-Duser.language=de')
  monkeypatch.setenv('_JAVA_OPTIONS', '-Xmx64m')
  fake_java("""
    case "$JAVA_TOOL_OPTIONS$_JAVA_OPTIONS$*" in -*-Duser.language=en*-Duser.country=US*) ;;
      *) exit 3;; esac
    echo 1; while read -r line; do echo 0.25; done""")
  assert java.meteor(lambda: (['a'], [['b']])) == 0.25


@pytest.mark.parametrize(
  'script, reason',
  [
    (
      'echo "java.lang.OutOfMemoryError: Java heap space" >&2; exit 1',
      'OutOfMemoryError: Java heap',
    ),
    ('echo "Unrecognized option: -Xmx2G" >&2; exit 1', 'status 1: Unrecognized option: -Xmx2G'),
    ('echo 1; while read -r line; do echo 0,25; done', "METEOR answered '0,25', expected a number"),
  ],
)
def test_where_java_fails_its_own_words_are_the_reason(fake_java, script, reason):
  fake_java(script)
  with pytest.raises(java.Unavailable, match=reason) as error:
    java.meteor(lambda: (['a'], [['b']]))
  assert 'nstall' not in str(error.value)


def test_java_goes_when_its_texts_do_not_come(fake_java):
  fake_java('while :; do :; done')

  def texts():
    raise KeyError('lost')

  with pytest.raises(KeyError, match='lost'):
    java.meteor(texts)


@needs_java
def test_the_version_is_what_java_says():
  assert 'version' in java.version()


def test_without_java_the_remedy_is_named(fake_java):
  fake_java('')
  with pytest.raises(java.Unavailable, match=r'no `java` on PATH.*apt install'):
    java.version()
