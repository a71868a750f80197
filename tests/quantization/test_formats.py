"""Codes and scales are those of bitsandbytes and qwix (golden/make_quantized.py)."""

import pathlib

import numpy as np
import pytest

from lora_jax.quantization import formats

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'quantized'


@pytest.fixture(scope='module')
def golden():
  return np.load(GOLDEN / 'bitsandbytes.npz')


def test_tables_are_bitsandbytes(golden):
  np.testing.assert_array_equal(formats.NF4, golden['values'])
  np.testing.assert_array_equal(formats.DYNAMIC, golden['dynamic_values'])


def test_nf4_is_bitsandbytes(golden):
  weights = golden['weights'].astype(np.float32)
  found = formats.encode_nf4(weights.T)
  np.testing.assert_array_equal(found['codes'].T.reshape(-1), golden['codes'])
  np.testing.assert_array_equal(found['group_scales'], golden['group_scales'])
  np.testing.assert_allclose(found['offset'], golden['offset'], rtol=1e-6)
  # On a CPU bitsandbytes finds the nearest of 256 values to 2^-16: near a tie it takes the other.
  scales, other = found['scales'].T.reshape(-1), golden['scales']
  absmax = np.abs(weights.reshape(-1, 64)).max(axis=1)
  groups = np.repeat(golden['group_scales'], formats.GROUP)[: len(absmax)]
  exact = (absmax - golden['offset']) / groups
  error = lambda codes: np.abs(formats.DYNAMIC[codes] - exact)
  assert np.all(error(scales) <= error(other) + 1e-6)
  assert np.mean(scales != other) < 0.02
  assert np.all(error(other) <= error(scales) + 2**-14)


def test_nf4_is_qwix(golden):
  weights = golden['weights'].T.astype(np.float32)
  found, other = formats.encode_nf4(weights), np.load(GOLDEN / 'qwix.npz')
  codes = np.stack([found['codes'] >> 4, found['codes'] & 15], 1).reshape(weights.shape)
  np.testing.assert_array_equal(codes[:, other['scales'].min(0) > 0], other['codes'])


def test_int8_is_bitsandbytes(golden):
  found = formats.encode_int8(golden['weights'].T.astype(np.float32))
  np.testing.assert_array_equal(found['codes'].T, golden['int8'])
  np.testing.assert_allclose(found['scales'][0] * 127, golden['absmax'], rtol=1e-6)


@pytest.mark.parametrize('name', formats.ENCODERS)
@pytest.mark.parametrize('rows', [64, 40, 130, 7])
def test_encoded_arrays_have_the_declared_shapes(name, rows):
  weight = np.random.default_rng(0).standard_normal((rows, 6)).astype(np.float32)
  found, declared = formats.ENCODERS[name](weight), formats.shapes(name, rows, 6)
  assert {key: (x.shape, x.dtype) for key, x in found.items()} == {
    key: (x.shape, x.dtype) for key, x in declared.items()
  }


def test_zeros_stay_zeros():
  zeros = np.zeros((64, 2), np.float32)
  assert not formats.encode_int8(zeros)['codes'].any()
  nf4 = formats.encode_nf4(zeros)
  np.testing.assert_array_equal(nf4['codes'], 0x77)  # Twice the code of 0.
  assert nf4['offset'] == 0 and not nf4['group_scales'].any()
