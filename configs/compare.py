r"""Eight methods side by side on a task of GLUE, each at the best of its rates (table 2's form).

First the rates, of all methods with one seed; then the seeds, each method at the rate that was the
best in the first folder, whose runs are not repeated. Another task can take its rates from there,
without its own; but what is best on one may fail on the next (results/table-2.md):

  python -m experiments.sweep --workdir=runs/compare-rates --config.data.dir=DIR \
      --config=configs/compare.py:task=stsb,model=path/to/encoder,seeds=1
  python -m experiments.sweep --workdir=runs/compare-stsb --config.data.dir=DIR \
      --config=configs/compare.py:task=stsb,model=path/to/encoder,rates=runs/compare-rates
  python -m experiments.report --add=runs/compare-rates --add=runs/compare-stsb

Argument: `rates`, a folder of finished runs, or `results/runs`, what the report has kept of them
(without it, all of base_glue.RATES); `methods`, some of them (`lora+full`); `prefix`, tokens that
prefix_embed and prefix_layer put before the input (by default as many as make LoRA's number of
parameters, for prefix_embed more than most sentences have); those of configs/base_ablation.py.
"""

import json
import pathlib
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import config_dict

from configs import base, base_ablation, base_glue

KIND = ('glue', 'compare')  # Experiment and preset of these runs.


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config of all runs of a comparison, but for what `sweep` yields.

  Raises:
    ValueError: on an unknown key, task, model or method, with the nearest names.
  """
  return base_ablation.get_config(_parse(arg), 'glue', cell='')


def sweep(arg: str | None = None) -> Iterator[Mapping[str, Any]]:
  """Overrides of each run: methods by rates by seeds.

  Raises:
    ValueError: if `rates` holds no finished run of one of the methods.
  """
  args = _parse(arg)
  done = _finished(args['rates'], args['model']) if args['rates'] else []
  for method in args['methods'].split('+'):
    rates = base_glue.RATES[method]
    section = base.method(method, base.lora(rank=8, alpha=16))
    if args['prefix'] and 'prefix' in section:
      section['prefix'] = int(args['prefix'])
    # Of equal sizes too: another prefix is another method.
    own = [run for run in done if run['config']['method'] == json.loads(json.dumps(section))]
    if args['rates']:
      here = [run for run in own if run['task'] == args['task']]
      rates = (_best(section, here or own, args['rates']),)
    for run in base.runs(range(int(args['seeds'])), rates):
      if (args['task'], run['seed'], run['optim.lr']) not in map(_key, own):
        yield {'method': section, **run}


def _parse(arg: str | None) -> dict[str, Any]:
  every = '+'.join(base_glue.RATES)
  args = base_ablation.parse(
    arg, paths=('rates',), preset='compare', rates='', prefix='', methods=every
  )
  base.check('preset of a comparison', args['preset'], ('compare',))
  for method in args['methods'].split('+'):
    base.check('method of a comparison', method, base_glue.RATES)
  if args['prefix'] and not args['prefix'].isdecimal():
    raise ValueError(f'prefix={args["prefix"]!r}: how many tokens')
  return args


def _finished(folder: str, model: str) -> list[dict[str, Any]]:
  """The results of a model's run directories in a folder, or that the report has kept in it."""
  paths = [path for kind in ('*/result.json', '*.json') for path in pathlib.Path(folder).glob(kind)]
  found = [json.loads(path.read_text()) for path in paths]
  # Beside them may lie runs of other experiments, and what is no run.
  runs = [one for one in found if (one.get('experiment'), one.get('preset')) == KIND]
  name = lambda model: pathlib.PurePath(model).name
  return [run for run in runs if not model or name(run['model']) == name(model)]


def _key(run: Mapping[str, Any]) -> tuple[str, int, float]:
  return run['task'], run['seed'], run['config']['optim']['lr']


def _best(section: Mapping[str, Any], runs: list[dict[str, Any]], folder: str) -> float:
  """The rate with the best mean score, on what all rates were tried on.

  Raises:
    ValueError: if there is no run.
  """
  scores: dict[float, dict[tuple[str, int], float]] = {}
  for run in runs:
    task, seed, rate = _key(run)
    scores.setdefault(rate, {})[task, seed] = run['best'][run['metric']]
  if not scores:
    raise ValueError(
      f'rates={folder}: nothing there is a finished run of {section}. Run the same '
      'command without rates= and with seeds=1 first, its --workdir that folder'
    )
  shared = set.intersection(*map(set, scores.values()))
  mean = lambda of: statistics.fmean(score for key, score in of.items() if key in (shared or of))
  return max(scores, key=lambda rate: mean(scores[rate]))
