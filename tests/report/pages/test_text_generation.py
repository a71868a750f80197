"""Scores of generated texts are in the units of the paper's tables."""

from lora_jax.report.pages import text_generation
from tests.report.toys import generated, tables_of


def test_generated_texts_are_in_the_papers_units():
  runs = [generated(0, 0.68, 8.5), generated(1, 0.70, 8.7)]
  made = text_generation.page('3', runs)
  (row,) = tables_of(made)[0].rows
  assert (row['BLEU'], row['NIST'], row['MET']) == ('69.00 ± 1.41', '8.600 ± 0.141', '46.00 ± 0.00')
  assert (row['CIDEr'], row['n'], row['method']) == ('-', '2', 'lora (query, value)')
  of_paper = [r | {'paper_table': 'table 3', 'model': 'gpt2-medium'} for r in runs]
  lora = next(
    r for r in tables_of(text_generation.page('3', of_paper))[-1].rows if r['method'] == 'LoRA'
  )
  assert lora['BLEU'] == '70.4±.1, ours 69.0 ± 1.4 (-1.4)' and lora['ours'] == '3 of 5 run'
  assert text_generation.page('14', runs).ours == ''
