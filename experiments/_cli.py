"""How every command starts, and how it fails: a user's mistake ends in one message.

Compiled programs are kept for the commands to come (`lora_jax/compilation.py`), and on a CPU a
step's memory for the next step (`lora_jax/host_memory.py`).
`--debug` shows the traceback too, and all that libraries log, each line with its date and place.
"""

import contextlib
import logging
import os
import re
import runpy
import select
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NoReturn, TextIO

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict

from experiments import _help
from lora_jax import compilation, fields, host_memory, provenance
from lora_jax.errors import nearest
from lora_jax.extras import MissingExtra
from lora_jax.train import signals

MISTAKES = (ValueError, OSError, FloatingPointError, MissingExtra)
ALLOW_CHANGED_INPUTS = flags.DEFINE_bool(
  provenance.FLAG.removeprefix('--'),
  False,
  'Use a run although files that it was made from have changed, and record that.',
)
DEBUG = flags.DEFINE_bool(
  'debug', False, 'Show the traceback of an error, and all logs of libraries.'
)
CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
CONFIG_HELP = 'Config file, followed by a colon and its argument: configs/glue.py:task=mrpc.'


Connected = Callable[[], contextlib.AbstractContextManager[None]]


def run(
  main: Callable[[], None],
  connected: Connected = contextlib.nullcontext,
  *,
  keep_memory: bool = True,
) -> None:
  """Parses the flags and calls `main`; exits with 1 after a mistake, with 2 after a wrong flag.

  SIGINT (Ctrl-C) and SIGTERM end the command in one line, with 130 and 143; a run that trains saves
  its state before (`lora_jax/train/signals.py`). Once the reader of its output has ended, as `head`
  does, the next output ends the command with 141, as SIGPIPE would, and without a word.

  Args:
    main: the command.
    connected: the context that it runs in, which connects this process to others.
    keep_memory: whether memory that was freed is kept; not by a command that measures it.
  """

  def checked(argv: list[str]) -> None:
    if len(argv) > 1:
      raise app.UsageError(f'unexpected arguments {argv[1:]}: flags begin with --')
    if not DEBUG.value:
      handler = absl_logging.get_absl_handler()
      handler.setFormatter(_Plain())
      handler.addFilter(_is_of_use)
      sys.excepthook = _tell
    try:
      with connected():
        if keep_memory:
          host_memory.keep()
        compilation.keep()
        with provenance.changes_allowed(ALLOW_CHANGED_INPUTS.value):
          main()
        sys.stdout.flush()  # Not at the exit, where an error can no longer be handled.
    except MISTAKES as error:
      if isinstance(error, BrokenPipeError) and _is_unread(sys.stdout):
        signals.leave(128 + signal.SIGPIPE)
      show(error)
      signals.leave(1)
    except SystemExit as stopped:
      if isinstance(stopped.code, int) and stopped.code > 128:
        signals.leave(stopped.code)
      raise

  with signals.ending():
    app.run(checked, flags_parser=_parse)


def _is_unread(stream: TextIO) -> bool:
  """Whether a stream goes into a pipe that nobody reads any more; other pipes may break, too."""
  poll = select.poll()
  poll.register(stream, 0)
  return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def show(error: Exception) -> None:
  """Prints the error that ends a process: of a mistake the message, of others the traceback.

  The last line is the cause, in one sentence; details stand before it.
  """
  if isinstance(error, MISTAKES) and not flags.FLAGS['debug'].value:  # Parsed or not.
    cause, *details = str(error).splitlines() or ['']
    details += ['error: ' + type(error).__name__ + ': ' + cause.removesuffix(':')]
    print('', *details, sep='\n', file=sys.stderr)
  else:
    traceback.print_exception(error)


class _Plain(logging.Formatter):
  """A line of a log as a sentence: `warning: ...`, without the date, process and line of code."""

  def format(self, record: logging.LogRecord) -> str:
    mark = f'{record.levelname.lower()}: ' if record.levelno >= logging.WARNING else ''
    return mark + super().format(record)


def _is_of_use(record: logging.LogRecord) -> bool:
  """Whether a line is for a user: not what a library tells of its own work, such as its fonts.

  Nor that the machine lacks a device which JAX might have found.
  """
  of_library = record.name not in ('root', 'absl') and record.levelno < logging.WARNING
  return not of_library and 'Unable to initialize backend' not in record.getMessage()


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
  """Prints an error that nothing caught, but for those that follow from one that is said.

  Writes of a checkpoint that are in progress when one fails, as on a full disk, end in a closed
  event loop, each with a traceback.
  """
  if not (isinstance(error, RuntimeError) and str(error) == 'Event loop is closed'):
    sys.__excepthook__(kind, error, trace)


def config_first(argv: list[str]) -> list[str]:
  """The arguments with `--config=` before its fields, `--config.a=1`, which refer to it."""
  return argv[:1] + sorted(argv[1:], key=lambda arg: not re.match('--?config=', arg))


def parse(argv: list[str]) -> list[str]:
  """Reads the flags of a command, which is `sys.argv`; returns what is not a flag.

  `--config=` may follow its fields (`--config.a=1`), and name a file of ours from any folder.

  Raises:
    flags.Error, ValueError, OSError, AttributeError, KeyError, TypeError: for a mistake in them.
  """
  argv[:] = config_first(argv)  # The flags of a config read `sys.argv` by themselves.
  return flags.FLAGS([argv[0], *map(_with_config_file, argv[1:])])


def _parse(argv: list[str]) -> list[str]:
  for arg in argv[1:]:
    if arg in ('--help', '-help', '-h'):
      _show_and_leave(_help.command(sys.modules['__main__'].__doc__ or ''))
  try:
    if '--help_config' in argv:
      config, _ = _config([argv[0], *map(_with_config_file, config_first(argv)[1:])])
      _show_and_leave(_help.config(fields.leaves(config) if config else None))
    return parse(argv)
  except (*MISTAKES, flags.Error, AttributeError, KeyError, TypeError) as error:
    if '--debug' in argv:
      raise
    if isinstance(error, flags.Error):  # An error of the config file's is the last line of it.
      message = str(error).strip().splitlines()[-1]
    elif isinstance(error, MISTAKES):
      message = f'{type(error).__name__}: {error}'
    else:  # Of a `--config.a.b=` that the config lacks.
      message = _unknown_key([*map(_with_config_file, argv)]) or f'{type(error).__name__}: {error}'
    print(f'\nerror: {message}', file=sys.stderr)
    sys.exit(2)


def _show_and_leave(text: str) -> NoReturn:
  """Prints a text, of which a reader such as `head` may want only the beginning, and exits."""
  try:
    print(text, flush=True)
  except BrokenPipeError:  # What is left is flushed at the exit, which would fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  sys.exit()


def _with_config_file(arg: str) -> str:
  """An argument; `--config=` names a file of ours from any folder, also without folder and suffix.

  Raises:
    FileNotFoundError: if neither the current folder nor `CONFIGS` has the file.
  """
  given = re.fullmatch(r'(--?config=)([^:]*)(.*)', arg, re.S)
  if given is None or Path(given[2]).is_file():
    return arg
  name = Path(given[2]).stem
  known = sorted(path.stem for path in CONFIGS.glob('[!_]*.py'))
  if name not in known:
    raise FileNotFoundError(f'no config file {given[2]!r}. {nearest(name, known)}')
  return f'{given[1]}{CONFIGS / name}.py{given[3]}'


def _config(argv: list[str]) -> tuple[ConfigDict | None, list[str]]:
  """The config that `--config=` names, without changes; and the names of fields to change."""
  given = [match for arg in argv if (match := re.match(r'--?config(?:\.([^=]+))?=(.*)', arg, re.S))]
  file = next((match[2] for match in given if match[1] is None), None)
  if file is None:
    return None, []
  path, _, arg = file.partition(':')
  get_config = runpy.run_path(path)['get_config']
  return get_config(arg) if arg else get_config(), [match[1] for match in given if match[1]]


def _unknown_key(argv: list[str]) -> str | None:
  """An error about the first `--config.a.b=` whose key the config does not have, or None."""
  config, changed = _config(argv)
  for path in changed:
    section, names = config, path.split('.')
    for i, name in enumerate(names):
      known = list(section.keys()) if isinstance(section, ConfigDict) else []
      if not isinstance(section, ConfigDict) or name not in known:
        meant = _meant(name) or nearest(name, known)
        return f'{".".join(["config", *names[:i]])} has no {name!r}. {meant}'
      section = section[name]
  return None


def _meant(name: str) -> str:
  """The fields of other sections with this name, or else those whose meaning has its words."""
  same = [path for path in fields.FIELDS if path.endswith(f'.{name}')]
  words = name.replace('_', ' ')
  same = same or [path for path, field in fields.FIELDS.items() if words in field.meaning.lower()]
  named = ' or '.join(f'--config.{path}' for path in same[:3])
  return f'Did you mean {named}? --help_config lists all fields.' if named else ''
