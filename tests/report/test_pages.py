"""What each page makes of runs: ours in the paper's form, and what would run the rest."""

import re

import pytest
from ml_collections import config_dict

from configs import dart, e2e, glue, gpt3, low_data, matrices, rank, webnlg
from experiments import report
from lora_jax.report import (
  ablations,
  analysis,
  charts,
  counts,
  latency,
  measured,
  page,
  pages,
  paper,
  published,
  results,
  texts,
)
from lora_jax.report import (
  glue as glue_page,
)
from lora_jax.report import (
  gpt3 as gpt3_page,
)
from tests.report.runs import PATTERNS, ablation, generated, run

MODULES = {
  'glue': glue, 'e2e': e2e, 'dart': dart, 'webnlg': webnlg, 'gpt3': gpt3, 'rank': rank,
  'matrices': matrices, 'low_data': low_data,
}  # fmt: skip
COMMANDS = report.commands()


def tables_of(made):
  """The tables of a page that are not folded."""
  return [block for block in made.blocks if isinstance(block, page.Table) and not block.folded]


def lines_of(made):
  """The command lines of a page."""
  return [x for block in made.blocks if isinstance(block, page.Commands) for x in block.lines]


def numbers_of(made):
  """The panels of a page's picture, by their titles."""
  (picture,) = made.pictures
  return {panel['title']: panel['series'] for panel in picture.numbers}


def test_ranks_fill_the_grid_of_table_6_as_they_come_in():
  runs = [
    ablation('rank', weights, r, seed, 0.2 + r / 1000 + seed / 100)
    for weights in ('Wq', 'Wq,Wv')
    for r in (1, 64)
    for seed in (0, 1)
  ]
  made = ablations.table_6(runs[:-1], COMMANDS)
  ours, printed = tables_of(made)
  assert [row['weights'] for row in ours.rows] == list(ablations.WEIGHTS_OF_6)
  assert ours.rows[0]['r=1'] == '20.6 ± 0.7' and ours.rows[1]['r=64'] == '26.4 (n 1)'
  assert ours.rows[0]['r=2'] == ours.rows[2]['r=1'] == 'not run'
  assert printed.rows[0]['r=1'] == '68.8'
  folded = next(x for x in made.blocks if isinstance(x, page.Table) and x.folded).rows
  assert (folded[0]['median'], folded[0]['seeds']) == ('20.6', '0, 1')
  assert (folded[0]['minutes'], folded[0]['commit']) == ('2.0', 'a' * 10)
  line = 'experiments.sweep --config=configs/rank.py:task=mrpc,model=path/to/small,preset=small '
  assert any(line in command for command in lines_of(made))
  series = numbers_of(made)['ours: mrpc (accuracy), small'][0]
  assert (series['label'], series['x']) == ('Wq', [1, 64])
  assert series['y'] == pytest.approx([20.6, 26.9])
  nothing = ablations.table_6([], COMMANDS)
  assert nothing.ours == '' and len(tables_of(nothing)) == 1
  assert 'Ours: not run' in page.markdown(nothing)


def test_other_settings_are_another_grid_and_say_which():
  runs = [ablation('rank', 'Wq', r, 0, 0.5) for r in (1, 2)]
  others = [ablation('rank', 'Wq', r, 0, 0.6, epochs=9) for r in (1, 2)]
  made = ablations.table_6([*runs, *others], COMMANDS)
  assert made.ours == (
    'mrpc (accuracy), small, train.epochs=1; mrpc (accuracy), small, train.epochs=9'
  )


def test_table_5_takes_the_budgets_runs_of_either_sweep_once():
  runs = [ablation('matrices', weights, r, 0, 0.5) for weights, r in ablations.RANKS_OF_5.items()]
  again = [ablation('rank', 'Wq', 8, 0, 0.9), ablation('rank', 'Wq', 8, 1, 0.7)]
  made = ablations.table_5([*runs, *again], COMMANDS)
  row = tables_of(made)[0].rows[1]
  assert list(row) == ['', *ablations.MATRICES]
  assert row['Wq'] == '60.0 ± 14.1' and row['Wq,Wk,Wv,Wo'] == '50.0 (n 1)'
  assert 'not run' not in row.values()
  table_15 = tables_of(gpt3_page.table_15([*runs, *again], COMMANDS))[0].rows
  cells = {row['setting']: row['dev/accuracy'] for row in table_15}
  assert (cells['rq=rv=4'], cells['rv=2']) == ('50.0 (n 1)', 'not run')


def test_few_examples_and_the_ranks_of_a_language_model():
  few = [ablation('low_data', 'Wq,Wv', 8, 0, 0.5, limit=n, epochs=9) for n in (100, 0, 500)]
  (row,) = tables_of(ablations.table_16(few, COMMANDS))[0].rows
  wanted = {'100': '50.0 (n 1)', '1k': 'not run', '10k': 'not run', 'all': '50.0 (n 1)'}
  assert row == {'method': 'LoRA', **wanted, '500': '50.0 (n 1)'}
  loss = {'metric': 'dev/loss', 'best': {'dev/loss': 1.5}, 'last': {'dev/loss': 1.6}}
  ours = [ablation('rank', 'Wq,Wv', r, 0, 0, task='e2e') | loss for r in (1, 1024)]
  ours[0] |= {'generated': generated(0, 0.5, 8.0)['generated']}
  made = ablations.table_18(ours, COMMANDS)
  (picture,) = made.pictures
  _, bleu, *papers = picture.numbers
  assert (bleu['series'][0]['x'], bleu['series'][0]['y'], len(papers)) == ([1], [50.0], 2)
  (picture,) = ablations.table_18(ours[1:], COMMANDS).pictures
  assert len(picture.numbers) == 3  # No text, no panel of BLEU.
  rows = tables_of(made)[0].rows
  assert (rows[0]['dev loss'], rows[0]['BLEU'], rows[0]['NIST']) == ('1.500 (n 1)', '50.00', '8.00')
  assert (rows[-1]['r'], rows[-1]['BLEU'], rows[1]['dev loss']) == ('1024', '-', 'not run')
  assert ablations.table_6(ours, COMMANDS).ours == ''


def test_a_run_of_the_papers_cell_stands_beside_it_and_a_difference_is_marked():
  cell = {'cell': 'table 2', 'model': 'roberta-base', 'preset': 'paper'}
  near = [run(seed, 0.895 + seed / 100, **cell) for seed in (0, 1)]
  made = glue_page.page(near, COMMANDS)
  row = next(r for r in tables_of(made)[-1].rows if r['method'] == 'LoRA')
  assert row['MRPC'] == '89.7±.7, ours 90.0 ± 0.7 (+0.3)' and row['CoLA'] == '63.4±1.2'
  assert row['ours'] == '1 of 8 run'
  assert measured.beside('89.7±.7', [88.0, 88.2]) == '89.7±.7, ours 88.1 ± 0.1 (**-1.6**)'
  assert measured.beside('8.85±.02', [8.9]) == '8.85±.02, ours 8.90 (**+0.05**)'
  quoted = [r['ours'] for r in tables_of(made)[-1].rows if r['method'].endswith('*')]
  assert set(quoted) == {'quoted'}
  other = glue_page.page([run(0, 0.8)], COMMANDS)
  assert tables_of(other)[0].rows[0]['MRPC'] == '80.0 (n 1)'
  assert {r['ours'] for r in tables_of(other)[-1].rows} == {'quoted', 'not run'}


def test_adapters_are_told_apart_by_what_they_train():
  for size, printed in ((3_171_840, '3.0M'), (811_392, '0.8M')):
    found = run(0, 0.9, cell='table 2 †', model='roberta-large', method='adapter_p')
    found['parameters'] = {'trainable': size, 'trainable_without_head': size}
    assert published.row_of('2', found)['params'] == printed


def test_generated_texts_are_in_the_papers_units():
  runs = [generated(0, 0.68, 8.5), generated(1, 0.70, 8.7)]
  made = texts.page('3', runs, COMMANDS)
  (row,) = tables_of(made)[0].rows
  assert (row['BLEU'], row['NIST'], row['MET']) == ('69.00 ± 1.41', '8.600 ± 0.141', '46.00 ± 0.00')
  assert (row['CIDEr'], row['n'], row['method']) == ('-', '2', 'lora (query, value)')
  cell = [r | {'cell': 'table 3', 'model': 'gpt2-medium'} for r in runs]
  lora = next(
    r for r in tables_of(texts.page('3', cell, COMMANDS))[-1].rows if r['method'] == 'LoRA'
  )
  assert lora['BLEU'] == '70.4±.1, ours 69.0 ± 1.4 (-1.4)' and lora['ours'] == '3 of 5 run'
  assert texts.page('14', runs, COMMANDS).ours == ''


@pytest.mark.parametrize('name', COMMANDS)
def test_the_command_of_a_cell_loads(name):
  line = COMMANDS[name]
  for word in re.findall('TASK|EXAMPLES', line):
    tasks = {'2': ('rte', 'stsb'), '4': ('samsum', 'wikisql')}.get(name.split('/')[0])
    line = line.replace(word, {'TASK': (tasks or ('wikisql',))[0], 'EXAMPLES': '1k'}[word])
  module, arg = re.search(r'--config=configs/(\w+)\.py:(\S+)', line).groups()
  config = config_dict.ConfigDict(MODULES[module].get_config(arg))
  for field, value in re.findall(r'--config\.(method\.[a-z]+)=(\S+)', line):
    section, _, key = field.partition('.')
    assert key in config[section], field
    if key == 'targets':
      assert re.fullmatch(r'"\(\'[^\']+\',\)"', value)
  if name.startswith('2/'):
    assert config.cell.startswith('table 2')


def test_every_row_of_the_paper_that_is_not_quoted_has_a_command():
  for table in ('2', '3', '13', '14'):
    keys = {published.key(table, row) for row in paper.TABLES[table].rows}
    own = {name for name in COMMANDS if name.startswith(f'{table}/')}
    assert own <= keys
    stars = {
      published.key(table, row) for row in paper.TABLES[table].rows if row['method'].endswith('*')
    }
    assert not stars & own and (table in ('13', '14') or own == keys - stars)
  assert all(f'{table}/{i}' in COMMANDS for table, n in (('4', 8), ('15', 30)) for i in range(n))
  row = paper.TABLES['15'].rows[28]
  assert row['setting'] == 'rq=rv=64 lp=8 li=4'
  assert 'rank=64' in COMMANDS['15/28'] and 'prefix=8' in COMMANDS['15/28']


def test_the_papers_values_are_read():
  assert [paper.value(x) for x in ('90.6±.2', '.38', '1482.0±1.0 (+2.2%)')] == [90.6, 0.38, 1482]
  assert (paper.spread('90.6±.2'), paper.spread('46.2')) == (0.2, 0)
  assert [paper.millions(x) for x in ('0.35M', '175,255.8M', '175B')] == [0.35, 175255.8, 175e3]
  with pytest.raises(ValueError, match='begins with no number'):
    paper.value('-')
  sums = {number: len(table.rows) for number, table in paper.TABLES.items()}
  assert sums == {
    '1': 3, '2': 14, '3': 12, '4': 8, '5': 3, '6': 6, '7': 2, '13': 11, '14': 11, '15': 30,
    '16': 4, '18': 11,
  }  # fmt: skip
  for row in paper.TABLES['2'].rows:
    scores = [paper.value(row[task]) for task in glue_page.COLUMNS]
    assert sum(scores) / 8 == pytest.approx(paper.value(row['Avg']), abs=0.06)


ENTRY = {'effective_rank': 5.561, 'stable_rank': 1.5, 'norm': 9.6, 'singular_values': [2.0, 1.0]}
FACTS = {'run': 'a', 'model': 'x/base', 'task': 'mnli', 'ranks': [2], 'scales': [2.0], 'seed': 0}
SINGLE = {
  'experiment': 'analysis', 'kind': 'single', 'of': 'a', 'runs': [FACTS],
  'measured': {
    'layers': [], 'figure8': [],
    'spectra': [{**ENTRY, 'layer': n, 'matrix': m} for n, m in ((0, 'query'), (0, 'value'),
                                                                 (1, 'value'))],
    'table7': [{'layer': 0, 'matrix': 'query', 'rank': 2, 'scale': 2.0, 'weight': 60.0,
                'on_update': 0.3, 'on_weight': 20.0, 'on_random': 0.1, 'update': 6.0,
                'amplification': 20.0}],
  },
}  # fmt: skip
MAP = {
  'layer': 0, 'matrix': 'query', 'path': 'q', 'phi': [[0.5, 0.2], [0.1, 0.4]], 'top': 0.5,
  'top_of_first_in_second': 0.6, 'whole': 0.4, 'whole_by_chance': 0.01,
}  # fmt: skip
PAIR = {
  'experiment': 'analysis', 'kind': 'pair', 'of': 'a', 'runs': [FACTS, FACTS | {'seed': 1}],
  'measured': {
    'maps': [MAP], 'middle': 0, 'spread': [0], 'control': [{'phi': [[0.0, 0.1], [0.1, 0.2]]}],
  },
}  # fmt: skip


def test_analyses_are_on_the_pages_of_what_they_measured(tmp_path):
  made = {p.name: p for p in analysis.pages({'one/analysis.json': SINGLE, 'p.json': PAIR})}
  assert list(made) == ['table-7', 'figure-3', 'figure-4', 'figure-8', 'spectra']
  assert made['figure-3'].ours == made['figure-8'].ours == ''
  assert 'experiments.analyze --runs=runs/r8 --runs=runs/r64' in page.markdown(made['figure-3'])
  text = page.markdown(made['spectra'])
  assert '`a` on base, mnli, r 2, scale 2, seed 0.' in text
  assert '| 0 | 5.56 | 1.50 | 9.60 | 5.56 | 1.50 | 9.60 |' in text
  assert '| 1 | - | - | - | 5.56 | 1.50 | 9.60 |' in text
  assert '![spectra of base, mnli, r=2, seed 0](spectra-one.png)' in text
  assert [picture.name for picture in made['figure-4'].pictures] == ['figure-4-p', 'figure-7-p']
  assert '| 0 | query | 0.500 | 0.600 | 0.400 | 0.010 |' in page.markdown(made['figure-4'])
  assert '| 0 | query | 2 | 60 | 0.3 | 20 | 0.1 | 6 | 20 |' in page.markdown(made['table-7'])
  picture = made['figure-4'].pictures[0]
  picture.draw(tmp_path)
  assert picture.is_drawn(tmp_path)
  other = picture._replace(numbers=picture.numbers | {'of': 'b'})
  assert not other.is_drawn(tmp_path)


def test_latency_and_counts_have_pages():
  row = {'mean': 20.0, 'sd': 1.0, 'slowdown': 5.0, 'trials': 9}
  found = {
    'experiment': 'latency', 'device': '1 x cpu', 'cpu': '2', 'commit': 'b' * 40,
    'model': 'gpt2-medium', 'layers': 24, 'dtype': 'float32', 'grid': [],
    'settings': [{'batch': 1, 'length': 128, 'adapters': '11M', 'rows': {'adapter_l': row}}],
  }  # fmt: skip
  made = latency.page({'a/lat.json': found})
  assert '| adapter_l | 20.0 ± 1.0 (+5.0%) |' in page.markdown(made)
  larger = {'batch': 32, 'length': 512, 'adapters': '0.5M', 'rows': {'adapter_l': row}}
  both = latency.page({'a/lat.json': found | {'settings': [*found['settings'], larger]}})
  assert re.search('batch 32, .*batch 1, ', page.markdown(both))  # As in the paper's table.
  with_grid = latency.page({'a/lat.json': found | {'grid': [{'rows': {'bare': row}}]}})
  assert 'of 9' in page.markdown(with_grid) and 'of 9' not in page.markdown(made)
  assert [picture.name for picture in with_grid.pictures] == ['figure-5-lat', 'table-1']
  grid_alone = latency.page({'a/lat.json': found | {'settings': []}})
  assert len(grid_alone.pictures[-1].numbers) < len(made.pictures[-1].numbers)
  assert 'to the letter' in page.markdown(made)
  assert 'to the letter' not in page.markdown(grid_alone)  # Nothing was merged.
  counted = {
    'table': 'table 2', 'model': 'm', 'method': 'bitfit', 'options': {}, 'quoted': True,
    'printed': '0.3M', 'computed': 100_000, 'note': 'why',
  }  # fmt: skip
  (made,) = counts.pages({'c.json': {'experiment': 'counts', 'counts': [counted]}})
  line = '| table 2 | m | bitfit* |  | 0.3M | 100,000 | +200,000 | why |'
  assert line in page.markdown(made)
  assert counts.pages({}) == []


def test_the_page_of_speed_asks_for_an_accelerator_until_a_sweep_was_timed_on_one():
  rows = {
    'own batches': {'seconds': 2.0, 'seconds_ratio': 4.0},
    'one run': {'seconds': 0.5, 'seconds_ratio': 1},
  }
  found = {
    'experiment': 'bench', 'device': '1 x cpu', 'cpu': '2', 'commit': 'b' * 40, 'rounds': 3,
    'measured': {'sweep of 16 runs, roberta-base 16x64': rows},
  }  # fmt: skip
  text = lambda found: page.markdown(results.speed_pages({'bench.json': found})[0])
  assert '--parts=sweep --model=roberta-base' in text(found)
  on_gpu = text(found | {'device': '1 x NVIDIA H200'})
  assert '--parts=sweep' not in on_gpu and '| own batches | 2 | 4 |' in on_gpu
  assert results.speed_pages({}) == []


def test_the_index_lists_every_page_and_latex_every_table(tmp_path):
  runs = {str(i): ablation('rank', w, 1, 0, 0.5) for i, w in enumerate(PATTERNS)}
  made = pages.pages(runs, COMMANDS)
  text = page.markdown(made[0])
  assert all(f']({one.name}.md) | {one.ours or "not run"} |' in text for one in made[1:])
  files = page.write_latex(made, tmp_path)
  assert 'table-6.tex' in {path.name for path in files}
  for path in files:
    tex = path.read_text()
    assert tex.count(r'\begin{tabular}') == tex.count(r'\end{tabular}') > 0
    for body in re.findall(r'\\toprule\n(.*?)\\bottomrule', tex, re.S):
      assert len({line.count(' & ') for line in body.splitlines() if '&' in line}) == 1
    assert not re.search(r'(?<!\\)[_#%]', re.sub(r'\\label\{.*\}', '', tex))
  assert page.tex('`a_b` **±5 %** [x](y.md)') == r'\texttt{a\_b} \textbf{$\pm$5 \%} x'


def test_panels_without_numbers_are_left_out(tmp_path):
  one = charts.Panel('a', 'x', 'y', [charts.Series('s', ['p', 'q'], [1, 2], [0.1, 0.2], False)])
  picture = charts.chart('c', 'alt', [one, charts.Panel('empty', 'x', 'y', [])])
  assert [panel['title'] for panel in picture.numbers] == ['a']
  assert len(picture.figure().axes) == 1
