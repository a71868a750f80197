"""All pages of the results, and the index of them."""

from __future__ import annotations

from lora_jax.report.document import NOT_RUN, Page, Table
from lora_jax.report.pages import (
  ablations,
  all_runs,
  analysis,
  chaos,
  counts,
  glue,
  gpt3,
  latency,
  practical_claims,
  speed,
  text_generation,
)
from lora_jax.report.runs import Recorded

ABOUT = """One page for each table and figure of the paper (arXiv 2106.09685 v2) that holds a
measurement, and for what else was measured here: our scores with their spread, seeds, machine and
commit, the paper's beside them, and the commands of what was not run.

The paper's own models were not available where these runs were trained, unless a page says so: ours
are small models, trained on two cores of a CPU. They show whether the paper's comparisons hold for
them, not whether its values do."""
MORE = """`python -m experiments.report --add=runs/NAME` keeps a finished run, sweep or analysis in
`runs` and writes the pages; `--latex=DIR` writes their tables as LaTeX."""


def make(recorded: Recorded) -> list[Page]:
  """The pages in the order of the index, which is the first."""
  runs = list(recorded.runs.values())
  table_7, *figures = analysis.pages(recorded.analysis)
  of_paper = [
    latency.page(recorded.latency),
    glue.page(runs),
    text_generation.page('3', runs),
    gpt3.table_4(runs),
    ablations.table_5(runs),
    ablations.table_6(runs),
    table_7,
    text_generation.page('13', runs),
    text_generation.page('14', runs),
    gpt3.table_15(runs),
    ablations.table_16(runs),
    ablations.table_18(runs),
    *figures,
    *practical_claims.pages(recorded.claims, recorded.measured_plans),
    *counts.pages(recorded.counts),
  ]
  others = [*speed.pages(recorded.bench), *chaos.pages(recorded.chaos), all_runs.page(runs)]
  return [index([*of_paper, *others]), *of_paper, *others]


def index(pages: list[Page]) -> Page:
  """The page README.md."""
  rows = [
    {'page': f'[{page.title}]({page.name}.md)', 'ours': page.ours or NOT_RUN} for page in pages
  ]
  return Page('README', 'Results', '', [ABOUT, Table(rows, 'What was run of each:'), MORE])
