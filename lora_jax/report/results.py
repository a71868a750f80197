"""`results/README.md` from the JSON in `results/runs`: no number in it is typed by hand."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_jax.report import analysis, comparison, counts, latency, plan, tables

HEADER = """# Results

Made by `python -m experiments.report` from the files in `results/runs`; do not edit. A run is
selected by its best epoch, as the paper does; the last one stands beside it. Means and sample
standard deviations are over seeds. Minutes and tokens/s are wall time of a machine that may have
had other work; speed is compared by `experiments.bench`, at the end.
"""
TEXTS = """Of the best epoch, on all distinct contexts of the split; in the paper's units (BLEU,
METEOR, ROUGE-L times 100). NIST is the challenge's. Seconds are those of decoding and compiling.
"""
SCORES = {
  'bleu': 'BLEU',
  'nist': 'NIST',
  'meteor': 'METEOR',
  'rouge_l': 'ROUGE-L',
  'cider': 'CIDEr',
  'ter': 'TER',
}
SCALES = {'bleu': 100, 'meteor': 100, 'rouge_l': 100}
Run = Mapping[str, Any]
LIMIT = 'data.limit'
GROUPED = ('task', 'model', 'method', 'preset', 'metric', 'device', 'cpu')


def read(folder: str | Path) -> dict[str, dict[str, Any]]:
  """The JSON files below a folder, by their path in it.

  Raises:
    ValueError: naming a file that is not JSON or has no `experiment`.
  """
  found = {}
  for path in sorted(Path(folder).rglob('*.json')):
    try:
      found[str(path.relative_to(folder))] = value = json.loads(path.read_text())
      value['experiment']
    except (ValueError, KeyError, TypeError) as error:
      raise ValueError(f'{path}: expected the JSON of a run or benchmark: {error!r}') from error
  return found


def pages(found: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
  """The pages by their file names: README.md, and of what was counted counts.md."""
  counted = [row for run in found.values() for row in run.get('counts', ())]
  texts = {'README.md': render(found)}
  if counted:
    texts['counts.md'] = counts.HEADER + '\n' + tables.table(counts.rows(counted))
  return texts


def render(found: Mapping[str, Mapping[str, Any]]) -> str:
  """The page README.md."""
  runs = [run for run in found.values() if 'history' in run]
  benches = {path: run for path, run in found.items() if run['experiment'] == 'bench'}
  parts = [HEADER, '## Runs\n', tables.table(run_rows(runs)) if runs else 'None yet.\n']
  if texts := text_rows(runs):
    parts += ['## Generated texts\n', TEXTS, tables.table(texts)]
  for title, rows, rates in comparison.sections(runs):
    parts += [f'## Methods: {title}\n', comparison.HEADER, tables.table(rows)]
    parts += ['### Rates\n', tables.table(rates)] if rates else []
  parts += analysis.sections(found)
  for path, run in found.items():
    if run['experiment'] == 'latency':
      parts += _latency(path, run)
  for path, bench in benches.items():
    parts.append(f'## Speed and size ({path})\n')
    parts.append(
      f'{bench["device"]} ({bench["cpu"]}), commit {bench["commit"][:10]}, median of '
      f'{bench["rounds"]} rounds; ratios are to the row that has 1, in one run.\n'
    )
    for title, rows in bench['measured'].items():
      parts.append(f'### {title}\n')
      parts.append(tables.table([{'': name, **_numbers(row)} for name, row in rows.items()]))
  if planned := plan.section(found):
    parts.append(planned)
  return '\n'.join(parts)


def _latency(path: str, run: Run) -> list[str]:
  """The section of a file of experiments.latency."""
  about = (
    f'{run["device"]} ({run["cpu"]}), commit {run["commit"][:10]}; {run["model"]} with '
    f'{run["layers"]} layers, {run["dtype"]}.'
  )
  parts = [f'## Latency of a forward pass ({path})\n', f'{about} {latency.about(run)}\n']
  if run['settings']:
    parts.append(tables.table(latency.rows(run['settings'])))
  if run['grid']:
    picture = Path('runs', path).with_suffix('.png')
    parts.append(f'![slow-down over batch, length and bottleneck]({picture.as_posix()})\n')
  return parts


def grouped(runs: Sequence[Run]) -> list[list[Run]]:
  """Runs in groups that differ in nothing but the seed."""
  groups: dict[str, list[Run]] = {}
  for run in runs:
    config = {key: value for key, value in run['config'].items() if key != 'seed'}
    key = json.dumps([[run[name] for name in GROUPED], config], sort_keys=True)
    groups.setdefault(key, []).append(run)
  return list(groups.values())


def run_rows(runs: Sequence[Run]) -> list[dict[str, str]]:
  """A row for each group of seeds."""
  rows = []
  groups = grouped(runs)
  for group in groups:
    first = group[0]
    metric = first['metric']
    best = [run['best'][metric] for run in group]
    rows.append(
      {
        'task': first['task'],
        'model': first['model'],
        'method': tables.method(first),
        'settings': _settings(first, [other[0] for other in groups]),
        'metric': metric,
        'best': tables.spread(best),
        'median': f'{statistics.median(best):.4f}',
        'last': tables.spread([run['last'][metric] for run in group]),
        'seeds': ', '.join(str(run['seed']) for run in group),
        'trained (without head)': _counts(first['parameters']),
        'minutes': f'{_mean(sum(run["seconds"].values()) for run in group) / 60:.1f}',
        'tokens/s': f'{_mean(run["tokens_per_second"] for run in group):,.0f}',
        'padding': f'{_mean(run["padding"] for run in group):.1%}',
        'device': f'{first["device"]} ({first["cpu"]})',
        'commit': ', '.join(dict.fromkeys(run['commit'][:10] for run in group)),
      }
    )
  return rows


def text_rows(runs: Sequence[Run]) -> list[dict[str, str]]:
  """A row for each group of seeds whose texts were decoded and scored, in the form of table 3."""
  rows = []
  groups = grouped([run for run in runs if 'generated' in run])
  for group in groups:
    first = group[0]['generated']
    decode = first['decode']
    scores = {
      title: [SCALES.get(name, 1) * run['generated']['scores'][name] for run in group]
      for name, title in SCORES.items()
      if all(name in run['generated']['scores'] for run in group)
    }
    rows.append(
      {
        'task': f'{group[0]["task"]} {first["split"]}',
        'model': group[0]['model'],
        'method': tables.method(group[0]),
        'settings': _settings(group[0], [other[0] for other in groups]),
        'trained': f'{group[0]["parameters"]["trainable"]:,}',
        **{
          title: tables.spread(scores[title], 2) if title in scores else '-'
          for title in SCORES.values()
        },
        'seeds': ', '.join(str(run['seed']) for run in group),
        'contexts': f'{first["contexts"]:,}',
        'decoding': f'{decode["strategy"]} {decode["beams"]}, p {decode["length_penalty"]}',
        'seconds': f'{_mean(run["generated"]["seconds"] for run in group):.0f}',
      }
    )
  return rows


def _numbers(row: Mapping[str, float]) -> dict[str, str]:
  return {
    name: f'{value:,}' if isinstance(value, int) else f'{value:.4g}' for name, value in row.items()
  }


def _counts(parameters: Mapping[str, int]) -> str:
  return f'{parameters["trainable"]:,} ({parameters["trainable_without_head"]:,})'


def _mean(values: Iterable[float]) -> float:
  return statistics.fmean(values)


def _settings(run: Run, others: Sequence[Run]) -> str:
  """What of the config tells the run from the other rows with the same task, model and method.

  And how many examples it was trained on, if not on all.
  """
  alike = [
    tables.leaves(other['config'])
    for other in others
    if [other[name] for name in GROUPED] == [run[name] for name in GROUPED]
    and tables.method(other) == tables.method(run)
  ]
  ours = tables.leaves(run['config'])
  return ', '.join(
    f'{key}={value}'
    for key, value in ours.items()
    if key != 'seed'
    and (any(other.get(key) != value for other in alike) or (key == LIMIT and value))
  )
