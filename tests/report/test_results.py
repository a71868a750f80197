"""The results page is what the committed runs say, and says when a file is no run."""

from pathlib import Path

import pytest

from experiments import report
from lora_jax.report import results

ROOT = Path(__file__).resolve().parents[2]


def run(seed, best, **more):
  return {
    'experiment': 'glue', 'task': 'mrpc', 'model': 'small', 'method': 'lora', 'preset': 'small',
    'metric': 'dev/accuracy', 'device': '1 x cpu', 'cpu': '2 x x86_64', 'seed': seed,
    'best': {'dev/accuracy': best}, 'last': {'dev/accuracy': best - 0.1}, 'history': [],
    'parameters': {'trainable': 3000, 'trainable_without_head': 1000},
    'seconds': {'training': 60.0, 'compiling': 30.0, 'evaluation': 30.0},
    'tokens_per_second': 1234.5, 'padding': 0.05, 'commit': 'a' * 40,
    'config': {'seed': seed, 'optim': {'lr': 1e-3}}, **more,
  }  # fmt: skip


def test_seeds_are_one_row_and_other_configs_another():
  other = run(0, 0.7, config={'seed': 0, 'optim': {'lr': 1e-2}})
  first, second = results.run_rows([run(0, 0.8), run(1, 0.9), other])
  assert first['best'] == '0.8500 ± 0.0707'
  assert first['last'] == '0.7500 ± 0.0707'
  assert (first['seeds'], first['minutes']) == ('0, 1', '2.0')
  assert first['trained (without head)'] == '3,000 (1,000)'
  assert (second['best'], second['seeds']) == ('0.7000', '0')
  assert (first['settings'], second['settings']) == ('optim.lr=0.001', 'optim.lr=0.01')
  assert results.run_rows([run(0, 0.8), run(1, 0.9)])[0]['settings'] == ''


def test_a_run_on_a_part_of_its_examples_says_so():
  (row,) = results.run_rows([run(0, 0.8, config={'seed': 0, 'data': {'limit': 100}})])
  assert row['settings'] == 'data.limit=100'
  (row,) = results.run_rows([run(0, 0.8, config={'seed': 0, 'data': {'limit': 0}})])
  assert row['settings'] == ''


def test_generated_texts_are_in_the_papers_units():
  def generated(seed, bleu, nist):
    decode = {'strategy': 'beam', 'beams': 10, 'length_penalty': 0.9}
    scores = {'bleu': bleu, 'nist': nist, 'meteor': 0.46}
    config = {'seed': seed, 'method': {'targets': ['.*/(query|value)']}}
    texts = {'split': 'test', 'contexts': 630, 'seconds': 90, 'decode': decode, 'scores': scores}
    return run(seed, 0.8, generated=texts, config=config)

  (row,) = results.text_rows([generated(0, 0.68, 8.5), generated(1, 0.70, 8.7), run(2, 0.9)])
  assert (row['BLEU'], row['NIST'], row['METEOR']) == (
    '69.00 ± 1.41',
    '8.60 ± 0.14',
    '46.00 ± 0.00',
  )
  assert (row['CIDEr'], row['TER']) == ('-', '-')
  assert (row['method'], row['decoding']) == ('lora (query, value)', 'beam 10, p 0.9')
  page = results.render({'a.json': generated(0, 0.68, 8.5)})
  assert '| 68.00 |' in page
  assert (
    len({line.count('|') for line in page.split('## Generated')[1].splitlines()[5:]} - {0}) == 1
  )


def test_an_analysis_is_a_table_and_its_pictures():
  entry = {'effective_rank': 5.561, 'stable_rank': 1.5, 'norm': 9.6}
  spectra = [{**entry, 'layer': 0, 'matrix': 'query'}, {**entry, 'layer': 0, 'matrix': 'value'},
             {**entry, 'layer': 1, 'matrix': 'value', 'norm': 2}]  # fmt: skip
  facts = {'run': 'mnli.bin', 'model': 'a/base', 'task': 'mnli', 'ranks': [8], 'scales': [2.0]}
  found = {'x/analysis.json': {'experiment': 'analysis', 'runs': [facts], 'pictures': ['one.png'],
                               'measured': {'spectra': spectra}}}  # fmt: skip
  page = results.render(found)
  assert '`mnli.bin` on base, mnli, r 8, scale 2.' in page
  assert '| 0 | 5.56 | 1.50 | 9.60 | 5.56 | 1.50 | 9.60 |' in page
  assert '| 1 | - | - | - | 5.56 | 1.50 | 2.00 |' in page
  assert '![one](runs/x/one.png)' in page


def test_a_run_is_kept_without_the_folders_of_its_machine():
  config = {'data': {'dir': '/home/me/data', 'limit': 3}, 'targets': ['/a/b', '.*/query', 'c/d']}
  assert report.without_folders(config) == {
    'data': {'dir': 'data', 'limit': 3},
    'targets': ['b', '.*/query', 'c/d'],
  }


def test_the_committed_page_is_that_of_the_committed_runs():
  pages = results.pages(results.read(ROOT / 'results' / 'runs'))
  assert set(pages) == {path.name for path in (ROOT / 'results').glob('*.md')}
  for name, text in pages.items():
    assert (ROOT / 'results' / name).read_text() == text, (
      f'results/{name} is stale: python -m experiments.report'
    )


def test_a_file_that_is_no_run_is_named(tmp_path):
  (tmp_path / 'half.json').write_text('{"experiment": "glue", ')
  with pytest.raises(ValueError, match=r'half\.json: expected the JSON of a run'):
    results.read(tmp_path)
