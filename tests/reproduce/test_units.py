"""A unit's configs are those that its command trains, and the user's fields reach all of them."""

import copy
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from experiments import _tables
from lora_jax.reproduce import own, units
from lora_jax.reproduce.units import Select, Unit
from lora_jax.sweep import overrides
from tests.reproduce.toys import TINY

CONFIGS = _tables.CONFIGS


def parsed(command, monkeypatch):
  """The config that a command's flags give, as experiments.train and sweep read it."""
  monkeypatch.setattr(sys, 'argv', ['command', *command])  # Where config_flags finds its fields.
  values = flags.FlagValues()
  config = config_flags.DEFINE_config_file('config', flag_values=values)
  values(['command', *(flag for flag in command if flag.startswith('--config'))])
  return config.value


def test_the_command_trains_the_config_of_the_plan(monkeypatch):
  given = {'data.limit': 40, 'model.dtype': 'bfloat16', 'data.dir': '/d'}
  fields = {'method.targets': ('.*/attention/(query|value)',), 'method.alpha': 8.0}
  arg = 'task=wikisql,method=lora,tiny=true'
  unit = Unit('a-1', 'a', config='gpt3', arg=arg, fields=fields, seed=1)
  folder = str(_tables._children.ROOT / 'configs')
  ((name, planned),) = units.runs_of(unit, CONFIGS, given).items()
  module, *flag = units.command_line(unit, {}, given, folder, 'runs/x')
  assert (module, name) == ('experiments.train', 'a-1') and '--workdir=runs/x/a-1' in flag
  assert parsed(flag, monkeypatch).to_dict() == planned.to_dict()
  start = units.command_line(unit._replace(starts_from='b-0'), {}, given, folder, 'runs/x')
  assert parsed(start[1:], monkeypatch).init_adapter == 'runs/x/b-0'


def test_the_sweep_of_a_plan_is_that_of_the_command(monkeypatch):
  (row,) = units.with_seeds(own.rows('table', '6', TINY, 'e2e'), 1)
  runs = units.runs_of(row, CONFIGS, {'data.limit': 40})
  folder = str(_tables._children.ROOT / 'configs')
  module, *flag = units.command_line(row, runs, {'data.limit': 40}, folder, 'w')
  config = parsed(flag, monkeypatch)
  assert module == 'experiments.sweep' and config.data.limit == 40
  assert {name.split('/')[0] for name in runs} == {row.name}
  trained = []
  for override in overrides.read_overrides(f'{folder}/{row.config}.py', row.arg):
    one = copy.deepcopy(config)
    one.update_from_flattened_dict(dict(override))
    trained.append(one.to_dict())
  assert trained == [one.to_dict() for one in runs.values()]


def test_an_analysis_reads_the_runs_of_its_ranks_and_seeds():
  rows = units.with_seeds(own.rows('table', '18', TINY, 'e2e'), 2)
  runs = {name: c for row in rows for name, c in units.runs_of(row, CONFIGS, {}).items()}
  unit = Unit('f', 'f', 'analyze', selects=(Select(2, 0), Select(2, 1)))
  command = units.command_line(unit, runs, {}, 'c', 'w')
  assert command[0] == 'experiments.analyze' and command[-1] == '--out=w/f'
  assert [runs[flag.removeprefix('--runs=w/')].method.rank for flag in command[1:3]] == [2, 2]
  assert 'seed-0' in command[1] and 'seed-1' in command[2]
  with pytest.raises(ValueError, match='no run of rank 3'):
    units.selected(unit._replace(selects=(Select(3, 0),)), runs)
  assert units.runs_of(unit, CONFIGS, {}) == {}


def test_fields_are_read_as_values_and_refused_by_name():
  texts = ['data.limit=40', 'model.dtype=bfloat16', 'data.stop=a=b']
  assert units.parse_fields(texts) == {
    'data.limit': 40, 'model.dtype': 'bfloat16', 'data.stop': 'a=b',
  }  # fmt: skip
  with pytest.raises(ValueError, match='expected field=value'):
    units.parse_fields(['data.limit'])
  row = Unit('a', 'a', config='e2e', arg='tiny=true')
  for given, message in (
    ({'data.limt': 3}, "no field 'data.limt'.*'data.limit'"),
    ({'limit': 3}, "no field 'limit'"),
    ({'sed': 3}, "no field 'sed'.*'seed'"),
    ({'train.epochs.count': 3}, "no field 'train.epochs.count'.*Known: none"),
    ({'task.name': 'e2e'}, "no field 'task.name'.*Known: none"),
    ({'data.limit': 'many'}, 'config.data.limit'),
  ):
    with pytest.raises(ValueError, match=message):
      units.runs_of(row, CONFIGS, given)


def test_a_field_that_the_table_sets_itself_cannot_be_given():
  (row,) = units.with_seeds(own.rows('table', '6', TINY, 'e2e'), 1)
  with pytest.raises(ValueError, match=r'--set=method\.rank: the runs of'):
    units.runs_of(row, CONFIGS, {'method.rank': 3})


def test_all_rows_have_one_seed_before_the_next():
  rows = [Unit('a-{seed}', 'a'), Unit('b', 'b', why_not='quoted'), Unit('c-{seed}', 'c', part='p')]
  made = units.with_seeds(rows, 2)
  assert [unit.name for unit in made] == ['a-0', 'b', 'c-0', 'a-1', 'c-1']
  assert [unit.part for unit in made] == ['a-0', 'b', 'p', 'a-1', 'p']
