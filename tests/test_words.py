"""The project's text keeps to its vocabulary."""

import pytest

from tests import words


def test_the_project_uses_no_banned_phrase():
  assert words.problems() == []


@pytest.mark.parametrize(
  ('line', 'phrase'),
  [
    ('  """The lane of a sweep."""', 'lane'),
    ('# An interrupted run is gone on with.', 'gone on with'),
    ('the weights were not at hand', 'at hand'),
    ('tokenise the text', 'tokenise'),
    ('Initialisation is exact', 'Initialisation'),
    ('labelled examples', 'labelled'),
    ('it is no JSON', 'is no JSON'),
  ],
)
def test_a_planted_phrase_is_found(tmp_path, line, phrase):
  (tmp_path / 'lora_jax').mkdir()
  (tmp_path / 'lora_jax/planted.py').write_text(f'x = 1\n{line}\n')
  (found,) = words.problems(tmp_path)
  assert found.startswith(f'lora_jax/planted.py:2: {phrase!r} -> ')


@pytest.mark.parametrize(
  'line', ['Otherwise raise an error.', 'area : city centre', 'a precise word']
)
def test_what_only_looks_like_one_is_not(line):
  assert list(words.found_in(line)) == []
