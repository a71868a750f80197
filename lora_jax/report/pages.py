"""All pages of the results, and the index over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_jax.report import ablations, analysis, counts, glue, gpt3, latency, plan, results, texts
from lora_jax.report.page import NOT_RUN, Page, Table

ABOUT = """One page for each table and figure of the paper (arXiv 2106.09685 v2) that holds a
measurement, and for what else was measured here: ours with its spread, seeds, machine and commit,
the paper's values beside it, and the commands of what was not run.

The paper's own models were not at hand where these runs were made, unless a page says so: what is
ours is of small models on two cores of a CPU, and shows whether the paper's comparisons hold for
them, not whether its values do."""
MORE = """`python -m experiments.report --add=runs/NAME` keeps a finished run, sweep or analysis in
`runs` and writes the pages; `--latex=DIR` writes their tables as LaTeX."""


def pages(found: Mapping[str, Mapping[str, Any]], commands: Mapping[str, str]) -> list[Page]:
  """The pages in the order of the index, which is the first.

  Args:
    found: of `results.read`.
    commands: configs and commands of what the paper has, as `experiments.report` makes them.
  """
  runs = [run for run in found.values() if 'history' in run]
  text_pages = {page.name: page for page in texts.pages(runs, commands)}
  of_paper = [
    latency.page(found),
    glue.page(runs, commands),
    text_pages['table-3'],
    gpt3.table_4(runs, commands),
    ablations.table_5(runs, commands),
    ablations.table_6(runs, commands),
    *analysis.pages(found)[:1],
    text_pages['table-13'],
    text_pages['table-14'],
    gpt3.table_15(runs, commands),
    ablations.table_16(runs, commands),
    ablations.table_18(runs, commands),
    *analysis.pages(found)[1:],
    *plan.pages(found),
    *counts.pages(found),
  ]
  return [index(of_paper, others := [*results.speed_pages(found), results.runs_page(runs)]),
          *of_paper, *others]  # fmt: skip


def index(of_paper: list[Page], others: list[Page]) -> Page:
  """README.md."""
  rows = [
    {'page': f'[{page.title}]({page.name}.md)', 'ours': page.ours or NOT_RUN}
    for page in (*of_paper, *others)
  ]
  return Page('README', 'Results', '', [ABOUT, Table(rows, 'What of it was run:'), MORE])
