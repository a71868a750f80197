"""What `--help` and `--help_config` print of a command."""

from __future__ import annotations

import inspect
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator

from absl import flags

from lora_jax import fields

# A value for each flag whose default shows none, the same in all commands that have it.
EXAMPLES = {
  'adapter': 'out/mrpc',
  'adapters': 'mrpc=out/mrpc',
  'add': 'runs/mrpc',
  'alpha': '16',
  'base': 'roberta-base',
  'base_name': 'roberta-base',
  'budget_minutes': '60',
  'config': 'glue:task=mrpc,model=roberta-base',
  'coordinator': '10.0.0.1:1234',
  'data_dir': 'data',
  'decode': 'beams=4',
  'dropout': '0.1',
  'dtype': 'bfloat16',
  'figure': '3',
  'folder': 'runs/report',
  'largest_batch': 'true',
  'latex': 'paper/tables',
  'layers': '0,11',
  'matrices': 'query,value',
  'methods': 'lora,full',
  'metrics': 'bleu,nist',
  'model': 'roberta-base',
  'name': 'smollm2-135m',
  'num_processes': '2',
  'out': 'out/mrpc',
  'paper': 'pissa',
  'peer_python': 'venv/bin/python',
  'predictions': 'texts.txt',
  'process_id': '0',
  'push': 'user/mrpc',
  'rank': '8',
  'references': 'references.txt',
  'requests': 'requests.jsonl',
  'runs': 'runs/mrpc',
  'sections': 'rte',
  'seeds': '3',
  'set': 'model.dtype=bfloat16',
  'shapes': 'roberta-base:32x128',
  'shard': '0/2',
  'split': 'test',
  'table': '3',
  'task': 'e2e',
  'tasks': 'rte',
  'tokenizer': 'models/smollm2',
  'topology': 'v5e:4x4',
  'train_flags': '--config.train.epochs=1',
  'workdir': 'runs/mrpc',
}
# Commands differ in what these take: a command's own default is the example, where it has one.
OWN = ('dtype', 'methods', 'model', 'out', 'tasks', 'workdir')
OFTEN = ('config', 'workdir', 'runs', 'table', 'task')  # These stand first.


def command(documentation: str) -> str:
  """The documentation of a command and its flags, the most used ones first, with an example each.

  Args:
    documentation: that of its module; its first line says what the command does.
  """
  known = flags.FLAGS
  own = [known[flag.name] for flag in known.get_flags_for_module(sys.argv[0])]
  if 'config' in known and known['config'] not in own:
    own.append(known['config'])  # It is registered by the library that reads config files.
  own.sort(key=lambda flag: OFTEN.index(flag.name) if flag.name in OFTEN else len(OFTEN))
  shared = [
    flag
    for module in ('experiments._hosts', 'experiments._cli')
    for flag in known.get_flags_for_module(module)
  ]
  parts = [inspect.cleandoc(documentation), 'Flags, each with an example:', _rows(own)]
  if 'config' in known:
    parts.append(
      '  --config.train.epochs=3\n'
      '      Any field of the config. --help_config lists all; with --config= those of that one.'
    )
  parts += ['Flags that other commands have, too:', _rows(shared)]
  parts.append('  --help, --help_config, --helpfull\n      This text, the fields, all flags.')
  return '\n\n'.join(parts)


def config(values: Iterable[tuple[str, object]] | None = None) -> str:
  """A paragraph for each field: its value, what it may hold, and what it means.

  Args:
    values: fields by dotted name with the values to show; None is all fields with their defaults.
  """
  shown = values or ((name, field.default) for name, field in fields.ALL.items())
  return '\n'.join(line for name, value in shown for line in _field(name, value))


def _field(name: str, value: object) -> Iterator[str]:
  yield f'{name} = {value!r}'
  if field := fields.ALL.get(name):
    yield _wrapped(f'{field.expected[0].upper()}{field.expected[1:]}. {field.meaning}')


def _rows(shown: Iterable[flags.Flag]) -> str:
  # What absl adds to a flag that may be repeated, its help says already.
  text = lambda flag: (flag.help or '').partition(';\n')[0]
  return '\n'.join(f'  {_example(flag)}\n{_wrapped(text(flag), 6)}' for flag in shown)


def _example(flag: flags.Flag) -> str:
  """A flag with a value that the command takes.

  It is another choice than the default, or the value of `EXAMPLES`, or the default. Of a flag in
  `OWN` the default comes before the value of `EXAMPLES`.
  """
  if flag.boolean:
    return f'--{"no" * bool(flag.default)}{flag.name}'
  choices = [name for name in getattr(flag.parser, 'enum_values', ()) if name != flag.default]
  default = '' if flag.default is None else str(flag.default_as_str).strip("'")
  own = default if flag.name in OWN else ''
  value = [*choices, own, _taken(flag, EXAMPLES.get(flag.name, '')), default]
  return f'--{flag.name}={next((one for one in value if one), "...")}'


def _taken(flag: flags.Flag, value: str) -> str:
  """A value if the flag takes it; '' for a text where it wants a number."""
  if isinstance(flag.parser, flags.IntegerParser | flags.FloatParser):
    try:
      flag.parser.parse(value)
    except ValueError:
      return ''
  return value


def _wrapped(text: str, indent: int = 4) -> str:
  width = min(shutil.get_terminal_size((100, 24)).columns, 100)
  return textwrap.fill(text, width, initial_indent=' ' * indent, subsequent_indent=' ' * indent)
