"""A kernel's shape, its values, and the parts that it is cut into."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_jax import quantization
from lora_jax.quantization import formats
from lora_jax.quantization.kernel import Blocks, dequantize

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'quantized'
RNG = np.random.default_rng(0)


def of_file(format, rows, columns):
  """A kernel in a format of GGUF files, with codes and scales at random."""
  draw = lambda x: RNG.integers(0, 127, x.shape).astype(x.dtype)
  arrays = {name: draw(x) for name, x in formats.shapes(format, rows, columns).items()}
  return quantization.Kernel(arrays, format, rows, np.dtype('float32'))


def test_nf4_is_dequantized_as_bitsandbytes_does():
  golden = np.load(GOLDEN / 'bitsandbytes.npz')
  arrays = formats.encode_nf4(golden['weights'].T.astype(np.float32))
  arrays['scales'] = golden['scales'].reshape(20, -1).T  # Its choices near ties, see test_formats.
  kernel = quantization.make([arrays], 'nf4', (1024, 20), 'float32')
  np.testing.assert_allclose(kernel.astype('float32').T, golden['dequantized'], atol=1e-8)


@pytest.mark.parametrize('format, worst', [('int8', 0.02), ('nf4', 0.5)])
@pytest.mark.parametrize('shape', [(64, 6), (70, 3), (2, 128, 6)])
def test_a_kernel_is_its_array_within_the_error_of_the_format(format, worst, shape):
  weight = RNG.standard_normal(shape).astype(np.float32)
  params = quantization.quantize({'layers': {'up': {'kernel': weight}}}, format)
  (kernel,) = quantization.kernels(params).values()
  assert (kernel.shape, kernel.ndim) == (shape, len(shape))
  found = kernel.astype(jnp.float32)
  assert found.shape == shape and 0 < np.abs(found - weight).max() < worst
  with pytest.raises(TypeError, match=r'is not an array: use astype'):
    np.asarray(kernel)


@pytest.mark.parametrize('format', formats.FORMATS)
@pytest.mark.parametrize('axis', [0, 1])
def test_parts_make_up_the_whole(format, axis):
  blocks = Blocks.of(of_file(format, 256, 48))
  whole = dequantize(blocks, jnp.float32)
  cut = blocks.cut(axis, limit=256 * 48 // 3)
  assert cut.parts > 2
  parts = [dequantize(blocks.part(cut, jnp.int32(i)), jnp.float32) for i in range(cut.parts)]
  columns = jnp.stack([part if axis else part.T for part in parts])
  np.testing.assert_array_equal(cut.join(columns), whole if axis else whole.T)


def test_jax_sees_the_arrays_and_a_tree_the_kernel():
  kernel = of_file('q4_1', 64, 4)
  assert len(jax.tree.leaves({'kernel': kernel})) == 3
  assert jax.tree.map(lambda x: x, kernel).shape == (64, 4)
