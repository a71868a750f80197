"""Kernels are quantized as they are read: as whole weights would be, or in the codes of a file."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gguf import quants
from jax.sharding import NamedSharding, PartitionSpec

from lora_jax import quantization, stacking, tree
from lora_jax.models import presets
from lora_jax.pretrained import conversion, gguf_file, huggingface, load_model, shards
from lora_jax.train import mesh
from tests.pretrained.gguf_toys import GOLDEN, TYPES, write

SIZES = dict(
  vocab_size=40, hidden_size=64, num_layers=2, num_heads=2, intermediate_size=96, max_positions=16,
  num_kv_heads=1, head_width=32, initializer_range=0.3,
)  # fmt: skip


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A Llama whose rows are whole blocks of a GGUF file."""
  model, params = huggingface.fresh_model(presets.architecture('llama', **SIZES), task='lm', seed=1)
  path = tmp_path_factory.mktemp('llama')
  huggingface.save_model(path, model, params)
  return path


def assert_equal(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize('scan', [False, True])
@pytest.mark.parametrize('case, format', [('gpt2', 'nf4'), ('qwen2', 'int8')])
def test_kernels_are_encoded_as_they_are_read(case, format, scan):
  read = lambda quantize: load_model(GOLDEN / case, task='lm', scan=scan, quantize=quantize)
  _, params = read('none')
  model, found = read(format)
  assert_equal(found, quantization.quantize(params, format))
  declared = huggingface.abstract_params(GOLDEN / case, model, format)
  alike = lambda one, other: (one.shape, one.dtype) == (other.shape, other.dtype)
  assert all(jax.tree.leaves(jax.tree.map(alike, declared, found)))


def test_a_low_dtype_is_declared_and_not_rounded_to_before(folder):
  _, low = load_model(folder, task='lm', quantize='int8', param_dtype=jnp.bfloat16)
  _, high = load_model(folder, task='lm', quantize='int8')
  for path, kernel in quantization.kernels(low).items():
    assert kernel.dtype == jnp.bfloat16
    assert_equal(kernel.arrays, quantization.kernels(high)[path].arrays)


def test_a_mesh_holds_parts_of_codes_and_scales(folder):
  devices = mesh.make_mesh(2, 2, 2)
  place = lambda shapes: mesh.shardings(shapes, devices, 'llama')
  _, one = load_model(folder, task='lm', quantize='nf4')
  _, many = load_model(folder, task='lm', quantize='nf4', place=place)
  assert_equal(many, one)
  up = quantization.kernels(many)['decoder/layers_0/mlp/up/kernel'].arrays
  assert up['codes'].sharding.spec == PartitionSpec('fsdp', 'tensor')
  assert up['scales'].sharding.spec == PartitionSpec(None, 'tensor')  # One block of 64 inputs.
  assert up['group_scales'].is_fully_replicated


def test_a_place_that_does_not_fit_is_named():
  shapes = {'layers': {'up': {'kernel': jax.ShapeDtypeStruct((64, 6), np.float32)}}}
  declared = tree.flatten(quantization.quantize(shapes, 'int8'))
  wrong = NamedSharding(mesh.make_mesh(1, 4), PartitionSpec(None, 'fsdp'))
  with pytest.raises(ValueError, match=r'layers/up/kernel codes: .* does not fit \(64, 6\)'):
    shards.leaf_shardings(declared, lambda shapes: jax.tree.map(lambda x: wrong, shapes))
  with pytest.raises(ValueError, match=r'layers/up/kernel scales: place gave None, expected'):
    shards.leaf_shardings(declared, lambda shapes: {'layers': {'up': {'kernel': wrong}}})


@pytest.mark.parametrize('scan', [False, True])
@pytest.mark.parametrize('kind', gguf_file.KEPT)
def test_a_file_is_kept_in_its_codes(folder, tmp_path, kind, scan):
  """Decoded by the format's own package, its rows of queries in the model's order."""
  path = tmp_path / 'model.gguf'
  write(path, str(folder), kind=TYPES[kind])
  _, floats = load_model(path, task='lm', scan=scan)
  model, found = load_model(path, task='lm', scan=scan, quantize='file')
  kernels = quantization.kernels(found)
  assert {kernel.format for kernel in kernels.values()} == {kind.lower()}
  assert len(kernels) == (7 if scan else 14)
  assert_equal(quantization.exact(found), floats)
  raw = gguf_file.Tensors(path)._tensors['model.layers.1.mlp.down_proj.weight']._tensor
  decoded = quants.dequantize(raw.data, raw.tensor_type).T
  down = tree.flatten(stacking.unstack(found))['decoder/layers_1/mlp/down/kernel']
  np.testing.assert_array_equal(down.astype('float32'), decoded)
  bits = {'Q8_0': 8.5, 'Q4_0': 4.5, 'Q4_1': 5.0}[kind]
  assert tree.nbytes(kernels) == bits / 8 * tree.count(kernels)
  assert_shapes(huggingface.abstract_params(path, model, 'file'), found)


def assert_shapes(declared, found):
  for one, other in zip(jax.tree.leaves(declared), jax.tree.leaves(found), strict=True):
    assert (one.shape, one.dtype) == (other.shape, other.dtype)


def test_what_cannot_be_kept_is_refused_by_name(folder, tmp_path, monkeypatch):
  with pytest.raises(ValueError, match=r"quantize='file' keeps the codes of a GGUF file, and this"):
    load_model(folder, task='lm', quantize='file')
  path = tmp_path / 'model.gguf'
  write(path, str(folder), kind=TYPES.F16)
  assert not quantization.kernels(load_model(path, task='lm', quantize='file')[1])
  kind = gguf_file.Tensors.kind
  other = lambda self, name: 'Q4_K' if 'layers.1.mlp.up' in name else kind(self, name)
  monkeypatch.setattr(gguf_file.Tensors, 'kind', other)
  with pytest.raises(ValueError, match=r'layers.1.mlp.up_proj.weight is Q4_K. Choose one of int8'):
    load_model(path, task='lm', quantize='file')
  with pytest.raises(ValueError, match=r"quantize='int4'. Did you mean 'int8'"):
    load_model(folder, task='lm', quantize='int4')
  model = huggingface.make_model(huggingface.read_config(folder), task='lm')
  assert conversion.declared(model, 'none') == presets.abstract_params(model)
