"""The page about NNX: its code runs in order."""

import re
from pathlib import Path

import pytest

from lora_jax.methods import twins

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'nnx.md'


def test_the_code_runs_in_order(monkeypatch):
  monkeypatch.setattr(twins, 'KINDS', dict(twins.KINDS))
  names, values = {}, []
  for code in re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.S):
    exec(compile(code, PAGE.name, 'exec'), names)
    if 'for _ in range' in code:
      values.append(float(names['value']))
  pure, module = values  # The loss after as many steps, by optax and by nnx.Optimizer.
  assert pure == pytest.approx(module, rel=1e-4)
