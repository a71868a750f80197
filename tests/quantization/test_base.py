"""Which leaves of a base are quantized, and that shapes alone say the same."""

import jax
import numpy as np
import pytest

from lora_jax import quantization, tree
from tests.methods import laws


@pytest.mark.parametrize('family', ['roberta', 'deberta-v2', 'gpt2', 'qwen2'])
def test_the_dense_kernels_of_the_layers_are_quantized(family):
  _, params = laws.build(family, scan=True)
  leaves, found = tree.flatten(params), quantization.quantize(params, 'nf4')
  kernels = quantization.kernels(found)
  modules = {path.rpartition('/')[0].rpartition('/')[2] for path in kernels}
  assert {'query', 'key', 'value', 'output', 'up', 'down'} <= modules
  assert not any(word in path for path in kernels for word in ('head', 'classifier', 'convolution'))
  for path, leaf in tree.flatten(found).items():
    assert leaf.shape == leaves[path].shape
    assert path in kernels or leaf is leaves[path]
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
  declared = quantization.quantize(shapes, 'nf4')
  alike = lambda one, other: (one.shape, one.dtype) == (other.shape, other.dtype)
  assert all(jax.tree.leaves(jax.tree.map(alike, declared, found)))
  assert not quantization.kernels(quantization.exact(found))


def test_errors_name_the_leaf_and_the_formats():
  params = {'layers_0': {'up': {'kernel': np.full((2, 2), np.nan, np.float32)}}}
  with pytest.raises(ValueError, match=r'layers_0/up/kernel: NaN or infinity'):
    quantization.quantize(params, 'int8')
  with pytest.raises(ValueError, match=r"quantize='nf5'. Did you mean 'nf4'"):
    quantization.quantize(params, 'nf5')
  with pytest.raises(
    ValueError, match=r'matches no kernel to quantize .*Known: block_.*/up/kernel'
  ):
    quantization.quantize({'block_0': {'up': {'kernel': np.ones((2, 2))}}}, 'int8')
  heads = {'layers_0': {'query': {'kernel': np.ones((4, 2, 2))}}}
  with pytest.raises(ValueError, match=r'layers_0/query/kernel is \(4, 2, 2\): .* nn.Dense reads'):
    quantization.quantize(heads, 'int8')


def test_kernels_of_other_names_are_chosen_by_patterns():
  params = {name: {'kernel': np.ones((64, 2), np.float32)} for name in ('block_0', 'head')}
  assert list(quantization.kernels(quantization.quantize(params, 'int8', 'block_.*/kernel'))) == [
    'block_0/kernel'
  ]
