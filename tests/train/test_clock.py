"""The clock of a run: every second is counted once, under one purpose."""

import time

import numpy as np
import pytest

from lora_jax.train.clock import Clock


def test_seconds_add_up_to_those_that_passed():
  clock, began = Clock(), time.monotonic()
  clock.start()
  with clock.measure('evaluation'):
    time.sleep(0.02)
    with clock.compiling_if_new('evaluation', {'input_ids': np.zeros((2, 3))}):
      time.sleep(0.03)
    with clock.compiling_if_new(
      'evaluation', {'input_ids': np.ones((2, 3))}
    ):  # Of that shape again.
      time.sleep(0.01)
  first, passed = clock.split(), time.monotonic() - began
  assert first['compiling'] >= 0.03 and 0.03 <= first['evaluation'] < first['compiling'] + 0.03
  assert sum(first.values()) == pytest.approx(passed, abs=0.005)
  time.sleep(0.01)
  second = clock.split()
  assert second['training'] >= 0.01
  assert second['evaluation'] == second['compiling'] == 0


def test_an_error_within_leaves_the_names_as_they_were():
  clock = Clock()
  clock.start()
  with pytest.raises(KeyError), clock.measure('evaluation'), clock.measure('decoding'):
    raise KeyError
  time.sleep(0.01)
  seconds = clock.split()
  assert seconds['training'] >= 0.01 and seconds['decoding'] < 0.01
