"""The page of random subspaces: d90 by variant, beside full fine-tuning and LoRA of rank 1."""

from lora_jax.report import document, pages
from lora_jax.report.pages import intrinsic
from lora_jax.report.runs import Recorded
from tests.report.toys import PATTERNS, run, tables_of

# The mean accuracy of each rate; None where the runs diverge. 90 % of full's 0.8 are 0.72.
SCORES = {
  ('full', 0): {1e-4: 0.8, 3e-4: 0.7},
  ('lora', 1): {1e-3: 0.75, 3e-3: 0.79, 1e-2: 0.7},
  ('did', 10): {1e-3: 0.5, 1e-2: 0.6},
  ('did', 1000): {1e-3: 0.7, 1e-2: 0.73},
  ('did', 100): {1e-3: 0.6, 1e-2: 0.73, 1e-1: None},
  ('said', 10): {1e-3: None},
  ('said', 100): {1e-3: 0.71},
}


def trained(name, size, lr, seed, score):
  section = {'variant': name, 'dimension': size, 'head': 'subspace'}
  if name == 'lora':
    section = {'rank': size, 'targets': [PATTERNS['Wq,Wv']]}
  method = name if name in ('full', 'lora') else 'intrinsic'
  config = {'seed': seed, 'optim': {'lr': lr}, 'method': {} if name == 'full' else section}
  config |= {'train': {'epochs': 3, 'batch_size': 256}, 'data': {'limit': 10000}}
  count = {'trainable': size + 7, 'trainable_without_head': size}
  more = dict(experiment='intrinsic', method=method, config=config, parameters=count)
  return run(seed, score or 0.0, **more) | ({} if score else {'error': 'loss is nan'})


def runs_of(scores):
  every = [
    trained(*place, lr, seed, score and score + 0.01 * seed)
    for place, rates in scores.items()
    for lr, score in rates.items()
    for seed in (0, 1)
  ]
  return [one for one in every if 'error' not in one], [one for one in every if 'error' in one]


def test_the_least_dimension_that_reaches_the_share_of_full_fine_tuning(tmp_path):
  (page,) = intrinsic.pages(*runs_of(SCORES), {('mrpc', 'accuracy'): 68.4})
  ours, published = tables_of(page)
  assert [(row['method'], row['r or d']) for row in ours.rows] == [
    ('full fine-tuning', '-'),
    ('LoRA, Wq,Wv', '1'),
    ('random subspace, did', '10'),
    ('random subspace, did', '100'),
    ('random subspace, did', '1,000'),
    ('random subspace, said', '10'),
    ('random subspace, said', '100'),
  ]
  assert [row['of full'] for row in ours.rows] == [
    '100 %', '99 %', '75 %', '91 %', '91 %', '-', '89 %',
  ]  # fmt: skip
  assert ours.caption.startswith('Trained on 10,000 examples, 3 epochs with batches of 256. ')
  assert ours.rows[5]['accuracy, %'] == 'diverged' and ours.rows[5]['best rate'] == 'none'
  assert [row['best rate'] for row in ours.rows[:4]] == ['0.0001 †', '0.003', '0.01 †', '0.01']
  text = next(str(block) for block in page.blocks if 'd90, of the' in str(block))
  assert '90 % of full fine-tuning is 72.5.' in text
  assert 'did 100; random subspace, said not reached with 1,000.' in text
  assert 'LoRA of rank 1 trains 1 parameters.' in text and 'says nothing' not in text
  assert published.rows[-1]['LoRA, r=1'] == '98,304'
  (panel,) = page.pictures[0].numbers
  assert [series['x'] for series in panel['series']] == [[10, 100, 1000], [100]]
  assert document.write([page], tmp_path)  # The picture is drawn.


def test_one_dimension_alone_is_no_picture():
  few = {place: SCORES[place] for place in [('full', 0), ('did', 1000)]}
  (page,) = intrinsic.pages(*runs_of(few), {})
  assert not page.pictures and 'd90, of the dimensions tried' in document.markdown(page)


def test_where_one_prediction_for_all_is_enough_no_dimension_is_told():
  (page,) = intrinsic.pages(*runs_of(SCORES), {('mrpc', 'accuracy'): 75.0})
  assert 'scores 75.0, so d90 says nothing here' in ' '.join(document.markdown(page).split())


def test_without_full_fine_tuning_or_runs_there_is_less():
  alone = {place: rates for place, rates in SCORES.items() if place[0] != 'full'}
  (page,) = intrinsic.pages(*runs_of(alone), {})
  assert page.pictures == [] and {row['of full'] for row in tables_of(page)[0].rows} == {'-'}
  assert intrinsic.pages([run(0, 0.5)], [], {}) == []
  found = {str(i): one for i, one in enumerate(runs_of(SCORES)[0])}
  assert 'intrinsic' in {page.name for page in pages.make(Recorded(runs=found))}
