"""Where loaded parameters lie, that they are the same wherever that is, and the memory it takes."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from safetensors import numpy as writer

from lora_jax import tree
from lora_jax.models import presets
from lora_jax.pretrained import fresh_model, huggingface, load_model, safetensors, shards
from lora_jax.train import mesh

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = ROOT / 'tests' / 'golden' / 'models'
TASKS = {
  'bert': 'classification',
  'roberta': 'classification',
  'deberta-v2': 'classification',
  'gpt2': 'lm',
}
MESHES = {'split over all': (1, 8, 1), 'split in both directions': (2, 2, 2)}


def placing(axes, family):
  devices = mesh.make_mesh(*axes)
  return lambda shapes: mesh.shardings(shapes, devices, family)


def same(found, expected):
  found, expected = tree.flatten(found), tree.flatten(expected)
  assert found.keys() == expected.keys()
  for path, leaf in expected.items():
    assert found[path].dtype == leaf.dtype, path
    np.testing.assert_array_equal(found[path], leaf, err_msg=path)


def lies_as(params, place):
  for path, sharding in tree.flatten(place(params)).items():
    leaf = tree.flatten(params)[path]
    assert leaf.sharding == sharding and leaf.committed, path


@pytest.mark.parametrize('scan', [False, True])
@pytest.mark.parametrize('family', TASKS)
def test_a_placed_checkpoint_has_the_values_of_one_device(family, scan):
  options = {'task': TASKS[family], 'scan': scan, 'param_dtype': 'bfloat16'}
  _, expected = load_model(GOLDEN / family, **options)
  assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(expected))
  for axes in MESHES.values():
    place = placing(axes, family)
    _, params = load_model(GOLDEN / family, place=place, **options)
    same(params, expected)
    lies_as(params, place)
    split = [x for x in jax.tree.leaves(params) if not x.sharding.is_fully_replicated]
    # Kernels and the tables by width: nearly all of the model.
    assert sum(x.nbytes for x in split) > 0.9 * tree.nbytes(params)


def test_a_head_that_is_drawn_is_placed_too(tmp_path):
  body = {name: x for name, x in safetensors.read(GOLDEN / 'bert').items() if 'class' not in name}
  writer.save_file(body, tmp_path / safetensors.SINGLE)
  (tmp_path / 'config.json').write_text((GOLDEN / 'bert' / 'config.json').read_text())
  place = placing((1, 8, 1), 'bert')
  options = {'task': 'classification', 'num_labels': 5}
  _, params = load_model(tmp_path, place=place, **options)
  same(params, load_model(tmp_path, **options)[1])
  lies_as(params, place)


def test_a_fresh_model_is_drawn_where_it_lies():
  fields = {'family': 'gpt2', 'vocab_size': 96, 'hidden_size': 64, 'num_layers': 2, 'num_heads': 2}
  options = {'task': 'lm', 'scan': True, 'param_dtype': 'bfloat16', 'seed': 3}
  place = placing((1, 8, 1), 'gpt2')
  _, params = fresh_model(fields, place=place, **options)
  same(params, fresh_model(fields, **options)[1])
  lies_as(params, place)


def test_a_part_is_read_once_and_no_other_is():
  """Of [4, 6] over 2 x 4 devices, split over two rows' halves: two parts, four devices each."""
  devices = jax.make_mesh((2, 4), ('x', 'y'), axis_types=(jax.sharding.AxisType.Auto,) * 2)
  leaf = jax.ShapeDtypeStruct((4, 6), np.float32)
  values = np.arange(24, dtype=np.float32).reshape(4, 6)
  asked = []

  def fill(out, index):
    asked.append(index)
    out[...] = values[index]

  found = shards.assemble(leaf, NamedSharding(devices, PartitionSpec('x')), fill)
  np.testing.assert_array_equal(found, values)
  assert [values[index].tolist() for index in asked] == [values[:2].tolist(), values[2:].tolist()]


@pytest.mark.parametrize(
  'view',
  [
    lambda x: x,
    lambda x: x.T,  # A kernel of torch's.
    lambda x: x[:, 4:8],  # A third of a fused projection.
    lambda x: x.T[3:9, 2:],  # One device's part of a kernel.
    lambda x: x[5],
    lambda x: x[2, 3],
    lambda x: x[:0],
  ],
)
def test_blocks_of_a_mapped_file_are_all_of_it(view, tmp_path, monkeypatch):
  monkeypatch.setattr(shards, 'BLOCK', 100)  # Two rows of twelve.
  values = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
  values.tofile(tmp_path / 'x')
  mapped = np.memmap(tmp_path / 'x', np.float32, mode='r', shape=values.shape)
  expected = view(values)
  out = np.full(expected.shape, np.nan, ml_dtypes.bfloat16)
  shards.copy(out, view(mapped))
  np.testing.assert_array_equal(out, expected.astype(ml_dtypes.bfloat16))
  assert shards.equal(view(mapped), expected)
  if expected.size:
    assert not shards.equal(view(mapped), expected + 1)
  assert not shards.equal(view(mapped), values[:3])


def test_all_that_cannot_be_placed_is_in_one_message():
  split = NamedSharding(mesh.make_mesh(1, 8, 1), PartitionSpec('fsdp'))

  def place(shapes):
    leaves = dict.fromkeys(tree.flatten(shapes), split)  # 61 words; 2 labels.
    del leaves['embeddings/norm/bias']
    leaves['embeddings/norm/scale'] = PartitionSpec('fsdp')
    return tree.unflatten(leaves)

  with pytest.raises(ValueError) as error:
    load_model(GOLDEN / 'bert', task='classification', place=place)
  lines = str(error.value).splitlines()
  for part in (
    'embeddings/norm/bias: place gave nothing, expected a jax.sharding.Sharding',
    'embeddings/norm/scale: place gave ',
    'classifier/bias: NamedSharding',
    'does not fit (61, 24)',
  ):
    assert any(part in line for line in lines), (part, lines)


# What a process takes to load a model, as JSON: by case, the peak of its memory above what it had
# before, and the bytes of its devices' parts. On the CPU these are in the same memory.
MEASURE = """
import functools, json, sys
import jax, numpy as np
jax.config.update('jax_num_cpu_devices', 8)
from lora_jax.pretrained import huggingface
from lora_jax.train import mesh

def status(name):
  with open('/proc/self/status') as file:
    return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

found = {}
toy, folder = sys.argv[1:]
for dtype, scan, axes in (('float32', False, (1, 8)), ('bfloat16', True, (1, 8)),
                          ('bfloat16', False, (1, 1))):
  place = functools.partial(mesh.shardings, mesh=mesh.make_mesh(*axes), family='gpt2')
  load = lambda path: huggingface.load_model(
    path, task='lm', param_dtype=dtype, scan=scan, place=place)[1]
  load(toy)  # What is imported, traced and started once.
  before = status('VmRSS')
  with open('/proc/self/clear_refs', 'w') as file:
    file.write('5')  # The peak counts from here.
  params = load(folder)
  peak = status('VmHWM') - before
  parts = [part.data.nbytes for x in jax.tree.leaves(params) for part in x.addressable_shards]
  found[f'{dtype} {scan} {axes}'] = {'peak': peak, 'parts': sum(parts)}
  del params
print(json.dumps(found))
"""


@pytest.mark.skipif(not os.path.exists('/proc/self/clear_refs'), reason='needs /proc of Linux')
def test_loading_takes_the_memory_of_its_parts_and_of_one_tensor(tmp_path):
  """The bound of the issue: a host's own parts and 1.5 of the largest tensor, mapped pages too."""
  sizes = {
    'toy': dict(vocab_size=512, hidden_size=64, num_layers=2, num_heads=2),
    'large': dict(vocab_size=16384, hidden_size=512, num_layers=8, num_heads=8),
  }
  rng = np.random.default_rng(0)
  for name, fields in sizes.items():
    model = huggingface.make_model(presets.architecture('gpt2', **fields), task='lm')
    shapes = huggingface.shapes(model)
    leaves = {path: rng.standard_normal(shape, np.float32) for path, shape in shapes.items()}
    huggingface.save_model(tmp_path / name, model, tree.unflatten(leaves))
  largest = leaves['embeddings/word/embedding'].nbytes
  total = tree.nbytes(leaves)
  assert total > 100e6 and 3 * largest < total  # Else one copy more would not show.
  environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)}
  environment['MALLOC_MMAP_THRESHOLD_'] = '65536'  # What a case frees is not the next one's.
  command = [sys.executable, '-c', MEASURE, tmp_path / 'toy', tmp_path / 'large']
  done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr
  for case, found in json.loads(done.stdout).items():
    assert 0.45 * total < found['parts'] < 1.05 * total, (case, found)
    assert found['peak'] > 0.9 * found['parts'], (case, found)  # It is measured at all.
    assert found['peak'] <= found['parts'] + 1.5 * largest, (case, found, largest)
