"""The two Java programs that scores need: METEOR 1.5 and the Stanford PTB tokenizer.

Their archives come with pycocoevalcap. Its wrappers are not used, because they leave a process and
its pipes open when Java dies, and write into the package's folder.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO, cast

from lora_jax.extras import require

# A program that runs for longer hangs; METEOR scores 5000 segments in 15 s.
SECONDS = 900

_INSTALL = 'Install Java 8 or newer, for instance by: apt install default-jre-headless'
# One thread for garbage collection, because the other scores are computed at the same time. METEOR
# writes and reads its numbers as the locale has them.
_OPTIONS = ('-XX:+UseSerialGC', '-Xmx2G', '-Duser.language=en', '-Duser.country=US')
# Options that Java takes from the environment; some would take precedence over those above.
_VARIABLES = ('JAVA_TOOL_OPTIONS', 'JDK_JAVA_OPTIONS', '_JAVA_OPTIONS')
# Characters that end a line for Java or the tokenizer.
_BREAKS = re.compile('[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+')


class Unavailable(Exception):
  """A score cannot be computed on this machine; the message gives the reason and the remedy."""


def version() -> str:
  """The version that `java -version` prints: `openjdk version "17.0.15" 2025-04-15`.

  Raises:
    Unavailable: if there is no Java, or it does not start.
  """
  said = _run([*_java(), '-version']).stderr.splitlines()
  return next((line for line in said if 'version' in line), 'unknown')


def ptb_tokens(texts: Sequence[str]) -> list[str]:
  """Each text as the PTB tokenizer's words, lower-cased, without punctuation, joined by spaces.

  Raises:
    Unavailable: if Java is missing or fails.
  """
  require('pycocoevalcap')
  from pycocoevalcap.tokenizer import ptbtokenizer

  archive = pathlib.Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
  command = [*_java(), *_OPTIONS, '-cp', str(archive), 'edu.stanford.nlp.process.PTBTokenizer']
  command += ['-preserveLines', '-lowerCase']  # UTF-8 in any locale, as METEOR.
  lines = [_BREAKS.sub(' ', text) for text in texts]
  done = _run(command, ''.join(line + '\n' for line in lines))
  answers = done.stdout.split('\n')[:-1]
  if len(answers) != len(lines):
    raise Unavailable(
      f'the PTB tokenizer answered {len(lines)} lines with {len(answers)}: {_last(done.stderr)}'
    )
  punctuation = frozenset(ptbtokenizer.PUNCTUATIONS)
  words = lambda line: (word for word in line.rstrip().split(' ') if word not in punctuation)
  return [' '.join(words(line)) for line in answers]


def meteor(texts: Callable[[], tuple[Sequence[str], Sequence[Sequence[str]]]]) -> float:
  """Corpus METEOR 1.5 (English, -norm) in [0, 1].

  Args:
    texts: returns predictions and references; called while Java reads its tables, which takes
      most of the time of a small set.

  Raises:
    Unavailable: if Java is missing or fails.
  """
  require('pycocoevalcap')
  from pycocoevalcap.meteor import meteor as wrapper

  archive = pathlib.Path(wrapper.__file__).with_name(wrapper.METEOR_JAR)
  command = [*_java(), *_OPTIONS, '-jar', str(archive), '-', '-', '-stdio', '-l', 'en', '-norm']
  with _start(command) as ask:
    statistics = []
    for prediction, references in zip(*texts()):
      # A text must not contain the program's separator.
      fields = [text.replace('|||', '').replace('  ', ' ') for text in (*references, prediction)]
      statistics.append(ask(' ||| '.join(['SCORE', *fields])))
    ask(' ||| '.join(['EVAL', *statistics]))
    for _ in statistics[1:]:  # A score for each segment comes before that of all.
      ask()
    answer = ask()
    try:
      return float(answer)
    except ValueError as error:
      raise Unavailable(f'METEOR answered {answer!r}, expected a number') from error


@contextlib.contextmanager
def _start(command: Sequence[str]) -> Iterator[Callable[..., str]]:
  """Starts a program that answers lines: `ask(line)` returns its next line, `ask()` one more.

  The program and its pipes are gone when the block ends, also by an error.
  """
  with tempfile.TemporaryFile() as errors:
    try:
      process = subprocess.Popen(
        command,
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        encoding='utf-8',
        errors='replace',
      )
    except OSError as error:
      raise Unavailable(f'{command[0]} does not start ({error})') from error
    expired = threading.Event()

    def stop() -> None:
      expired.set()
      process.kill()

    watchdog = threading.Timer(SECONDS, stop)
    watchdog.daemon = True
    watchdog.start()

    stdin, stdout = cast(TextIO, process.stdin), cast(TextIO, process.stdout)  # They are pipes.

    def ask(line: str | None = None) -> str:
      if line is not None:
        stdin.write(_BREAKS.sub(' ', line) + '\n')
        stdin.flush()
      answer = stdout.readline().strip()
      # Anything but a number is a message, and '' is the end of the stream.
      if not answer[:1].isdigit():
        raise OSError(answer)
      return answer

    try:
      yield ask
    except OSError as error:
      process.kill()
      process.wait()
      errors.seek(0)
      said = errors.read().decode('utf-8', 'replace')
      if not (said.strip() and isinstance(error, BrokenPipeError)):  # It says only that Java ended.
        said += f'\n{error}'
      if expired.is_set():
        said = f'stopped because it had not ended within {SECONDS} s'
      raise Unavailable(_failed(command, process.returncode, said)) from error
    finally:
      watchdog.cancel()
      process.kill()
      process.communicate()


def _run(command: Sequence[str], text: str = '') -> subprocess.CompletedProcess[str]:
  try:
    done = subprocess.run(
      command,
      env=_environment(),
      input=text,
      capture_output=True,
      encoding='utf-8',
      errors='replace',
      timeout=SECONDS,
    )
  except (OSError, subprocess.TimeoutExpired) as error:
    raise Unavailable(f'{command[0]} does not run ({error})') from error
  if done.returncode:
    raise Unavailable(_failed(command, done.returncode, done.stderr))
  return done


def _failed(command: Sequence[str], status: int, said: str) -> str:
  remedy = f'. {_INSTALL}' if 'UnsupportedClassVersionError' in said else ''
  return f'{command[0]} ended with status {status}: {_last(said)}{remedy}'


def _last(said: str) -> str:
  lines = [line.strip() for line in said.splitlines() if line.strip()]
  # In a traceback of Java the error comes first.
  return next(
    (line for line in lines if 'rror' in line or 'xception' in line), ' '.join(lines[-1:])
  )


def _environment() -> dict[str, str]:
  return {name: value for name, value in os.environ.items() if name not in _VARIABLES}


def _java() -> list[str]:
  path = shutil.which('java')
  if path is None:
    raise Unavailable(f'no `java` on PATH ({os.environ.get("PATH", "")}). {_INSTALL}')
  return [path]
