"""Runs of sweeps fill the grids of tables 5, 6, 16 and 18."""

import pytest

from lora_jax.paper import entries
from lora_jax.report import document
from lora_jax.report.pages import ablations, gpt3
from tests.report.toys import ablation, generated, numbers_of, tables_of


def test_ranks_fill_the_grid_of_table_6_as_they_come_in():
  runs = [
    ablation('rank', weights, r, seed, 0.2 + r / 1000 + seed / 100)
    for weights in ('Wq', 'Wq,Wv')
    for r in (1, 64)
    for seed in (0, 1)
  ]
  made = ablations.table_6(runs[:-1], {('mrpc', 'accuracy'): 20.0})
  ours, printed = tables_of(made)
  assert [row['weights'] for row in ours.rows] == list(entries.WEIGHTS_OF_TABLE_6)
  assert ours.rows[0]['r=1'] == '20.6 ± 0.7, at chance'
  assert ours.rows[1]['r=64'] == '**26.4 (n 1)**'
  assert 'One prediction for all examples scores 20.0.' in ours.caption
  assert ours.rows[0]['r=2'] == ours.rows[2]['r=1'] == 'not run'
  assert printed.rows[0]['r=1'] == '68.8'
  folded = next(x for x in made.blocks if isinstance(x, document.Table) and x.folded).rows
  assert (folded[0]['median'], folded[0]['seeds']) == ('20.6', '0, 1')
  assert (folded[0]['minutes'], folded[0]['commit']) == ('2.0', 'a' * 10)
  series = numbers_of(made)['ours: mrpc (accuracy), small'][0]
  assert (series['label'], series['x']) == ('Wq', [1, 64])
  assert series['y'] == pytest.approx([20.6, 26.9])
  nothing = ablations.table_6([], {})
  assert (nothing.ours, nothing.number) == ('', 'table=6')


def test_other_settings_are_another_grid_and_say_which():
  runs = [ablation('rank', 'Wq', r, 0, 0.5) for r in (1, 2)]
  others = [ablation('rank', 'Wq', r, 0, 0.6, epochs=9) for r in (1, 2)]
  made = ablations.table_6([*runs, *others], {})
  assert made.ours == (
    'mrpc (accuracy), small, train.epochs=1; mrpc (accuracy), small, train.epochs=9'
  )


def test_table_5_takes_the_budgets_runs_of_either_sweep_once():
  runs = [ablation('matrices', weights, r, 0, 0.5) for weights, r in entries.TABLE_5.items()]
  again = [ablation('rank', 'Wq', 8, 0, 0.9), ablation('rank', 'Wq', 8, 1, 0.7)]
  made = ablations.table_5([*runs, *again], {})
  row = tables_of(made)[0].rows[1]
  assert list(row) == ['', *entries.TABLE_5]
  assert row['Wq'] == '**60.0 ± 14.1**' and row['Wq,Wk,Wv,Wo'] == '**50.0 (n 1)**'
  assert 'not run' not in row.values()
  table_15 = tables_of(gpt3.table_15([*runs, *again], {}))[0].rows
  assert {row['setting']: row['accuracy, %'] for row in table_15} == {
    'rq=rv=4': '**50.0 (n 1)**',
    'rq=rk=rv=ro=2': '**50.0 (n 1)**',
  }


def at_rate(run, lr, score):
  """The run at another rate, with another score."""
  config = run['config'] | {'optim': run['config']['optim'] | {'lr': lr}}
  return run | {'config': config, 'best': {'dev/accuracy': score}}


def test_few_examples_and_the_ranks_of_a_language_model():
  few = [ablation('low_data', 'Wq,Wv', 8, 0, 0.5, limit=n, epochs=9) for n in (100, 0, 500)]
  full = [one | {'method': 'full', 'best': {'dev/accuracy': 0.6}} for one in few[:1]]
  lora, other = tables_of(ablations.table_16([*full, *few], {}))[0].rows
  wanted = {'100': '50.0 (n 1)', '1k': 'not run', '10k': 'not run', 'all': '50.0 (n 1)'}
  assert lora == {'method': 'LoRA', **wanted, '500': '50.0 (n 1)'}
  assert (other['method'], other['100'], other['500']) == (
    'full fine-tuning',
    '**60.0 (n 1)**',
    'not run',
  )
  # Of several rates the best one counts, wherever it stands among the runs.
  other_rate = at_rate(few[0], 0.5, 0.7)
  lora, _ = tables_of(ablations.table_16([*full, other_rate, *few], {}))[0].rows
  assert lora['100'] == '**70.0 (n 1)**'
  lora, _ = tables_of(ablations.table_16([*full, *few, other_rate], {}))[0].rows
  assert lora['100'] == '**70.0 (n 1)**'
  loss = {'metric': 'dev/loss', 'best': {'dev/loss': 1.5}, 'last': {'dev/loss': 1.6}}
  ours = [ablation('rank', 'Wq,Wv', r, 0, 0, task='e2e') | loss for r in (1, 1024)]
  ours[0] |= {'generated': generated(0, 0.5, 8.0)['generated']}
  made = ablations.table_18(ours)
  (picture,) = made.pictures
  _, bleu, *papers = picture.numbers
  assert (bleu['series'][0]['x'], bleu['series'][0]['y'], len(papers)) == ([1], [50.0], 2)
  (picture,) = ablations.table_18(ours[1:]).pictures
  assert len(picture.numbers) == 3  # No text, no panel of BLEU.
  first, last = tables_of(made)[0].rows
  assert (first['dev loss'], first['BLEU'], first['NIST']) == ('**1.500 (n 1)**', '50.00', '8.00')
  assert (last['r'], last['BLEU']) == ('1024', '-')
  assert ablations.table_6(ours, {}).ours == ''
  compared = [ablation('rank', 'Wq,Wv', r, 0, 0, task='e2e') | loss for r in (8, 64)]
  assert ablations.table_18(compared).ours == ''  # The two runs of figure 3.
  # Runs of table 6's sweep with other matrices are no rows of table 18.
  others = [
    ablation('rank', weights, r, 0, 0, task='e2e') | loss | {'best': {'dev/loss': 9.0}}
    for weights in ('Wq', 'Wq,Wk,Wv,Wo')
    for r in (1, 2)
  ]
  assert tables_of(ablations.table_18([*others, *ours]))[0].rows == [first, last]


def test_of_a_language_model_bleu_stands_beside_the_loss():
  texts = {'generated': generated(0, 0.5, 8.0)['generated']}
  loss = {'metric': 'dev/loss', 'best': {'dev/loss': 1.5}, 'last': {'dev/loss': 1.6}}
  runs = [ablation('rank', 'Wq', r, 0, 0, task='e2e') | loss for r in (1, 8)]
  runs[0] |= texts
  made = ablations.table_6(runs, {})
  rows = {row['weights']: row for row in tables_of(made)[0].rows}
  assert (rows['Wq: BLEU, E2E test']['r=1'], rows['Wq: BLEU, E2E test']['r=8']) == ('50.0', '-')
  assert [panel['y'] for panel in made.pictures[0].numbers[:2]] == [
    'dev loss, nats a token',
    'BLEU, E2E test',
  ]
  assert [panel['title'] for panel in made.pictures[0].numbers[:2]] == [
    'ours: e2e (loss), small',
    'ours: e2e (BLEU), small',
  ]
