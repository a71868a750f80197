"""The plain LoRA nearest to any update: exact where its rank suffices, else its error is said."""

import numpy as np
import pytest

from lora_jax import methods, tree
from lora_jax.adapters import peft, plain_lora
from tests.adapters import toys
from tests.adapters.toys import QV, export_of, make, model_of

# The least rank that holds each update: PiSSA subtracts as many columns, DoRA scales the weight.
EXACT = {
  'bert.vera': 5,
  'bert.patterns': 4,
  'bert.pissa': 8,
  'gpt2.olora': 6,
  'bert.dora': 24,
  'gpt2.rslora': 3,
}


def nearest(adapter, rank):
  return plain_lora.nearest(adapter, rank, model_of(adapter.config.family)[1])


def updates(adapter):
  """What a method adds to each leaf of the toy encoder that it changes."""
  before = tree.flatten(model_of(adapter.config.family)[1])
  _, method, frozen = toys.parts_of(adapter)
  merged = tree.flatten(method.merge(frozen, adapter.trainable))
  found = {path: np.asarray(merged[path], np.float64) - before[path] for path in before}
  return {path: x for path, x in found.items() if x.any() and path.startswith('encoder')}


@pytest.mark.parametrize('case', EXACT)
def test_a_rank_that_suffices_is_exact(case, tmp_path):
  adapter = export_of(case)
  found = nearest(adapter, EXACT[case])
  assert found.error < 1e-6
  toys.fits(found.adapter)
  method = found.adapter.method
  assert (method['rank'], method['alpha'], method['dora'], method['bias']) == (
    EXACT[case],
    EXACT[case],
    False,
    'none',
  )
  wanted = toys.logits(adapter)
  np.testing.assert_allclose(toys.logits(found.adapter), wanted, atol=2e-5 * np.abs(wanted).max())
  peft.write(found.adapter, tmp_path)
  assert not [line for line in peft.vllm_limits(tmp_path) if 'modules_to_save' not in line]
  toys.same(peft.read(tmp_path), found.adapter)


@pytest.mark.parametrize('case', ['bert.dora', 'bert.pissa'])
def test_a_smaller_rank_is_the_nearest_and_its_error_is_that_of_the_weights(case):
  adapter = export_of(case)
  found = nearest(adapter, 3)
  exact, written = updates(adapter), updates(found.adapter)
  assert exact.keys() == written.keys()
  rest = {path: np.linalg.norm(exact[path] - written[path]) for path in exact}
  for path, x in exact.items():
    best = np.linalg.norm(np.linalg.svd(x, compute_uv=False)[3:])
    assert rest[path] == pytest.approx(best, rel=1e-4)
    module = path.removesuffix('/kernel')
    assert found.errors[module] == pytest.approx(rest[path] / np.linalg.norm(x), rel=1e-4)
  norm = lambda values: np.linalg.norm(list(values))
  whole = norm(np.linalg.norm(x) for x in exact.values())
  assert found.error == pytest.approx(norm(rest.values()) / whole, rel=1e-4)
  assert 0 < found.error < max(found.errors.values()) < 1


def test_matrices_that_were_trained_whole_become_factors():
  model, params = model_of('bert')
  path = 'encoder/layers_1/mlp/up/kernel'
  leaves = tree.flatten(params)
  rng = np.random.default_rng(0)
  update = rng.normal(size=(24, 2)) @ rng.normal(size=(2, 40))
  changed = {path: np.asarray(leaves[path] + update, np.float32)}
  full = make('bert', targets=QV)._replace(method={'name': 'full'})
  full = full._replace(trainable=tree.unflatten(leaves | changed))
  found = nearest(full, 2)
  assert found.error < 1e-5 and list(found.errors) == [path.removesuffix('/kernel')]
  assert found.adapter.method['train'] == tuple(model.head)
  np.testing.assert_allclose(updates(found.adapter)[path], update, atol=1e-5)
  norm = {'embeddings/norm/scale': 2 * leaves['embeddings/norm/scale']}
  more = full._replace(trainable=tree.unflatten(leaves | changed | norm))
  with pytest.raises(ValueError, match=r'trained besides: embeddings/norm/scale\. Export a merged'):
    nearest(more, 2)


@pytest.mark.parametrize(
  ('case', 'rank', 'problem'),
  [
    ('bert.all', 4, 'trained besides: .*/bias'),
    ('bert.norms', 4, 'trained besides: encoder/layers_1/mlp_norm/'),
    ('bert.plain', 0, 'rank=0: a rank is a whole number from 1 up'),
  ],
)
def test_what_a_plain_lora_has_no_place_for_is_named(case, rank, problem):
  with pytest.raises(ValueError, match=problem):
    nearest(export_of(case), rank)


def test_a_base_is_asked_for_where_it_is_needed():
  with pytest.raises(ValueError, match=r'of lora with dora=True is not a product.*--base=FOLDER'):
    plain_lora.nearest(export_of('bert.dora'), 4)
  assert plain_lora.nearest(export_of('bert.pissa'), 8).error < 1e-6


def test_a_method_that_cannot_be_merged_says_so():
  adapter = make('bert', targets=QV)
  trained = {'name': 'adapter_h', 'bottleneck': 2, 'train': ()}
  init = methods.make(**trained).init
  model, params = model_of('bert')
  _, own = init(toys.jax.random.key(0), model, params, np.zeros((1, 4), np.int32))
  with pytest.raises(ValueError, match='no weights of the base model compute it'):
    nearest(adapter._replace(method=trained, trainable=own), 4)
