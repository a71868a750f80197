"""Runs on bases that know nothing stand on one page, and on no other but that of all runs."""

from lora_jax.report import pages
from lora_jax.report.findings import Finding, Findings
from lora_jax.report.pages import weak_base
from lora_jax.report.runs import Recorded
from tests.report.toys import ablation, generated, tables_of


def test_they_have_the_rows_of_tables_3_and_18():
  loss = {'metric': 'dev/loss', 'best': {'dev/loss': 1.5}, 'last': {'dev/loss': 1.6}}
  ranks = [ablation('rank', 'Wq,Wv', r, 0, 0, task='e2e') | loss for r in (1, 4)]
  (page,) = weak_base.pages([generated(0, 0.3, 2.0), *ranks])
  texts, of_ranks = tables_of(page)
  assert texts.rows[0]['BLEU'] == '30.00' and [row['r'] for row in of_ranks.rows] == ['1', '4']
  assert weak_base.pages([ablation('rank', 'Wq', 1, 0, 0.5)]) == []


def test_they_are_on_no_page_of_the_paper():
  runs = {'a.json': generated(0, 0.3, 2.0, model='runs/tiny')}
  findings = Findings([Finding('weak-base', '', 'It cannot.', '')], ['tiny'])
  made = pages.make(Recorded(runs=runs), findings)
  assert [page.name for page in made] == ['README', 'weak-base', 'runs']
  assert made[1].blocks[0] == '> **Found here:** It cannot.'
  assert [page.name for page in pages.make(Recorded(runs=runs))] == ['README', 'table-3', 'runs']
