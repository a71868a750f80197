"""Runs of the paper's models stand beside its rows, others in a table of their own."""

from lora_jax.paper import successors
from lora_jax.report import document, scores
from lora_jax.report.pages import glue
from tests.report.toys import run, tables_of


def test_a_run_of_the_papers_model_stands_beside_it_and_a_difference_is_marked():
  settings = {'paper_table': 'table 2', 'model': 'roberta-base', 'preset': 'paper'}
  near = [run(seed, 0.895 + seed / 100, **settings) for seed in (0, 1)]
  made = glue.page(near, {})
  of_paper = lambda made: tables_of(made)[-1 - len(successors.TABLES['2'])].rows
  row = next(r for r in of_paper(made) if r['method'] == 'LoRA')
  assert row['MRPC'] == '89.7±.7, ours 90.0 ± 0.7 (+0.3)' and row['CoLA'] == '63.4±1.2'
  assert row['ours'] == '1 of 8 run'
  assert scores.beside('89.7±.7', [88.0, 88.2]) == '89.7±.7, ours 88.1 ± 0.1 (**-1.6**)'
  assert scores.beside('8.85±.02', [8.9]) == '8.85±.02, ours 8.90 (**+0.05**)'
  quoted = [r['ours'] for r in of_paper(made) if r['method'].endswith('*')]
  assert set(quoted) == {'quoted'}
  other = glue.page([run(0, 0.8)], {('mrpc', 'accuracy'): 68.4})
  first, constant = tables_of(other)[0].rows
  assert (first['MRPC'], constant['MRPC']) == ('80.0 (n 1)', '68.4')
  assert [panel['title'] for panel in other.pictures[0].numbers] == [
    'small',
    'RoBERTa-base (paper)',
  ]
  assert {r['ours'] for r in of_paper(other)} == {'quoted', 'not run'}
  coded = run(1, 0.7, config={'seed': 1, 'model': {'quantize': 'int8'}}, model='coded')
  (picture,) = glue.page([run(0, 0.8), coded], {}).pictures
  assert 'coded' not in [panel['title'] for panel in picture.numbers]


def test_a_method_is_drawn_at_the_best_of_its_settings():
  short, long = run(0, 0.7), run(0, 0.9)
  long['config'] = long['config'] | {'train': {'epochs': 9, 'batch_size': 8}}
  cola, base = run(0, 0.3, task='cola'), run(0, 0.5)
  base['config'] = base['config'] | {'optim': {'lr': 0}}
  (picture,) = glue.page([long, short, cola, base], {}).pictures
  drawn = {one['method']: (one['x'], one['y']) for one in picture.numbers[0]['series']}
  assert drawn == {'lora': (['MRPC', 'CoLA'], [90.0, 30.0]), 'none': (['MRPC'], [50.0])}


def test_what_differs_in_more_than_the_seed_has_no_mean_beside_the_papers():
  settings = {'paper_table': 'table 2', 'model': 'roberta-base'}
  of_paper = [run(seed, 0.9, preset='paper', **settings) for seed in (0, 1)]
  few = run(0, 0.7, preset='paper', **settings)
  few['config'] = few['config'] | {'data': {'limit': 100}}
  made = glue.page([*of_paper, run(0, 0.8, preset='script', **settings), few], {})
  row = next(
    r for r in tables_of(made)[-1 - len(successors.TABLES['2'])].rows if 'ours' in r['MRPC']
  )
  assert row['MRPC'] == '89.7±.7, ours 90.0 ± 0.0 (+0.3) / 80.0 (**-9.7**) / 70.0 (**-19.7**)'
  obtained = next(b for b in made.blocks if isinstance(b, document.Table) and b.folded)
  assert [r['settings'] for r in obtained.rows] == ['paper', 'script', 'paper, 100 examples']


def test_a_search_of_rates_that_compares_no_methods_is_shown_rate_by_rate():
  at = lambda lr, score: run(
    0, score, task='rte', model='llm', preset='compare',
    config={'seed': 0, 'optim': {'lr': lr}, 'method': {}, 'train': {'epochs': 5, 'batch_size': 8}},
  )  # fmt: skip
  made = glue.page([at(1e-3, 0.72), at(1e-2, 0.51)], {})
  rows = tables_of(made)[0].rows
  assert [row['RTE'] for row in rows] == ['72.0 (n 1)', '51.0 (n 1)']
  assert [row['method'].split()[-1] for row in rows] == ['optim.lr=0.001', 'optim.lr=0.01']
  (picture,) = made.pictures
  (series,) = next(panel for panel in picture.numbers if panel['title'] == 'llm')['series']
  assert series['y'] == [72.0]  # The picture has the best rate alone.
  two = [at(1e-3, 0.72), at(1e-3, 0.75) | {'method': 'full'}]
  assert 'Other runs' not in str(glue.page(two, {}).blocks)


def test_the_task_that_the_paper_leaves_out_has_a_column_too():
  made = glue.page([run(0, 0.8), run(0, 0.563, task='wnli')], {('wnli', 'accuracy'): 56.3})
  *_, row, constant = tables_of(made)[0].rows
  assert (row['WNLI'], constant['WNLI']) == ('56.3 (n 1), at chance', '56.3')
  ours, of_paper = made.pictures[0].numbers
  assert {x for series in ours['series'] for x in series['x']} == {'MRPC', 'WNLI'}
  assert {x for series in of_paper['series'] for x in series['x']} == {'MRPC'}
