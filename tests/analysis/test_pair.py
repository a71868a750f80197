"""Two runs compared: directions in the input and in the output, layers, and mistakes."""

import numpy as np
import pytest

from lora_jax.analysis import factors, pair, subspace
from tests.analysis.planted import OPTIONS, D, K, orthogonal, spanned, trained, update

Q = orthogonal(D)
FIRST = [4.0, 3.0, 2.0, 1.0]


def test_our_lora_a_is_the_papers_a_transposed():
  """The directions compared are of the layer's input: what is equal there is equal, whatever b."""
  random = np.random.default_rng(5)
  a = spanned(Q[:, :4], FIRST)
  one, two = (update(a, random.standard_normal((4, K))) for _ in range(2))
  papers_a = a.T  # [r, d_in]
  right_singular = np.linalg.svd(papers_a, full_matrices=False)[2].T  # U of section 7.2: [d_in, r]
  np.testing.assert_allclose(
    subspace.similarity(right_singular, pair.directions(one, 'a')),
    subspace.similarity(Q[:, :4], Q[:, :4]),
    atol=1e-12,
  )
  (entry,) = pair.compare([one], [two])['maps']
  assert entry['phi'][0, 0] == pytest.approx(1)
  assert pair.compare([one], [two], of='update')['maps'][0]['phi'][0, 0] < 0.99
  assert pair.compare([one], [two], of='update')['maps'][0]['whole'] == pytest.approx(1)


def test_b_is_compared_in_the_output():
  left, right = orthogonal(D, 10), orthogonal(K, 11)
  one = update(left[:, :3], right[:, :3].T)
  two = update(left[:, 3:6], right[:, 1:4].T)
  (reads,) = pair.compare([one], [two])['maps']
  (writes,) = pair.compare([one], [two], of='b')['maps']
  assert (reads['dimension'], writes['dimension']) == (D, K)
  assert reads['whole'] == pytest.approx(0)
  assert writes['whole'] == pytest.approx(2 / 3)


def test_layers_of_two_runs():
  one, two = (factors.updates(trained(layers=7, seed=s), OPTIONS) for s in (0, 1))
  found = pair.compare(one, two)
  assert (found['spread'], found['middle']) == ([0, 2, 4, 6], 3)
  assert sorted({entry['layer'] for entry in found['maps']}) == [0, 2, 3, 4, 6]
  assert found['control'][0]['ranks'] == [2, 2]
  chosen = pair.compare(one, two, layers=[5])
  assert (chosen['spread'], chosen['middle']) == ([5], 5)


@pytest.mark.parametrize(
  'change, options, words',
  [
    (lambda x: x, dict(layers=[3]), r'layers \[3\]'),
    (lambda x: x, dict(of='c'), "of='c': .*Known: a, b, update"),
    (lambda x: x._replace(a=x.a[:-1]), {}, 'different bases'),
    (lambda x: x._replace(path='y', matrix='key'), {}, 'in common.*key'),
    (lambda x: x._replace(a=0 * x.a), {}, 'a is zero'),
  ],
)
def test_mistakes_are_named(change, options, words):
  found = factors.updates(trained(), OPTIONS)
  with pytest.raises(ValueError, match=words):
    pair.compare(found, [change(update) for update in found], **options)


def test_a_matrix_outside_of_the_layers_is_no_matrix_to_compare():
  found = [update._replace(layer=None) for update in factors.updates(trained(layers=1), OPTIONS)]
  with pytest.raises(ValueError, match=r'in common that lies in a numbered layer: .*query'):
    pair.compare(found, found)
