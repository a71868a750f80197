"""Runs of sweeps fill the grids of tables 5, 6, 16 and 18."""

import pytest

from lora_jax.paper import entries
from lora_jax.report import document
from lora_jax.report.pages import ablations, gpt3
from tests.report.toys import ablation, generated, lines_of, numbers_of, tables_of


def test_ranks_fill_the_grid_of_table_6_as_they_come_in():
  runs = [
    ablation('rank', weights, r, seed, 0.2 + r / 1000 + seed / 100)
    for weights in ('Wq', 'Wq,Wv')
    for r in (1, 64)
    for seed in (0, 1)
  ]
  made = ablations.table_6(runs[:-1])
  ours, printed = tables_of(made)
  assert [row['weights'] for row in ours.rows] == list(entries.WEIGHTS_OF_TABLE_6)
  assert ours.rows[0]['r=1'] == '20.6 ± 0.7' and ours.rows[1]['r=64'] == '26.4 (n 1)'
  assert ours.rows[0]['r=2'] == ours.rows[2]['r=1'] == 'not run'
  assert printed.rows[0]['r=1'] == '68.8'
  folded = next(x for x in made.blocks if isinstance(x, document.Table) and x.folded).rows
  assert (folded[0]['median'], folded[0]['seeds']) == ('20.6', '0, 1')
  assert (folded[0]['minutes'], folded[0]['commit']) == ('2.0', 'a' * 10)
  line = 'experiments.sweep --config=configs/rank.py:task=mrpc,model=path/to/small,preset=small '
  assert any(line in command for command in lines_of(made))
  series = numbers_of(made)['ours: mrpc (accuracy), small'][0]
  assert (series['label'], series['x']) == ('Wq', [1, 64])
  assert series['y'] == pytest.approx([20.6, 26.9])
  nothing = ablations.table_6([])
  assert nothing.ours == '' and len(tables_of(nothing)) == 1
  assert 'Ours: not run' in document.markdown(nothing)


def test_other_settings_are_another_grid_and_say_which():
  runs = [ablation('rank', 'Wq', r, 0, 0.5) for r in (1, 2)]
  others = [ablation('rank', 'Wq', r, 0, 0.6, epochs=9) for r in (1, 2)]
  made = ablations.table_6([*runs, *others])
  assert made.ours == (
    'mrpc (accuracy), small, train.epochs=1; mrpc (accuracy), small, train.epochs=9'
  )


def test_table_5_takes_the_budgets_runs_of_either_sweep_once():
  runs = [ablation('matrices', weights, r, 0, 0.5) for weights, r in entries.TABLE_5.items()]
  again = [ablation('rank', 'Wq', 8, 0, 0.9), ablation('rank', 'Wq', 8, 1, 0.7)]
  made = ablations.table_5([*runs, *again])
  row = tables_of(made)[0].rows[1]
  assert list(row) == ['', *entries.TABLE_5]
  assert row['Wq'] == '60.0 ± 14.1' and row['Wq,Wk,Wv,Wo'] == '50.0 (n 1)'
  assert 'not run' not in row.values()
  table_15 = tables_of(gpt3.table_15([*runs, *again]))[0].rows
  entry_of = {row['setting']: row['dev/accuracy'] for row in table_15}
  assert (entry_of['rq=rv=4'], entry_of['rv=2']) == ('50.0 (n 1)', 'not run')


def test_few_examples_and_the_ranks_of_a_language_model():
  few = [ablation('low_data', 'Wq,Wv', 8, 0, 0.5, limit=n, epochs=9) for n in (100, 0, 500)]
  (row,) = tables_of(ablations.table_16(few))[0].rows
  wanted = {'100': '50.0 (n 1)', '1k': 'not run', '10k': 'not run', 'all': '50.0 (n 1)'}
  assert row == {'method': 'LoRA', **wanted, '500': '50.0 (n 1)'}
  loss = {'metric': 'dev/loss', 'best': {'dev/loss': 1.5}, 'last': {'dev/loss': 1.6}}
  ours = [ablation('rank', 'Wq,Wv', r, 0, 0, task='e2e') | loss for r in (1, 1024)]
  ours[0] |= {'generated': generated(0, 0.5, 8.0)['generated']}
  made = ablations.table_18(ours)
  (picture,) = made.pictures
  _, bleu, *papers = picture.numbers
  assert (bleu['series'][0]['x'], bleu['series'][0]['y'], len(papers)) == ([1], [50.0], 2)
  (picture,) = ablations.table_18(ours[1:]).pictures
  assert len(picture.numbers) == 3  # No text, no panel of BLEU.
  rows = tables_of(made)[0].rows
  assert (rows[0]['dev loss'], rows[0]['BLEU'], rows[0]['NIST']) == ('1.500 (n 1)', '50.00', '8.00')
  assert (rows[-1]['r'], rows[-1]['BLEU'], rows[1]['dev loss']) == ('1024', '-', 'not run')
  assert ablations.table_6(ours).ours == ''
