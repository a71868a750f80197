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
