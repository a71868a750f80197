"""The index says what was found; the committed pages are those of the committed runs."""

import json
import shutil
from pathlib import Path

import pytest

from experiments import report
from lora_jax.report import document, findings, latex, pages, runs
from lora_jax.report.findings import Finding, Findings
from lora_jax.report.runs import Recorded
from tests.report.toys import PATTERNS, ablation, run, tables_of

ROOT = Path(__file__).resolve().parents[3]
WITHOUT = {'README', 'counts', 'chaos', 'runs'}  # They begin with a sentence that is computed.


@pytest.fixture(scope='module')
def made():
  return report.read(ROOT / 'results')[0]


def test_an_index_of_runs_has_method_score_and_parameters(tmp_path):
  found = {f'{i}.json': run(i, 0.6 + i / 100) for i in range(2)}
  found |= {'full.json': run(0, 0.9, method='full'), 'x': ablation('rank', 'Wq', 1, 0, 0.5)}
  first, *others = pages.make(Recorded(runs=found))
  assert {page.name for page in others} == {'table-2', 'runs'}  # Only what was measured.
  rows = pages.run_rows(list(found.values())[:3], {('mrpc', 'accuracy'): 60.0})
  assert [(row['method'], row['score'], row['seeds']) for row in rows] == [
    ('lora', '60.5 ± 0.7, at chance', '0, 1'),
    ('full', '**90.0 (n 1)**', '0'),
  ]
  assert rows[0]['trained (without head)'] == '3,000 (1,000)'
  # Scores on other rows do not compete.
  config = found['full.json']['config'] | {'own': {'dev': 'easy.csv (0123abcd)'}}
  easy = found['full.json'] | {'config': config}
  rows = pages.run_rows([*list(found.values())[:2], found['full.json'], easy], {})
  assert [row['score'] for row in rows if row['method'] == 'full'] == [
    '**90.0 (n 1)**', '90.0 (n 1)'
  ]  # fmt: skip
  # A run that two sweeps hold is one seed.
  again = [run(0, 0.6, experiment='rank'), run(0, 0.6), run(1, 0.7)]
  (row,) = pages.run_rows(again, {})
  assert (row['score'], row['seeds']) == ('65.0 ± 7.1', '0, 1')
  # A score without the seeds that diverged says how many they are.
  lost = [run(seed, 0.0) | {'error': 'loss is nan'} for seed in (2, 3)]
  runs.with_diverged(again, lost)
  (row,) = pages.run_rows(again, {})
  assert row['score'] == '65.0 ± 7.1 (2 of 4 diverged)'
  text = document.markdown(first)
  assert '- [Table 2: GLUE](table-2.md): small mrpc' in text and 'reproduce' not in text
  assert 'README.tex' not in {path.name for path in latex.write([first, *others], tmp_path)}


def test_an_index_of_findings_has_verdicts_and_one_list_of_what_was_not_measured():
  found = {str(i): ablation('rank', w, 1, 0, 0.5) for i, w in enumerate(PATTERNS)}
  known = Findings([
    Finding('table-6', 'A low rank suffices.', 'It does.', 'holds'),
    Finding('table-6', 'And more.', 'Nobody knows.', ''),
    Finding('table-6', '', 'On a second model it does not.', 'does not hold'),
  ], names={'small': 'Small-1B'})  # fmt: skip
  first, *others = pages.make(Recorded(runs=found), known)
  (table,) = tables_of(first)
  assert [row['verdict'] for row in table.rows] == ['holds', 'not measured', 'does not hold']
  assert table.rows[2]['the paper'] == 'the same'
  text = ' '.join(document.markdown(first).split())
  # A finding is counted once, whatever it is tried on.
  assert 'on the model that stands first, 1 hold, 0 do not. Of the 1 with a verdict on a' in text
  assert 'second model, 0 hold, 1 do not.' in text
  assert '`python -m experiments.reproduce --table=3 --data_dir=DIR`' in text
  assert '--figure=3 ' in text and '--table=6 ' not in text and '[All runs](runs.md)' in text
  six = next(page for page in others if page.name == 'table-6')
  # A model has its published name on every page, not its folder's.
  assert 'Small-1B' in document.markdown(six) and ', small' not in document.markdown(six)
  assert six.blocks[0] == (
    '> **Found here:** It does. **The paper:** A low rank suffices. **Here that holds.**'
  )


def test_a_folder_without_results_says_what_to_do(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'has no results\. Add some by --add=DIR'):
    report.read(tmp_path)
  (tmp_path / 'runs').mkdir()
  (tmp_path / 'runs/a.json').write_text(json.dumps(run(0, 0.5, task='rte')))
  text = document.markdown(report.read(tmp_path)[0][0])
  assert '50.0 (n 1), at chance |' in text  # What the data's most common class scores is known.


def test_the_committed_pages_are_those_of_the_committed_runs(made):
  stale = document.stale(made, ROOT / 'results')
  assert not stale, f'{stale}: run python -m experiments.report --folder=results'


def test_every_committed_page_begins_with_what_was_found(made):
  said = {page.name for page in made if str(page.blocks[0]).startswith('> **Found here:**')}
  silent = {page.name for page in made} - said - WITHOUT
  assert not silent, f'{silent}: write a [[finding]] for each in results/findings.toml'


def test_a_committed_finding_that_runs_no_longer_bear_out_is_named():
  recorded = runs.read(ROOT / 'results/runs')
  for one in recorded.runs.values():
    if (one['task'], one['method'], one['experiment']) == ('sst2', 'lora', 'glue'):
      one['best']['dev/accuracy'] = 0.95
  with pytest.raises(
    ValueError,
    match=r'of table-2: below\(sst2, sst2_full\), sst2_low < sst2, .* is not true.*Rewrite',
  ):
    findings.read(ROOT / 'results/findings.toml', recorded)


def test_a_change_of_a_run_makes_its_pages_and_pictures_stale(tmp_path):
  source = 'mrpc-all-MiniLM-L6-v2-lora-seed0.json'
  shutil.copytree(ROOT / 'results', tmp_path / 'results')
  path = tmp_path / 'results/runs' / source
  found = json.loads(path.read_text())
  found['best']['dev/accuracy'] += 0.1
  path.write_text(json.dumps(found))
  made, _ = report.read(tmp_path / 'results')
  assert document.stale(made, tmp_path / 'results') == ['runs.md', 'table-2.md', 'table-2.png']
  written = document.write(made, tmp_path / 'results')
  assert [path.name for path in written if path.suffix == '.png'] == ['table-2.png']
  assert document.stale(made, tmp_path / 'results') == []
