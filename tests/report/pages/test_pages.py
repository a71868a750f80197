"""The index lists every page, and the committed pages are those of the committed runs."""

import json
import shutil
from pathlib import Path

import pytest

from experiments import report
from lora_jax.report import document, latex, pages
from lora_jax.report.runs import Recorded
from tests.report.toys import PATTERNS, ablation, run

ROOT = Path(__file__).resolve().parents[3]


def test_the_index_lists_every_page_and_latex_every_table(tmp_path):
  runs = {str(i): ablation('rank', w, 1, 0, 0.5) for i, w in enumerate(PATTERNS)}
  made = pages.make(Recorded(runs=runs))
  text = document.markdown(made[0])
  assert all(f']({one.name}.md) | {one.ours or "not run"} |' in text for one in made[1:])
  assert 'table-6.tex' in {path.name for path in latex.write(made, tmp_path)}


def test_a_run_that_no_config_file_can_make_is_named(tmp_path):
  (tmp_path / 'odd.json').write_text(json.dumps(run(0, 0.8, experiment='rank', task='colla')))
  with pytest.raises(ValueError, match=r"odd\.json: not a run.*'colla'.*cola"):
    report.recorded(tmp_path)


def test_the_committed_pages_are_those_of_the_committed_runs():
  made = pages.make(report.recorded(ROOT / 'results/runs'))
  stale = document.stale(made, ROOT / 'results')
  assert not stale, f'{stale} in results: python -m experiments.report'


def test_a_change_of_a_run_makes_its_pages_and_pictures_stale(tmp_path):
  source = 'cola-all-MiniLM-L6-v2-lora-seed0.json'
  shutil.copytree(ROOT / 'results', tmp_path / 'results')
  path = tmp_path / 'results/runs' / source
  found = json.loads(path.read_text())
  found['best']['dev/matthews'] += 0.1
  path.write_text(json.dumps(found))
  made = pages.make(report.recorded(tmp_path / 'results/runs'))
  assert document.stale(made, tmp_path / 'results') == ['runs.md', 'table-2.md', 'table-2.png']
  written = document.write(made, tmp_path / 'results')
  assert [path.name for path in written if path.suffix == '.png'] == ['table-2.png']
  assert document.stale(made, tmp_path / 'results') == []
