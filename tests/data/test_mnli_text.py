"""MNLI as generation."""

import pytest

from lora_jax.data import mnli_text

HEADER = 'sentence1\tsentence2'


def test_the_name_of_the_label_is_generated(tmp_path):
  (tmp_path / 'MNLI').mkdir()
  lines = f'{HEADER}\tgold_label\nIt rains.\tIt is dry. \tcontradiction\n'
  (tmp_path / 'MNLI' / 'dev_matched.tsv').write_text(lines)
  pair = ('It rains.\nIt is dry.', 'contradiction')
  assert mnli_text.read('dev_matched', 'files', tmp_path) == [pair]
  (tmp_path / 'MNLI' / 'test_matched.tsv').write_text(f'{HEADER}\na\tb\n')
  with pytest.raises(ValueError, match="'test_matched' has no labels"):
    mnli_text.read('test_matched', 'files', tmp_path)
