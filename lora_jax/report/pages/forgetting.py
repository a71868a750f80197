"""The page of forgetting: what runs lose of general text while they learn their task."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

from lora_jax.report import charts, runs, scores
from lora_jax.report.document import Page, Table
from lora_jax.result_schema import GeneralText, RunResult

ABOUT = """Loss on held-out text that is of no task (WikiText-2's dev set, nats a token), of the
base before the first update, and at the epoch that is best on the task. Its rise is what a run
forgets of its base. The paper's tables do not show it; runs with `config.eval.general_text` do.
Means ± sample standard deviations over seeds. In the picture a line joins the rates of a method,
and what is further down and to the left is better on both."""
DIGITS = 3
RATE = 'optim.lr='


def pages(found: Sequence[RunResult]) -> list[Page]:
  """The page, if there are runs that measured general text."""
  groups = runs.by_seed([run for run in found if 'general_text' in run])
  firsts = [group[0] for group in groups]
  settings = {id(first): _settings(first, firsts) for first in firsts}
  order = lambda group: (
    *(group[0]['task'], runs.model_name(group[0]), charts.order(group[0]['method'])),
    *(settings[id(group[0])], runs.rate(group[0])),
  )
  shared = set.intersection(*(set(_parts(text)) for text in settings.values())) if groups else set()
  rows = []
  panels: dict[str, charts.Panel] = {}
  for _, line in itertools.groupby(sorted(groups, key=order), lambda group: order(group)[:-1]):
    own = list(line)
    for group in own:
      rows.append(_row(group, settings[id(group[0])]))
    first = own[0][0]
    name = runs.method_name(first).replace(first['method'], charts.method(first['method']).name, 1)
    label = ', '.join([name, *(part for part in _parts(settings[id(first)]) if part not in shared)])
    panel = panels.setdefault(f'{first["task"]}, {runs.model_name(first)}', _panel(first))
    means = [statistics.fmean(scores.best(group)) for group in own]
    series = charts.Series(label, means, list(map(_change, own)), method=first['method'])
    panels[panel.title] = panel._replace(series=[*panel.series, series])
  if not rows:
    return []
  alt = 'rise of the loss on general text by the score'
  picture = charts.chart('forgetting', alt, list(panels.values()))
  title = 'Forgetting: general text before and after'
  return [Page('forgetting', title, '; '.join(panels), [Table(rows, ABOUT), picture])]


def _panel(run: RunResult) -> charts.Panel:
  """The axes of a task on a model; a quantized base is another one, so losses are of their own."""
  title = f'{run["task"]}, {runs.model_name(run)}'
  y = 'rise of the loss on general text, nats'
  return charts.Panel(title, scores.unit(run['metric']), y, [], line=('the base', 0.0))


def _row(group: Sequence[RunResult], settings: str) -> dict[str, str]:
  """The row of the seeds of one setting."""
  first, texts = group[0], _texts(group)
  return {
    'task': first['task'],
    'model': runs.model_name(first),
    'method': runs.method_name(first),
    'settings': settings,
    'rate': f'{runs.rate(first):g}',
    'trained (without head)': runs.parameters(first['parameters']),
    'metric': scores.unit(first['metric']),
    'score': scores.entry(group),
    'general text, base': scores.spread([text['start'] for text in texts], DIGITS),
    'adapted': scores.spread([text['best'] for text in texts], DIGITS),
    'change': f'{_change(group):+.{DIGITS}f}',
    'seeds': runs.seeds(group),
  }


def _change(group: Sequence[RunResult]) -> float:
  """The mean rise of the loss on general text."""
  return statistics.fmean(text['best'] - text['start'] for text in _texts(group))


def _texts(group: Sequence[RunResult]) -> list[GeneralText]:
  return [run['general_text'] for run in group if 'general_text' in run]


def _settings(run: RunResult, others: Sequence[RunResult]) -> str:
  """What tells a run from others, but for its rate, which has a column."""
  found = _parts(runs.settings(run, others))
  return ', '.join(part for part in found if not part.startswith(RATE))


def _parts(settings: str) -> list[str]:
  return settings.split(', ') if settings else []
