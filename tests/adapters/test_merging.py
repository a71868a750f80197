"""Merges in low precision: what rounding loses of an update is measured and said."""

import jax
import ml_dtypes
import numpy as np
import pytest

from lora_jax import methods, tree
from lora_jax.adapters import merging


def parts(scale, dtype):
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
  frozen = {'layer': {'kernel': draw(32, 32).astype(dtype)}}
  factors = {'layer': {'lora_a': draw(32, 4), 'lora_b': scale * draw(4, 32)}}
  method = methods.make('lora', rank=4, alpha=4.0, targets='layer')
  return method, jax.tree.map(jax.numpy.asarray, frozen), factors


def test_the_error_is_that_of_the_written_update(caplog):
  method, frozen, factors = parts(1e-4, ml_dtypes.bfloat16)
  merged, error = merging.merge(method.merge, frozen, factors, 'a model')
  pair, base = factors['layer'], np.asarray(frozen['layer']['kernel'], np.float64)
  exact = pair['lora_a'].astype(np.float64) @ pair['lora_b']
  written = np.asarray(merged['layer']['kernel'], np.float64) - base
  wanted = np.linalg.norm(written - exact) / np.linalg.norm(exact)
  assert error == pytest.approx(wanted, rel=1e-2) and error > 0.5
  assert 'a model: rounding to bfloat16 loses' in caplog.text and '--dtype=float32' in caplog.text


@pytest.mark.parametrize('scale, dtype', [(1e-4, np.float32), (10.0, ml_dtypes.bfloat16)])
def test_a_merge_that_keeps_the_update_says_nothing(scale, dtype, caplog):
  method, frozen, factors = parts(scale, dtype)
  merged, error = merging.merge(method.merge, frozen, factors, 'a model')
  assert error < 0.01 and not caplog.text
  for path, leaf in tree.flatten(method.merge(frozen, factors)).items():
    np.testing.assert_array_equal(tree.flatten(merged)[path], leaf)
