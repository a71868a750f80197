"""What the ablations share: a config of a task with LoRA, of which a sweep changes some fields.

Their argument: `task` (one of glue.TASKS, or e2e), `model` and `preset` as the task's own config
takes them, `seeds` (how many, from 0 up), `tiny`. A model that is left out is the task's own.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import config_dict

from configs import base, e2e, glue

TASKS = (*glue.TASKS, 'e2e')
# The paper's matrices, by the names that all models here use.
MATRICES = {
  'q': ('query',),
  'k': ('key',),
  'v': ('value',),
  'o': ('output',),
  'qk': ('query', 'key'),
  'qv': ('query', 'value'),
  'qkvo': ('query', 'key', 'value', 'output'),
}


def parse(arg: str | None, paths: Sequence[str] = (), **defaults: Any) -> dict[str, Any]:
  """The argument's values over the defaults, which may add keys (of them `paths`); checked.

  Raises:
    ValueError: on an unknown key or task, with the nearest names, or a number that is none.
  """
  common = dict(task='mrpc', model='', preset='', seeds='3', tiny=False)
  args = base.parse_arg(arg, paths=('model', *paths), **common | defaults)
  base.check('task', args['task'], TASKS)
  if not args['seeds'].isdecimal() or args['seeds'] == '0':
    raise ValueError(f'seeds={args["seeds"]!r}: how many, from 1 up')
  return args


def get_config(args: Mapping[str, Any], experiment: str, cell: str) -> config_dict.ConfigDict:
  """The locked config of a task with LoRA, named after the ablation.

  Args:
    args: of `parse`.
    experiment: the config file's name.
    cell: the paper's table, of which these runs have the form and not the model: GPT-3 is not to be
      had, so only GPT-2 on E2E may be the very cell. '' where it is another model's.
  """
  module = e2e if args['task'] == 'e2e' else glue
  given = {key: args[key] for key in ('model', 'preset') if args[key]}
  text = ','.join(f'{key}={value}' for key, value in {'task': args['task'], **given}.items())
  config = module.get_config(f'{text},method=lora,tiny={args["tiny"]}')
  with config.unlocked():
    config.experiment = experiment
    config.cell = cell
  return config.lock()


def targets(matrices: str) -> dict[str, Any]:
  """The override that adapts these matrices of every attention (a key of MATRICES)."""
  names = MATRICES[matrices]
  chosen = names[0] if len(names) == 1 else f'({"|".join(names)})'
  # An encoder's MLP has an `output` as well, which the paper does not adapt.
  return {'method.targets': (f'.*/attention/{chosen}',)}


def seeded(args: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> Iterator[Mapping]:
  """Each of the overrides with each seed."""
  for seed in range(int(args['seeds'])):
    for run in runs:
      yield {**run, 'seed': seed}
