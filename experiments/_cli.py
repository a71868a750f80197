"""How every command starts, and how it fails: a user's mistake ends in one message.

Compiled programs are kept for the commands to come (`lora_jax/compilation.py`), and on a CPU a
step's memory for the next step (`lora_jax/host_memory.py`).
`LORA_JAX_TRACEBACK=1` shows the traceback too.
"""

import contextlib
import os
import re
import runpy
import sys
import traceback
from collections.abc import Callable

from absl import app, flags

from lora_jax import compilation, host_memory, provenance
from lora_jax.errors import nearest
from lora_jax.train import signals

MISTAKES = (ValueError, OSError, FloatingPointError)
ALLOW_CHANGED_INPUTS = flags.DEFINE_bool(
  provenance.FLAG.removeprefix('--'),
  False,
  'Use a run although files that it was made from have changed, and record that.',
)
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
  its state before (`lora_jax/train/signals.py`).

  Args:
    main: the command.
    connected: the context that it runs in, which connects this process to others.
    keep_memory: whether memory that was freed is kept; not by a command that measures it.
  """

  def checked(argv: list[str]) -> None:
    if len(argv) > 1:
      raise app.UsageError(f'unexpected arguments {argv[1:]}: flags begin with --')
    try:
      with connected():
        if keep_memory:
          host_memory.keep()
        compilation.keep()
        with provenance.changes_allowed(ALLOW_CHANGED_INPUTS.value):
          main()
    except MISTAKES as error:
      show(error)
      signals.leave(1)
    except SystemExit as stopped:
      if isinstance(stopped.code, int) and stopped.code > 128:
        signals.leave(stopped.code)
      raise

  with signals.ending():
    app.run(checked, flags_parser=_parse)


def show(error: Exception) -> None:
  """Prints the error that ends a process: of a mistake the message, of others the traceback.

  The last line is the cause, in one sentence; details stand before it.
  """
  if isinstance(error, MISTAKES) and not os.environ.get('LORA_JAX_TRACEBACK'):
    cause, *details = str(error).splitlines() or ['']
    details += ['error: ' + type(error).__name__ + ': ' + cause.removesuffix(':')]
    print('', *details, sep='\n', file=sys.stderr)
  else:
    traceback.print_exception(error)


def config_first(argv: list[str]) -> list[str]:
  """The arguments with `--config=` before its fields, `--config.a=1`, which refer to it."""
  return argv[:1] + sorted(argv[1:], key=lambda arg: not re.match('--?config=', arg))


def _parse(argv: list[str]) -> list[str]:
  argv = sys.argv[:] = config_first(argv)  # The flags of a config read `sys.argv` by themselves.
  try:
    return app.parse_flags_with_usage(argv)
  except (*MISTAKES, AttributeError, KeyError, TypeError) as error:
    if os.environ.get('LORA_JAX_TRACEBACK'):
      raise
    message = _unknown_key(argv) or f'{type(error).__name__}: {error}'
    print(f'\nerror: {message}', file=sys.stderr)
    sys.exit(2)


def _unknown_key(argv: list[str]) -> str | None:
  """An error about the first `--config.a.b=` whose key the config does not have, or None."""
  given = [match for arg in argv if (match := re.match(r'--?config(?:\.([^=]+))?=(.*)', arg, re.S))]
  file = next((match[2] for match in given if match[1] is None), None)
  if file is None:
    return None
  path, _, arg = file.partition(':')
  get_config = runpy.run_path(path)['get_config']
  config = get_config(arg) if arg else get_config()
  for match in given:
    section, names = config, (match[1] or '').split('.') if match[1] else []
    for i, name in enumerate(names):
      known = list(section.keys()) if hasattr(section, 'keys') else []
      if name not in known:
        return f'{".".join(["config", *names[:i]])} has no {name!r}. {nearest(name, known)}'
      section = section[name]
  return None
