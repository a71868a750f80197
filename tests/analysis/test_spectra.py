"""Ranks of spectra that are known."""

import numpy as np
import pytest

from lora_jax.analysis import spectra


def test_ranks_of_spectra():
  assert spectra.effective_rank(np.array([3.0, 3, 3, 3])) == pytest.approx(4)
  assert spectra.stable_rank(np.array([3.0, 3, 3, 3])) == pytest.approx(4)
  assert (
    spectra.effective_rank(np.array([5.0, 0, 0])) == spectra.stable_rank(np.array([5.0, 0, 0])) == 1
  )
  assert spectra.stable_rank(np.array([2.0, 1])) == pytest.approx(1.25)
  shares = np.array([2 / 3, 1 / 3])
  assert spectra.effective_rank(np.array([2.0, 1])) == pytest.approx(
    np.exp(-shares @ np.log(shares))
  )
  assert spectra.effective_rank(np.array([])) == spectra.stable_rank(np.array([0.0])) == 0
