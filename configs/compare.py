r"""Eight methods side by side on a task of GLUE, each at the best of its rates (table 2's form).

Two sweeps: the first tries every rate of every method with one seed; the second trains the other
seeds, each method at the rate that was best in the first one's folder. Runs that are there are not
repeated. Another task can take its rates from the same folder without a first sweep of its own, but
a rate that is best on one task may fail on the next (results/table-2.md, which has the scores of
these sweeps). `experiments.reproduce --table=2 --model=path/to/encoder` does it for LoRA, full
fine-tuning, BitFit and Adapter-H, or for those of `--methods`, on all tasks or those of `--tasks`,
and tries further rates where the best one lies on the edge of those tried (`next_rate`). By hand:

  python -m experiments.sweep --workdir=runs/compare-rates --config.data.dir=DIR \
      --config=configs/compare.py:task=stsb,model=path/to/encoder,seeds=1
  python -m experiments.sweep --workdir=runs/compare-stsb --config.data.dir=DIR \
      --config=configs/compare.py:task=stsb,model=path/to/encoder,rates=runs/compare-rates
  python -m experiments.report --add=runs/compare-rates --add=runs/compare-stsb

Argument, beside that of configs/_base_ablation.py:

  rates    a folder of finished runs, or the `runs` of a report, which holds what was kept of them;
           without it, a sweep tries all of _base.RATES
  lr       rates to train at in their place (1e-3+3e-3)
  methods  some of the methods (lora+full)
  prefix   tokens that prefix_embed and prefix_layer put before the input; by default as many as
           give LoRA's number of parameters, for prefix_embed more than most sentences have
"""

import json
import math
import pathlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import config_dict

from configs import _base, _base_ablation

KIND = ('glue', 'compare')  # Experiment and preset of these runs.
FAILED = 'failed.json'  # What a run that diverged leaves in the place of result.json.
TRIES = 5  # Rates that are tried of every method and task.
MOST = 8  # Where the best one still lies on the edge of those tried, up to so many.


class Finished(NamedTuple):
  """What a comparison needs of a finished run.

  Attributes:
    section: the `method` section of its config, as JSON has it.
    score: of its best epoch, higher being better; -inf of a run that diverged.
  """

  task: str
  seed: int
  lr: float
  section: dict[str, object]
  score: float


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config that all runs of a comparison share.

  Raises:
    ValueError: on an unknown key, task, model or method, with the nearest names.
  """
  return _base_ablation.get_config(_parse(arg), 'glue')


def sweep(arg: str | None = None) -> Iterator[_base.Overrides]:
  """The overrides of each run: methods by rates by seeds.

  Raises:
    FileNotFoundError: if `rates` is not a folder.
    ValueError: if `rates` holds no finished run of one of the methods.
  """
  args = _parse(arg)
  finished = read_finished(args['rates'], args['model']) if args['rates'] else []
  for method in args['methods'].split('+'):
    section = section_of(method, args['prefix'])
    # The sizes have to be equal too: another prefix is another method.
    own = [run for run in finished if run.section == json.loads(json.dumps(section))]
    rates: Sequence[float] = _base.RATES[method]
    if args['lr']:
      rates = _base.numbers('lr', args['lr'])
    elif args['rates']:
      if not own:
        raise ValueError(
          f'rates={args["rates"]}: nothing there is a finished run of {section}. Run the same '
          'command without rates= and with seeds=1 first, its --workdir that folder'
        )
      rates = (best_rate([run for run in own if run.task == args['task']] or own),)
    done = {(run.task, run.seed, run.lr) for run in own}
    runs = [{'method': section, 'optim.lr': lr} for lr in rates]
    for run in _base_ablation.seeded(args, runs):
      if (args['task'], run['seed'], run['optim.lr']) not in done:
        yield {'method': section, 'seed': run['seed'], 'optim.lr': run['optim.lr']}


def section_of(method: str, prefix: str = '') -> dict[str, object]:
  """The `method` section of a method in a comparison; `prefix` as in the argument."""
  section = _base.method(method, _base.lora(rank=8, alpha=16))
  if prefix and 'prefix' in section:
    section['prefix'] = int(prefix)
  return section


def next_rate(scores: Mapping[float, float], grid: Sequence[float]) -> float | None:
  """The rate to try next; None when the search is over.

  After the grid, where the best rate lies on the edge of those tried, the next one lies beyond it,
  as far as the neighbor on the other side; elsewhere, until `TRIES` are tried, it lies between the
  best rate and the better of its neighbors.

  Args:
    scores: of the rates tried, higher being better.
    grid: rates that are tried at first.
  """
  if missing := [rate for rate in grid if rate not in scores]:
    return missing[0]
  rates = sorted(scores)
  place = rates.index(max(rates, key=lambda rate: scores[rate]))
  best, inside = rates[place], 0 < place < len(rates) - 1
  if len(rates) < 2 or len(rates) >= (TRIES if inside else MOST):
    return None
  if inside:
    other = max(rates[place - 1], rates[place + 1], key=lambda rate: scores[rate])
    return float(f'{math.sqrt(best * other):.1e}')
  return float(f'{best * best / rates[1 if place == 0 else -2]:.0e}')


def read_finished(folder: str, model: str) -> list[Finished]:
  """The finished runs of a comparison in a folder: run directories, or what the report has kept.

  Args:
    folder: the folder; beside the runs may lie those of other experiments, and other JSON files.
    model: the model of the runs, by the last part of its name or folder; '' is any model.

  Raises:
    FileNotFoundError: if there is no such folder.
    ValueError: naming a file that is not valid JSON.
  """
  if not pathlib.Path(folder).is_dir():
    raise FileNotFoundError(f'rates={folder}: expected a folder of finished runs')
  found = []
  places = ('*/result.json', '*/*/result.json', f'*/{FAILED}', f'*/*/{FAILED}', '*.json')
  for path in (path for place in places for path in sorted(pathlib.Path(folder).glob(place))):
    run = _read(path)
    if (run.get('experiment'), run.get('preset')) != KIND:
      continue
    if not model or _base.last_part(run['model']) == _base.last_part(model):
      config, score = run['config'], float(run['best'][run['metric']])
      if math.isfinite(score) or path.name == FAILED:
        lr, section = config['optim']['lr'], config['method']
        found.append(Finished(run['task'], run['seed'], lr, section, score))
  return found


def _read(path: pathlib.Path) -> dict[str, Any]:
  """The JSON of a finished run; of one that diverged its config, with the worst score."""
  try:
    if path.name != FAILED:
      return json.loads(path.read_text(encoding='utf-8'))
    config = json.loads(path.with_name('config.json').read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(f'{path} is not valid JSON: {error}. Remove it or run it again.') from error
  names = ('experiment', 'preset', 'task', 'seed')
  found = {name: config[name] for name in names} | {'model': config['model']['name']}
  return found | {'config': config, 'metric': 'loss', 'best': {'loss': -math.inf}}


def best_rate(runs: Sequence[Finished]) -> float:
  """The rate with the best mean score, over the tasks and seeds that all rates were tried on."""
  scores: dict[float, dict[tuple[str, int], float]] = {}
  for run in runs:
    scores.setdefault(run.lr, {})[run.task, run.seed] = run.score
  shared = set.intersection(*map(set, scores.values()))

  def mean(of: Mapping[tuple[str, int], float]) -> float:
    return statistics.fmean(score for key, score in of.items() if key in (shared or of))

  return max(scores, key=lambda rate: mean(scores[rate]))


def _parse(arg: str | None) -> dict[str, str]:
  methods = '+'.join(_base.RATES)
  args = _base_ablation.parse(
    arg, paths=('rates',), preset='compare', rates='', lr='', prefix='', methods=methods
  )
  _base.check('preset of a comparison', args['preset'], ('compare',))
  for method in args['methods'].split('+'):
    _base.check('method of a comparison', method, _base.RATES)
  if args['prefix'] and not args['prefix'].isdecimal():
    raise ValueError(f'prefix={args["prefix"]!r}: expected a number of tokens')
  _base.numbers('lr', args['lr'])
  return args
