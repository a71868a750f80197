"""Units, entries and tables of toys; nothing is trained."""

import json

from experiments import _tables
from lora_jax.reproduce import order, states, timing, units
from lora_jax.reproduce.table import Table

MACHINE = timing.Machine('gpu', 1, 'toy')
TINY = units.Choice(model='fresh', seeds=2, tiny=True)


def entry(name, *, finished=False, seconds=60.0, runs=None, **fields):
  """The entry of one unit, with one run of its name."""
  state = states.State(finished, 'finished' if finished else 'to run', 0.0)
  left = {} if finished else {name: timing.Estimate(seconds, 'computed')}
  return order.Entry(units.Unit(name, name, **fields), runs or {}, {name: state}, left)


def table(workdir, kind='table', number='3', choice=TINY, given=None):
  """A table of toy runs in a folder."""
  searches = lambda: _tables.searches_in(workdir, choice.model)
  return Table(kind, number, choice, workdir, _tables.CONFIGS, given or {}, searches)


def finish(folder, config, score=0.5, seconds=30.0):
  """Writes what a finished run leaves, as far as a plan reads it."""
  folder.mkdir(parents=True, exist_ok=True)
  fields = json.loads(config.to_json_best_effort())
  (folder / 'config.json').write_text(json.dumps(fields))
  best = {'step': 1, 'dev/x': score}
  result = {
    **{name: fields[name] for name in ('experiment', 'preset', 'task', 'seed')},
    **{'model': fields['model']['name'], 'metric': 'dev/x', 'config': fields},
    **{'best': best, 'last': best, 'history': [best], 'seconds': {'training': seconds}},
  }
  (folder / 'result.json').write_text(json.dumps(result))
