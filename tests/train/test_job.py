"""A job on a mesh: both parts lie there from the start, and are those of a job on one device."""

import json
import shutil

import jax
import numpy as np
import pytest

from lora_jax import tree
from lora_jax.models import presets
from lora_jax.pretrained import huggingface
from lora_jax.train import job, loop, mesh
from tests.train.runs import save_run

EIGHT = {'mesh.data': 2, 'mesh.fsdp': 2, 'mesh.tensor': 2}


@pytest.fixture(scope='module')
def base(tmp_path_factory):
  """A pretrained encoder in a folder."""
  config = presets.architecture(
    'bert', vocab_size=64, hidden_size=16, num_layers=2, num_heads=2, max_positions=32
  )
  model = huggingface.make_model(config, task='classification', num_labels=2)
  random = np.random.default_rng(0)
  leaves = {
    path: random.normal(0, 0.3, shape).astype('f')
    for path, shape in huggingface.shapes(model).items()
  }
  folder = tmp_path_factory.mktemp('base')
  huggingface.save_model(folder, model, tree.unflatten(leaves))
  return {'model.name': str(folder)}


def assert_same_on_a_mesh(config, **tolerance):
  devices = mesh.make_mesh(**config.mesh)
  one, many = job.load(config), job.load(config, devices=devices)
  for part in ('frozen', 'trainable'):
    found, expected = (tree.flatten(getattr(work, part)) for work in (many, one))
    trained = part == 'trainable'
    lies = mesh.shardings(getattr(one, part), devices, 'bert', trained, one.method.follows)
    assert found.keys() == expected.keys()
    for path, sharding in tree.flatten(lies).items():
      assert found[path].sharding == sharding, path
      assert found[path].dtype == expected[path].dtype, path
      np.testing.assert_allclose(found[path], expected[path], err_msg=path, **tolerance)
  assert any(not leaf.is_fully_replicated for leaf in jax.tree.leaves(many.frozen))


def test_a_base_and_the_factors_on_it(make_config, base):
  assert_same_on_a_mesh(make_config(**base, **EIGHT, **{'model.param_dtype': 'bfloat16'}), rtol=0)


def test_what_a_run_made_is_a_base_on_a_mesh(make_config, base, tmp_path):
  config = make_config(**base)
  work = job.load(config)
  random = np.random.default_rng(0)
  drawn = jax.tree.map(lambda x: random.normal(0, 0.1, x.shape).astype('f'), work.trainable)
  save_run(tmp_path, config, drawn)
  above = make_config(**EIGHT, **{'model.name': str(tmp_path)})
  assert_same_on_a_mesh(above, rtol=1e-5, atol=1e-6)
  merged = work.method.merge(work.frozen, drawn)
  query = 'encoder/layers/attention/query/kernel'
  assert np.abs(tree.flatten(merged)[query] - tree.flatten(work.frozen)[query]).max() > 0.01
  found = tree.flatten(job.load(above).frozen)[query]
  np.testing.assert_array_equal(found, tree.flatten(merged)[query])


def test_a_method_takes_the_base_as_it_is(make_config, base):
  config = make_config(**base)
  task = job.load_task(config)
  model, params = job.load_base(config, task)
  work = job.build(config, task, (model, params))
  given = tree.flatten(params)
  assert work.frozen and all(x is given[path] for path, x in tree.flatten(work.frozen).items())


def test_the_head_of_a_base_is_kept_on_request_alone(make_config, base, tmp_path):
  folder = tmp_path / 'base'
  shutil.copytree(base['model.name'], folder)
  values = json.loads((folder / 'config.json').read_text())
  values['id2label'] = {'0': 'POSITIVE', '1': 'Negative'}
  (folder / 'config.json').write_text(json.dumps(values))
  own = huggingface.load_model(folder, task='classification')[1]['classifier']['kernel']
  load = lambda head: job.load(
    make_config(**{'model.name': str(folder), 'model.head': head, 'data.limit': 4})
  )
  fresh = load('fresh').trainable['classifier']['kernel']
  assert not np.array_equal(fresh, own) and not np.array_equal(fresh, own[:, ::-1])
  np.testing.assert_array_equal(load('keep').trainable['classifier']['kernel'], own[:, ::-1])
  values['id2label'] = {'0': 'unacceptable', '1': 'acceptable'}
  (folder / 'config.json').write_text(json.dumps(values))
  with pytest.raises(
    ValueError, match='has the classes unacceptable, acceptable, the task has neg'
  ):
    load('keep')
  with pytest.raises(ValueError, match=r"config.model.head='new'"):
    load('new')


def test_a_decoder_classifies_by_its_last_token(make_config, tmp_path):
  """It learns the toy task, whose label the first tokens do not tell."""
  config = make_config(**{'model.fresh.family': 'llama', 'train.epochs': 4})
  work = job.load(config)
  assert work.model.head == ('score/.*',)
  assert work.task.train.reads_last and work.task.train.token_types is None
  result = loop.train(config, tmp_path / 'run')
  assert result['last']['train/loss'] < 0.8 * result['history'][0]['train/loss']
