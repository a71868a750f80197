r"""Answers requests for several adapters of one base, in mixed batches.

  python -m experiments.serve --base=FOLDER --adapters=mrpc=FOLDER --adapters=sst2=FOLDER \
      --requests=FILE

An adapter's folder is a run directory, or what experiments.export wrote as `adapter` or `peft` (a
file of loralib lacks its base and its scale: `experiments.export --adapter=FILE` makes one of them
of it). A request is a line of JSON, from a file, or from standard input with `--requests=-`:

  {"adapter": "mrpc", "text": "He left.", "text_pair": "He went."}     text_pair is optional

The answers are written to standard output, a line for each request, in the same order:

  {"adapter": "mrpc", "label": 1, "name": "equivalent", "scores": [0.1, 0.9]}
                                                             the class and the probability of each
  {"adapter": "stsb", "score": 3.2}                          the value of a regression
  {"line": 3, "error": "..."}                                for a line that is not a request

Requests that have arrived are answered together. At the end, a line of JSON is written to standard
error: requests, errors, tokens, seconds, how many of these compilation took, compiled programs, and
requests and tokens a second without compilation. A program is compiled for each length (16, 32, 64,
... tokens) and number of rows (--rows, and an eighth of it for a few) when it first occurs.
"""

import json
import sys
from collections.abc import Sequence

from absl import flags

from experiments import _cli
from lora_jax import fields
from lora_jax.adapters import Adapter, load_adapter
from lora_jax.serving import server
from lora_jax.train import run_adapter, rundir

BASE = flags.DEFINE_string('base', None, 'Model folder or preset.', required=True)
ADAPTERS = flags.DEFINE_multi_string(
  'adapters', None, 'NAME=FOLDER of an adapter; repeat the flag for each.', required=True
)
REQUESTS = flags.DEFINE_string('requests', '-', 'File of requests, or - for standard input.')
TOKENIZER = flags.DEFINE_string(
  'tokenizer', '', "Folder or archive of a tokenizer; empty for the base's own."
)
ROWS = flags.DEFINE_integer('rows', 32, 'Texts of a full batch.', lower_bound=1)
MAX_LENGTH = flags.DEFINE_integer(
  'max_length', 0, 'Most tokens of a text; 0 for as many as the model has positions.'
)
OTHER_BASE = flags.DEFINE_bool('other_base', False, 'Allow adapters of another base.')
QUANTIZE = flags.DEFINE_enum(
  'quantize',
  'none',
  fields.FIELDS['model.quantize'].choices,
  'How the kernels of the base are kept; an adapter says how they were when it was trained.',
)


def main() -> None:
  with open(sys.stdin.fileno() if REQUESTS.value == '-' else REQUESTS.value, 'rb') as stream:
    adapters = {name: read_adapter(name, path) for name, path in folders(ADAPTERS.value).items()}
    if rundir.is_run(BASE.value):
      raise ValueError(
        f'--base={BASE.value} is a run directory: give the base that its adapter was trained on, '
        'or export the run merged, as a folder in Hugging Face layout'
      )
    running = server.load(
      BASE.value,
      adapters,
      tokenizer=TOKENIZER.value,
      max_length=MAX_LENGTH.value,
      rows=ROWS.value,
      other_base=OTHER_BASE.value,
      quantize=QUANTIZE.value,
    )
    report = running.answer_stream(stream, sys.stdout)
  print(json.dumps(report), file=sys.stderr)


def folders(pairs: Sequence[str]) -> dict[str, str]:
  """Folders by name, of NAME=FOLDER.

  Raises:
    ValueError: for another form, a name that is given twice, or no pair.
  """
  found: dict[str, str] = {}
  for pair in pairs:
    name, equals, folder = pair.partition('=')
    if not (name and equals and folder):
      raise ValueError(f'--adapters: {pair!r} is not of the form NAME=FOLDER')
    if name in found:
      raise ValueError(f'--adapters: the name {name!r} is given twice')
    found[name] = folder
  if not found:
    raise ValueError('--adapters is empty: give at least one NAME=FOLDER')
  return found


def read_adapter(name: str, folder: str) -> Adapter:
  """The adapter of a run directory, or of a folder in any format.

  Raises:
    ValueError: if it cannot be read, naming it.
  """
  try:
    if rundir.is_run(folder):
      return run_adapter.from_run(folder)
    return load_adapter(folder)
  except (ValueError, OSError) as error:
    raise ValueError(f'adapter {name!r}: {error}') from error


if __name__ == '__main__':
  _cli.run(main)
