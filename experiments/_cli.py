"""How every command starts and fails: a mistake of its user ends in one message, not a traceback.

`LORA_JAX_TRACEBACK=1` shows where it was raised.
"""

import difflib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable

from absl import app

MISTAKES = (ValueError, OSError, FloatingPointError)


def run(main: Callable[[], None]) -> None:
  """Parses the flags and calls `main`; exits with 1 after a mistake, with 2 after a wrong flag."""

  def checked(argv: list[str]) -> None:
    if len(argv) > 1:
      raise app.UsageError(f'unexpected arguments {argv[1:]}: options begin with --')
    try:
      main()
    except MISTAKES as error:
      show(error)
      sys.exit(1)

  app.run(checked, flags_parser=_parse)


def show(error: Exception) -> None:
  """Prints what ends a process: a mistake as its message, all else with where it was raised."""
  if isinstance(error, MISTAKES) and not os.environ.get('LORA_JAX_TRACEBACK'):
    print(f'\nerror: {type(error).__name__}: {error}', file=sys.stderr)
  else:
    traceback.print_exception(error)


def _parse(argv: list[str]) -> list[str]:
  try:
    return app.parse_flags_with_usage(argv)
  except (*MISTAKES, AttributeError, KeyError, TypeError) as error:
    _fail(_unknown_key(argv) or f'{type(error).__name__}: {error}', error, status=2)


def _fail(message: str, error: Exception, status: int) -> None:
  if os.environ.get('LORA_JAX_TRACEBACK'):
    raise error
  print(f'\nerror: {message}', file=sys.stderr)
  sys.exit(status)


def _unknown_key(argv: list[str]) -> str | None:
  """What is wrong with the first `--config.a.b=` whose key the config does not have."""
  given = [match for arg in argv if (match := re.match(r'--?config(?:\.([^=]+))?=(.*)', arg, re.S))]
  file = next((match[2] for match in given if match[1] is None), None)
  if file is None:
    return None
  path, _, arg = file.partition(':')
  spec = importlib.util.spec_from_file_location('config', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(arg) if arg else module.get_config()
  for match in given:
    section, names = config, (match[1] or '').split('.') if match[1] else []
    for i, name in enumerate(names):
      known = list(section.keys()) if hasattr(section, 'keys') else []
      if name not in known:
        where = '.'.join(['config', *names[:i]])
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f'Did you mean {", ".join(near)}? ' if near else ''
        return f'{where} has no {name!r}. {hint}It has: {", ".join(known)}.'
      section = section[name]
  return None
