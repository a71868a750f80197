"""How long the runs of a table will take: measured of the same row, else computed and corrected.

Nothing is loaded: the seconds follow from config.json, the sizes of the official data and what the
platform does in a second (`lora_jax/train/estimate.py`). What finished runs took corrects them.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from lora_jax.cost import shapes
from lora_jax.models import presets
from lora_jax.train import estimate, layer_choice

# How much faster a CPU computes in bfloat16 (four layers of RoBERTa-base, AMX); the others' seconds
# were measured in it.
BFLOAT16 = {'cpu': 2.0}
START = 10.0  # Seconds of a command that are not in its result: imports, data, weights.
SHAPES = 2  # Of batches that a run compiles, by reading.
PREDICTED = 0.45  # Share of the tokens of an example that are predicted, of E2E.
TOKENS = 40  # Of a text that is decoded, by reading.


class Data(NamedTuple):
  """What a task's time depends on.

  Attributes:
    tokens: mean number of an example.
    held_out: examples of the dev set.
    contexts: of the test set, where texts are decoded at the end.
  """

  tokens: float
  held_out: int
  contexts: int = 0


# Tokens by the tokenizers of BERT and GPT-2; the last rows by their lengths in characters.
DATA = {
  'cola': Data(11, 1_043),
  'sst2': Data(13, 872),
  'mrpc': Data(53, 408),
  'stsb': Data(28, 1_500),
  'qqp': Data(30, 40_430),
  'mnli': Data(40, 19_647),
  'qnli': Data(50, 5_463),
  'rte': Data(67, 277),
  'wnli': Data(37, 71),
  'e2e': Data(60, 4_672, 630),
  'webnlg': Data(77, 2_258, 1_862),
  'dart': Data(80, 6_980, 5_097),
  'wikisql': Data(130, 8_421, 8_421),
  'samsum': Data(200, 818, 818),
  'mnli_text': Data(60, 9_815, 9_815),
}


class Machine(NamedTuple):
  """The devices that the runs get: `cpu`, `gpu` or `tpu`, how many, and their name."""

  platform: str
  count: int
  name: str


class Estimate(NamedTuple):
  """Seconds of a run, None where they are not known, and where they come from."""

  seconds: float | None
  source: str


def computed(
  config: ConfigDict, architecture: presets.Config, trained: int, machine: Machine
) -> float | None:
  """Estimated seconds of a run from its start to its end; None where the data's size is not known.

  Args:
    config: of the run.
    architecture: of its model.
    trained: its number of trained parameters.
    machine: that it runs on.
  """
  steps, data = shapes.count_steps(config), DATA.get(config.task)
  if steps is None or data is None:
    return None
  token = lambda count: estimate.token_seconds(machine.platform, architecture, count)
  length = min(data.tokens, config.data.max_length)
  if config.data.batching == 'pad_max':
    length = config.data.max_length
  examples = steps * config.train.batch_size
  # The products with the vocabulary, by those of the layers.
  words = architecture.vocab_size / (12 * architecture.num_layers * architecture.hidden_size)
  predicted = PREDICTED * words if data.contexts else 0.0
  forward = token(0) / 2
  seconds = examples * length * (token(trained) + predicted * token(0))
  seconds += config.train.epochs * data.held_out * length * forward * (1 + predicted)
  if config.decode.final and data.contexts:
    beams = config.decode.beams if config.decode.strategy == 'beam' else 1
    texts = data.contexts * beams * min(TOKENS, config.decode.max_tokens)
    seconds += texts * forward * (1 + words)
  scan = config.model.scan
  if scan is None:
    sizes = dict(tokens=config.train.batch_size * length, steps=steps)
    scan = layer_choice.by_size(config, architecture, machine.platform, **sizes)
  program = estimate.shape_seconds(machine.platform, architecture, scan=scan)
  speed = BFLOAT16.get(machine.platform, 1.0) if config.model.dtype == 'bfloat16' else 1.0
  compiling = SHAPES * (1 + estimate.EVALUATION) * program
  return START + compiling + seconds / speed / machine.count


def shape_of(config: ConfigDict) -> str:
  """What runs agree in that take the same time: all but the seed, the rate and the start."""
  fields = json.loads(config.to_json_best_effort())
  del fields['seed'], fields['init_adapter'], fields['optim']['lr']
  return json.dumps(fields, sort_keys=True)


def remaining(of: Estimate, config: ConfigDict, step: int) -> Estimate:
  """What an estimate leaves of a run that is saved at a step."""
  total = shapes.count_steps(config)
  if not (of.seconds and total and step):
    return of
  return Estimate(START + (of.seconds - START) * max(0.0, 1 - step / total), of.source)


def corrected(
  shape: str, own: float | None, finished: Mapping[str, Sequence[tuple[float, float | None]]]
) -> Estimate:
  """The estimate of a run, by what finished runs took.

  Args:
    shape: as `shape_of`.
    own: the computed seconds of the run.
    finished: by shape the measured and the computed seconds of finished runs.
  """
  if same := [measured for measured, _ in finished.get(shape, ())]:
    return Estimate(statistics.fmean(same), 'measured')
  if own is None:
    return Estimate(None, 'unknown size of the data')
  pairs = [(a, b) for of in finished.values() for a, b in of if a and b]
  if not pairs:
    return Estimate(own, 'computed')
  ratio = math.exp(statistics.fmean(math.log(a / b) for a, b in pairs))
  return Estimate(own * ratio, f'computed, times {ratio:.2g} as measured of others')
