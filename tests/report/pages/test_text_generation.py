"""Scores of generated texts are in the units of the paper's tables."""

from lora_jax.report.pages import text_generation
from tests.report.toys import generated, tables_of

SYSTEMS = {'TGen': {'about': 'baseline', 'scores': {'bleu': 0.66, 'nist': 8.6}}}


def test_generated_texts_are_in_the_papers_units():
  runs = [generated(0, 0.68, 8.5), generated(1, 0.70, 8.7)]
  made = text_generation.page('3', runs, SYSTEMS)
  row, system = tables_of(made)[0].rows
  assert (row['BLEU'], row['NIST'], row['MET']) == ('69.00 ± 1.41', '8.600 ± 0.141', '46.00 ± 0.00')
  assert (row['CIDEr'], row['n'], row['method']) == ('-', '2', 'lora (query, value)')
  assert (system['method'], system['BLEU'], system['MET']) == ('TGen (baseline)', '66.00', '-')
  of_paper = [r | {'paper_table': 'table 3', 'model': 'gpt2-medium'} for r in runs]
  printed, again, vera = tables_of(text_generation.page('3', of_paper, {}))[-3:]
  lora = next(r for r in printed.rows if r['method'] == 'LoRA')
  assert lora['BLEU'] == '70.4±.1, ours 69.0 ± 1.4 (-1.4)' and lora['ours'] == '3 of 5 run'
  assert again.rows[0]['BLEU'] == '68.9' and '2405.15179' in again.caption
  assert 'VeRA' in {r['method'] for r in vera.rows}
  (picture,) = (page := text_generation.page('14', runs, SYSTEMS)).pictures
  assert page.ours == ''
  # The unseen and the seen categories apart, as the order of the methods is not the same.
  assert [(panel['title'], panel['y']) for panel in picture.numbers] == [
    (base, f'BLEU, {part} categories')
    for part in ('unseen', 'seen')
    for base in ('GPT-2 M (paper)', 'GPT-2 L (paper)')
  ]
  assert [panel['series'][0]['y'] for panel in picture.numbers[::2]] == [[27.7], [64.2]]
  assert not any(panel['line'] for panel in picture.numbers)  # Systems have scores of the whole.


def with_rate(one, lr, loss, **more):
  return one | {
    'config': one['config'] | {'optim': {'lr': lr}},
    'best': {'dev/loss': loss},
    **more,
  }


def test_a_method_stands_at_its_best_rate_lora_first_and_bases_apart():
  runs = [
    with_rate(generated(0, 0.60, 8.0, method='full'), 1e-4, 1.0),
    with_rate(generated(0, 0.66, 8.0), 1e-3, 1.5),
    with_rate(generated(0, 0.50, 8.0), 1e-2, 1.9),
    with_rate(generated(0, 0.10, 8.0), 0.0, 4.0),
  ]
  rows = text_generation.own_rows('3', runs, {})
  assert [(row['method'], row['BLEU']) for row in rows] == [
    ('lora (query, value)', '**66.00**'),
    ('full (query, value)', '60.00'),
    ('base, not adapted', '10.00'),
  ]
  other = generated(0, 0.5, 8.0, model='other')
  (picture,) = text_generation.page('3', [*runs, other], SYSTEMS).pictures
  assert [panel['title'] for panel in picture.numbers] == [
    'small', 'other', 'GPT-2 M (paper)', 'GPT-2 L (paper)'
  ]  # fmt: skip
  assert picture.numbers[0]['line'] == ('TGen (baseline)', 66.0)
  assert picture.numbers[0]['series'][0]['method'] == 'lora'
  part = generated(0, 0.4, 8.0)
  part['config'] |= {'data': {'limit': 4000}}
  (picture,) = text_generation.page('3', [*runs, part], {}).pictures
  assert 'small, 4,000 examples' in [panel['title'] for panel in picture.numbers]


def test_a_method_of_several_amounts_of_examples_is_a_line():
  def of(method, bleu, limit, seed=0):
    run = generated(seed, bleu, 8.0, method=method)
    run['truncation'] = {'train': {'examples': limit or 42061}}
    run['config'] |= {'data': {'limit': limit}}
    return run

  few = [of('lora', 0.6, 4000), of('full', 0.7, 4000), of('bitfit', 0.5, 4000)]
  every = [of('lora', 0.72, 0, seed) for seed in range(2)] + [of('full', 0.74, 0)]
  (picture,) = text_generation.page('3', few + every, {}).pictures
  lines, points, *_ = picture.numbers
  assert lines['x'] == text_generation.EXAMPLES
  assert [(one['label'].split()[0], one['x'], one['y']) for one in lines['series']] == [
    ('LoRA', [4000, 42061], [60.0, 72.0]),
    ('full', [4000, 42061], [70.0, 74.0]),
  ]
  # All amounts but the one on which another method was trained are in the lines alone.
  assert [panel['title'] for panel in picture.numbers if 'paper' not in panel['title']] == [
    'small', 'small, 4,000 examples'
  ]  # fmt: skip
  assert len(points['series']) == 3
