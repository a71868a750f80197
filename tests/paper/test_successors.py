"""The tables of the successors: means are those of their rows, and LoRA's counts this code's."""

import statistics

import pytest

from lora_jax.paper import printed, replications, successors

PISSA, VERA, QLORA = successors.TABLES['2']


@pytest.mark.parametrize('table', [PISSA, VERA], ids=['PiSSA', 'VeRA'])
def test_the_printed_mean_is_that_of_the_tasks(table):
  for row in table.rows:
    tasks = [printed.value(row[name]) for name in row if name not in ('method', 'params', 'Avg')]
    assert statistics.fmean(tasks) == pytest.approx(printed.value(row['Avg']), abs=0.06), row


def test_the_tasks_are_the_papers():
  of_paper = printed.TABLES['2'].rows[0].keys()
  assert set(PISSA.rows[0]) - {'method', 'params'} <= of_paper
  assert successors.TABLES['3'][0].rows[0].keys() == printed.TABLES['3'].rows[0].keys()


def test_no_row_stands_twice():
  (again,) = replications.TABLES['3'].rows
  names = [(row['model'], row['method']) for row in successors.TABLES['3'][0].rows]
  assert (again['model'], again['method']) not in names and len(set(names)) == len(names) == 3


def test_rates_of_the_comparison_with_full_fine_tuning():
  rows = {row['method']: row for row in successors.PEFT.rows}
  ratio = lambda one, other, name: float(rows[one][name]) / float(rows[other][name])
  assert ratio('LoRA, r=32', 'full', 'seconds') == pytest.approx(0.44, abs=0.005)
  assert ratio('LoRA, r=32', 'full', 'GB') == pytest.approx(0.575, abs=0.005)
  assert ratio('DoRA, r=32', 'LoRA, r=32', 'seconds') == pytest.approx(1.26, abs=0.005)
  assert len(QLORA.rows) == 1
