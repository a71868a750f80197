"""The models of the comparison are one model, in Linen and in NNX, and so are their programs."""

import re

import jax
import numpy as np

from lora_jax import bind, lora
from lora_jax.bench import frameworks, timing
from tests.nnx.toys import KEY, disturbed


def program(step, x):
  """The optimized program, without the lines of the source that it is from."""
  step.compile(x)
  sources = r', metadata=\{[^}]*\}|^(FileNames|FunctionNames|FileLocations|StackFrames)\n(.+\n)*'
  return re.sub(sources, '', step.compiled.as_text(), flags=re.M)


def test_both_compute_the_same_and_a_row_has_its_ratios(monkeypatch):
  monkeypatch.setattr(frameworks, 'WIDTH', 16)
  monkeypatch.setattr(frameworks, 'WIDTHS', {name: 16 for name in frameworks.WIDTHS} | {'up': 64})
  method = lora(rank=2, alpha=2, targets=frameworks.TARGETS)
  model, linen = frameworks.NnxModel(1, 'float32'), frameworks.LinenModel(1, 'float32')
  x = jax.random.normal(KEY, (2, 4, 16))
  frozen, trainable = method.init(KEY, model, x)
  found, expected = (
    jax.jit(bind(one, method))(frozen, disturbed(trainable), x) for one in (model, linen)
  )
  np.testing.assert_array_equal(found, expected)
  texts = [
    program(frameworks.Step(bind(one, method), frozen, trainable), x) for one in (model, linen)
  ]
  assert texts[0] == texts[1] and ' dot(' in texts[0]  # So a step takes as long.
  measured = frameworks.compare(1, 2, 4, 'float32', timing.Rounds(count=1))
  assert list(measured.rows) == ['nnx.Optimizer', 'nnx', 'linen']
  assert measured.rows['nnx']['temporary_bytes_ratio'] == 1
  assert {row['seconds'] > 0 for row in measured.rows.values()} == {True}
