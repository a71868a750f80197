"""All pages of the results, and the index of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lora_jax.analysis_schema import Analysis
from lora_jax.report import runs, scores
from lora_jax.report.document import Block, Page, Table
from lora_jax.report.findings import FAILS, HOLDS, Finding, Findings
from lora_jax.report.pages import (
  ablations,
  all_runs,
  analysis,
  chaos,
  counts,
  forgetting,
  glue,
  gpt3,
  intrinsic,
  latency,
  practical_claims,
  rates,
  speed,
  text_generation,
  weak_base,
)
from lora_jax.report.runs import Recorded
from lora_jax.result_schema import RunResult

FINDINGS = """What the paper (arXiv 2106.09685 v2) found, what was found here, and whether the two
agree. Each sentence is checked against the numbers of its page when the pages are made."""
UNMEASURED = """What nothing was measured of yet, and the command that fills its page (on another
base with `--model=DIR`):"""
RUNS = """Each row is the runs that differ in nothing but the seed, at the best of the rates that
were tried: the score of their best epochs, mean ± sample standard deviation. At chance: no more
than one prediction for all examples, within the spread."""
MORE = """`python -m experiments.report --add=runs/NAME` adds a finished run, sweep or analysis and
writes the pages; `--latex=DIR` writes their tables as LaTeX."""
MORE_HERE = MORE.replace('report --add', 'report --folder=results --add')  # These pages' folder.


def make(recorded: Recorded, findings: Findings | None = None) -> list[Page]:
  """The pages in the order of the index, which is the first; only those that hold a measurement.

  Args:
    recorded: the files of results.
    findings: what was found, where it was written down; the index is of the runs otherwise.
  """
  known = findings or Findings()
  every = [known.published_name(run) for run in recorded.runs.values()]
  diverged = [known.published_name(run) for run in recorded.diverged.values()]
  analyzed: dict[str, Analysis] = {
    name: {**one, 'runs': [known.published_name(run) for run in one['runs']]}
    for name, one in recorded.analysis.items()
  }
  found = [run for run in every if runs.model_name(run) not in known.weak_bases]
  weak = [run for run in every if runs.model_name(run) in known.weak_bases]
  levels = scores.constants(recorded.baselines.values())
  systems: Mapping[str, text_generation.Systems] = {
    task: of_task for one in recorded.baselines.values() for task, of_task in one['systems'].items()
  }
  texts = lambda number: text_generation.page(
    number, found, systems.get(text_generation.TABLES[number].task, {})
  )
  table_7, *figures = analysis.pages(analyzed)
  of_paper = [
    latency.page(recorded.latency),
    glue.page(found, levels),
    texts('3'),
    gpt3.table_4(found),
    ablations.table_5(found, levels),
    ablations.table_6(found, levels),
    table_7,
    texts('13'),
    texts('14'),
    gpt3.table_15(found, levels),
    ablations.table_16(found, levels),
    ablations.table_18(found),
    *figures,
    *practical_claims.pages(recorded.claims, recorded.measured_plans),
    *counts.pages(recorded.counts),
  ]
  others = [
    *rates.pages(found, diverged),
    *intrinsic.pages(found, diverged, levels),
    *forgetting.pages(every),
    *weak_base.pages(weak),
    *speed.pages(recorded.bench),
    *chaos.pages(recorded.chaos),
    all_runs.page(every, diverged),
  ]
  made = [_with(known.of_page(page.name), page) for page in (*of_paper, *others) if page.ours]
  unmeasured = [page for page in of_paper if not page.ours]
  if findings:
    return [of_findings(made, unmeasured, findings), *made]
  first = of_runs(made, every, levels)
  return [first, *made]


def of_findings(made: Sequence[Page], unmeasured: Sequence[Page], findings: Findings) -> Page:
  """The index by what was found."""
  rows = [
    {
      'page': f'[{page.title}]({page.name}.md)',
      'the paper': finding.paper or ('the same' if finding.verdict else '-'),
      'here': finding.text,
      'verdict': finding.verdict or ('not measured' if finding.paper else '-'),
    }
    for page in made
    for finding in findings.of_page(page.name)
  ]
  about = f'{FINDINGS} {_held(findings.all)}'
  blocks: list[Block] = [Table(rows, about)] if rows else [about]
  if unmeasured:
    flag = 'python -m experiments.reproduce --{} --data_dir=DIR'
    lines = [f'- {page.title}: `{flag.format(page.number)}`' for page in unmeasured]
    blocks += ['### Not measured', UNMEASURED, '\n'.join(lines)]
  named = {page.name for page in made if findings.of_page(page.name)}
  if rest := [f'[{page.title}]({page.name}.md)' for page in made if page.name not in named]:
    blocks.append(f'Other pages: {", ".join(rest)}.')
  return Page('README', 'Results', '', [*blocks, MORE_HERE])


def _held(findings: Sequence[Finding]) -> str:
  """How many of the paper's findings hold, each counted once: by the first model it was tried on.

  A verdict without a statement of the paper is on the statement above it, on another model.
  """
  first = [finding.verdict for finding in findings if finding.paper]
  again = [finding.verdict for finding in findings if not finding.paper and finding.verdict]
  counts = lambda verdicts: f'{verdicts.count(HOLDS)} hold, {verdicts.count(FAILS)} do not'
  text = f"Of the paper's findings below, on the model that stands first, {counts(first)}."
  return (
    f'{text} Of the {len(again)} with a verdict on a second model, {counts(again)}.'
    if again
    else text
  )


def of_runs(made: Sequence[Page], found: Sequence[RunResult], levels: scores.Levels) -> Page:
  """The index by runs: method, score, spread, parameters."""
  blocks: list[Block] = [Table(run_rows(found, levels), f'{RUNS} {scores.BOLD}')] if found else []
  lines = [f'- [{page.title}]({page.name}.md): {page.ours}' for page in made]
  return Page('README', 'Results', '', [*blocks, '### Pages', '\n'.join(lines), MORE])


def run_rows(found: Sequence[RunResult], levels: scores.Levels) -> list[dict[str, str]]:
  """A row for each method on each model and task at its best rate, methods in their order.

  A score is of the seeds that ended; how many diverged at its rate is said beside it.
  """
  rows = []
  by_task: dict[tuple[str, str, str], list[RunResult]] = {}
  for run in found:
    by_task.setdefault((run['task'], runs.model_name(run), run['metric']), []).append(run)
  for (task, model, metric), own in by_task.items():
    groups = text_generation.chosen(own)
    firsts = [group[0] for group in groups]
    texts = [scores.entry(group, levels) for group in groups]
    # The best of those that were evaluated on the same rows.
    for rows_of in dict.fromkeys(map(runs.evaluated_on, firsts)):
      places = [i for i, first in enumerate(firsts) if runs.evaluated_on(first) == rows_of]
      values = [scores.best(groups[i]) for i in places]
      for i, text in zip(places, scores.bold([texts[i] for i in places], values, metric)):
        texts[i] = text
    for group, text in zip(groups, texts, strict=True):
      decoded = text_generation.values_of(group, text_generation.E2E['BLEU'])
      rows.append(
        {
          'task': task,
          'model': model,
          'method': runs.method_name(group[0]),
          'settings': runs.settings(group[0], firsts),
          'metric': scores.unit(metric),
          'score': text,
          'BLEU of test': scores.spread(decoded, 1) if decoded else '-',
          'seeds': runs.seeds(group),
          'trained (without head)': runs.parameters(group[0]['parameters']),
        }
      )
  return rows


def _with(findings: Sequence[Finding], page: Page) -> Page:
  """A page that begins with its findings."""
  said: list[Block] = []
  for finding in findings:
    paper = f' **The paper:** {finding.paper}' if finding.paper else ''
    verdict = f' **Here that {finding.verdict}.**' if finding.verdict else ''
    said.append(f'> **Found here:** {finding.text}{paper}{verdict}')
  return page._replace(blocks=[*said, *page.blocks])
