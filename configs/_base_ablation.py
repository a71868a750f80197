"""What the ablations share: the config of a task with LoRA, of which a sweep changes some fields.

Their argument: `task` (one of glue.TASKS, or e2e), `model` and `preset` as the task's own config
takes them (the default model is that config's), `seeds` (how many, from 0 up), `seed` (this one
alone, or some: `1+2`), `tiny`.
"""

from collections.abc import Iterator, Mapping, Sequence

from ml_collections import config_dict

from configs import _base, e2e, glue

TASKS = (*glue.TASKS, 'e2e')
OF_THE_PAPER = ('paper', 'script', 'adapter_setup')  # Presets with settings of LoRA alone.


def parse(arg: str | None, paths: Sequence[str] = (), **defaults: str) -> dict[str, str]:
  """The argument's values over the defaults, which may add keys (`paths`: those of folders).

  Raises:
    ValueError: on an unknown key or task, with the nearest names; on a number of seeds that is not
      a positive integer, or seeds that are not numbers.
  """
  common = dict(task='mrpc', model='', preset='', seeds='3', seed='', tiny='false')
  args = _base.parse_arg(arg, paths=('model', *paths), **common | defaults)
  _base.check('task', args['task'], TASKS)
  if not args['seeds'].isdecimal() or args['seeds'] == '0':
    raise ValueError(
      f'seeds={args["seeds"]!r}: expected the number of seeds, from 1 up (seed=1+2 names them)'
    )
  if args['seed'] and not all(text.isdecimal() for text in args['seed'].split('+')):
    raise ValueError(f'seed={args["seed"]!r}: expected one seed, a number from 0 up, or some: 1+2')
  return args


def seeded(args: Mapping[str, str], runs: Sequence[_base.Overrides]) -> Iterator[_base.Overrides]:
  """The overrides of each run with each of the seeds that the argument asks for."""
  if not args['seed']:
    yield from _base.seeded(int(args['seeds']), runs)
  for seed in filter(None, args['seed'].split('+')):
    for run in runs:
      yield {**run, 'seed': int(seed)}


def get_config(
  args: Mapping[str, str], experiment: str, paper_table: str = '', method: str = 'lora'
) -> config_dict.ConfigDict:
  """The locked config of a task with a method, named after the ablation.

  Args:
    args: the result of `parse`.
    experiment: the config file's name.
    method: one of _base.METHODS.
    paper_table: the paper's table if these runs are of its model, which GPT-2 on E2E may be; of
      GPT-3, whose weights are not published, the tables have only the form.

  Raises:
    ValueError: on an unknown preset or model; if the preset has no settings of the method.
  """
  module = e2e if args['task'] == 'e2e' else glue
  keys = ('task', *(key for key in ('model', 'preset') if args[key]), 'tiny')
  text = ','.join(f'{key}={args[key]}' for key in keys)
  config = module.get_config(f'{text},method={method}')
  with config.unlocked():
    config.experiment = experiment
    config.paper_table = paper_table
  return config.lock()


def methods(args: Mapping[str, str], known: Sequence[str]) -> Sequence[str]:
  """The methods that `methods=` names; by default all that the preset has settings of.

  Args:
    args: the result of `parse`, with a key `methods`.
    known: the methods of a table, lora among them.
  """
  if args['methods']:
    return args['methods'].split('+')
  return ('lora',) if get_config(args, '').preset in OF_THE_PAPER else known
