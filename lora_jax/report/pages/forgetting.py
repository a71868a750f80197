"""The page of forgetting: what runs lose of general text while they learn their task."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from lora_jax.report import runs, scores
from lora_jax.report.document import Page, Table
from lora_jax.result_schema import RunResult

ABOUT = """Loss on held-out text that is of no task (WikiText-2's dev set, nats a token), of the
base before the first update, and at the epoch that is best on the task. Its rise is what a run
forgets of its base. The paper's tables do not show it; runs with `config.eval.general_text` do.
Means ± sample standard deviations over seeds."""
DIGITS = 3


def pages(found: Sequence[RunResult]) -> list[Page]:
  """The page, if there are runs that measured general text."""
  groups = runs.by_seed([run for run in found if 'general_text' in run])
  rows = []
  for group in groups:
    first = group[0]
    texts = [run['general_text'] for run in group if 'general_text' in run]
    change = statistics.fmean(text['best'] - text['start'] for text in texts)
    rows.append(
      {
        'task': first['task'],
        'model': runs.model_name(first),
        'method': runs.method_name(first),
        'settings': runs.settings(first, [other[0] for other in groups]),
        'rate': f'{runs.rate(first):g}',
        'trained (without head)': runs.parameters(first['parameters']),
        'metric': scores.unit(first['metric']),
        'score': scores.entry(group),
        'general text, base': scores.spread([text['start'] for text in texts], DIGITS),
        'adapted': scores.spread([text['best'] for text in texts], DIGITS),
        'change': f'{change:+.{DIGITS}f}',
        'seeds': runs.seeds(group),
      }
    )
  state = '; '.join(dict.fromkeys(f'{row["task"]}, {row["model"]}' for row in rows))
  title = 'Forgetting: general text before and after'
  return [Page('forgetting', title, state, [Table(rows, ABOUT)])] if rows else []
