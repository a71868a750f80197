"""What a run forgets: its loss on general text before the first update, beside those of the task.

With `config.eval.general_text` sequences of WikiText-2 are one more held-out split, `general`, of a
language model's task, which each evaluation measures. A method leaves the base as it is until the
first update, so what is measured before is the base's; a prefix has its random tokens already.
"""

from __future__ import annotations

from lora_jax.data.corpus import GENERAL
from lora_jax.train import evaluate
from lora_jax.train.engine import Engine


def measure_start(engine: Engine) -> None:
  """Measures the general text, if there is any, unless a first update has been made.

  Raises:
    FloatingPointError: for outputs that are not finite.
  """
  held_out, width = engine.tools.held_out, len(engine.members)
  if engine.done or GENERAL not in held_out:
    return
  with engine.clock.measure('evaluation'):
    computed = evaluate.compute(engine.outputs, {GENERAL: held_out[GENERAL]})
    for place, record in enumerate(engine.members):
      record.begin(evaluate.of_member(computed, place, width))
