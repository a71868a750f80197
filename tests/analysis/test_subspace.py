"""Similarity, spectra and amplification on matrices whose answer is known by construction."""

import math

import numpy as np
import pytest

from lora_jax.analysis import amplification, factors, pair, single, spectra, subspace
from lora_jax.methods import lora

D, K = 40, 24


def orthogonal(size, seed=0):
  return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


def spanned(basis, values, seed=1):
  """A matrix [d, r] with these left-singular vectors and falling singular values."""
  return basis * np.asarray(values) @ orthogonal(basis.shape[1], seed)


def update(a, b, scale=1.0, path='encoder/layers_0/attention/query'):
  return factors.Update(path, 0, 'query', np.asarray(a, float), np.asarray(b, float), scale)


Q = orthogonal(D)
FIRST = [4.0, 3.0, 2.0, 1.0]
PLANTED = {
  # The second matrix's directions among the columns of Q, and phi[i - 1][j - 1] where all know it.
  'identical': ([0, 1, 2, 3], {(1, 1): 1, (2, 2): 1, (4, 4): 1, (1, 4): 1, (4, 1): 1}),
  'orthogonal': ([4, 5, 6, 7], {(1, 1): 0, (4, 4): 0, (1, 4): 0}),
  'shuffled': ([3, 2, 1, 0], {(1, 1): 0, (1, 3): 0, (1, 4): 1, (2, 2): 0, (3, 3): 2 / 3}),
  'one in common': ([0, 5, 6, 7], {(1, 1): 1, (2, 2): 1 / 2, (4, 4): 1 / 4, (1, 4): 1}),
  'inside a larger one': ([0, 1, 2, 3, 8, 9], {(4, 6): 1, (2, 6): 1, (4, 4): 1}),
}  # fmt: skip


@pytest.mark.parametrize('case', PLANTED)
def test_planted_subspaces(case):
  columns, expected = PLANTED[case]
  second = spanned(Q[:, columns], range(len(columns), 0, -1), seed=2)
  one, two = subspace.directions(spanned(Q[:, :4], FIRST)), subspace.directions(second)
  phi = subspace.similarity(one, two)
  assert phi.shape == (4, len(columns))
  for (i, j), value in expected.items():
    assert phi[i - 1, j - 1] == pytest.approx(value, abs=1e-12)
  np.testing.assert_allclose(subspace.similarity(two, one), phi.T, atol=1e-12)


def test_an_angle_between_two_lines():
  one = np.array([[1.0], [0.0], [0.0]])
  two = np.array([[math.cos(0.3)], [math.sin(0.3)], [0.0]])
  assert subspace.similarity(one, two)[0, 0] == pytest.approx(math.cos(0.3) ** 2)


def test_the_map_is_the_definition_cell_by_cell():
  one, two = orthogonal(D, 3)[:, :5], orthogonal(D, 4)[:, :9]
  phi = subspace.similarity(one, two)
  for i in range(1, 6):
    for j in range(1, 10):
      inner = np.linalg.norm(one[:, :i].T @ two[:, :j]) ** 2 / min(i, j)
      assert phi[i - 1, j - 1] == pytest.approx(inner, abs=1e-12)


def test_random_subspaces_overlap_by_chance():
  random = np.random.default_rng(0)
  mean = np.mean(
    [
      subspace.similarity(
        subspace.random_directions(random, D, 4), subspace.random_directions(random, D, 10)
      )
      for _ in range(400)
    ],
    axis=0,
  )
  expected = [[subspace.chance(i, j, D) for j in range(1, 11)] for i in range(1, 5)]
  np.testing.assert_allclose(mean, expected, atol=0.015)


def test_padded_factors_have_the_directions_of_their_rank_only():
  padded = np.concatenate([spanned(Q[:, :3], [3, 2, 1]), np.zeros((D, 5))], axis=1)
  assert subspace.directions(padded).shape == (D, 3)
  with pytest.raises(ValueError, match='zeros'):
    subspace.directions(np.zeros((D, 2)))
  with pytest.raises(ValueError, match='40 and 24 dimensions'):
    subspace.similarity(Q, orthogonal(K))


def test_our_lora_a_is_the_papers_a_transposed():
  """The directions compared are of the layer's input: what is equal there is equal, whatever b."""
  random = np.random.default_rng(5)
  a = spanned(Q[:, :4], FIRST)
  one, two = (update(a, random.standard_normal((4, K))) for _ in range(2))
  papers_a = a.T  # [r, d_in]
  right_singular = np.linalg.svd(papers_a, full_matrices=False)[2].T  # U of section 7.2: [d_in, r]
  np.testing.assert_allclose(subspace.similarity(right_singular, pair.directions(one, 'a')),
                             subspace.similarity(Q[:, :4], Q[:, :4]), atol=1e-12)  # fmt: skip
  (entry,) = pair.compare([one], [two])['maps']
  assert entry['phi'][0, 0] == pytest.approx(1)
  assert pair.compare([one], [two], of='update')['maps'][0]['phi'][0, 0] < 0.99
  assert pair.compare([one], [two], of='update')['maps'][0]['whole'] == pytest.approx(1)


@pytest.mark.parametrize('rank', [1, 3, 24, 60])
def test_thin_svd_is_that_of_the_product(rank):
  random = np.random.default_rng(rank)
  a, b = random.standard_normal((D, rank)), random.standard_normal((rank, K))
  inputs, values, outputs = factors.thin_svd(update(a, b, scale=2.0))
  assert len(values) == min(rank, K)
  np.testing.assert_allclose(inputs * values @ outputs.T, 2 * a @ b, atol=1e-9)
  for side in (inputs, outputs):
    np.testing.assert_allclose(side.T @ side, np.eye(len(values)), atol=1e-10)


def test_ranks_of_spectra():
  assert spectra.effective_rank([3, 3, 3, 3]) == pytest.approx(4)
  assert spectra.stable_rank([3, 3, 3, 3]) == pytest.approx(4)
  assert spectra.effective_rank([5, 0, 0]) == spectra.stable_rank([5, 0, 0]) == 1
  assert spectra.stable_rank([2, 1]) == pytest.approx(1.25)
  shares = np.array([2 / 3, 1 / 3])
  assert spectra.effective_rank([2, 1]) == pytest.approx(np.exp(-shares @ np.log(shares)))
  assert spectra.effective_rank([]) == spectra.stable_rank([0.0]) == 0


def test_table7_of_an_update_that_amplifies_planted_directions():
  """W has 0.5 on the update's two directions, the update has 6 and 8: 10 / (0.5 * sqrt(2))."""
  left, right = orthogonal(D, 6), orthogonal(K, 7)
  values = np.array([9.0, 7.0, 0.5, 0.5, *np.zeros(K - 4)])
  weight = left[:, :K] * values @ right.T
  a, b = left[:, 2:4] * np.array([4, 3]), right[:, 2:4].T
  svd = factors.thin_svd(update(a, b, scale=2.0))
  row = amplification.measure(weight, svd, np.sort(values)[::-1], np.random.default_rng(0))
  assert row.rank == 2
  assert row.update == pytest.approx(10)
  assert row.weight == pytest.approx(np.linalg.norm(values))
  assert row.on_update == pytest.approx(0.5 * math.sqrt(2))
  assert row.on_weight == pytest.approx(math.hypot(9, 7))
  assert row.amplification == pytest.approx(10 / (0.5 * math.sqrt(2)))


def test_a_random_projection_is_as_small_as_the_papers():
  """r ||W|| / sqrt(d k): table 7 has 0.02 for ||W|| = 61.95, r = 4, d = k = 12288."""
  random = np.random.default_rng(0)
  weight = random.standard_normal((D, K))
  svd = factors.thin_svd(update(random.standard_normal((D, 4)), random.standard_normal((4, K))))
  values = np.linalg.svd(weight, compute_uv=False)
  rows = [amplification.measure(weight, svd, values, random).on_random ** 2 for _ in range(400)]
  expected = 4 * np.linalg.norm(weight) / math.sqrt(D * K)
  assert math.sqrt(np.mean(rows)) == pytest.approx(expected, rel=0.05)
  assert round(4 * 61.95 / 12288, 2) == 0.02


def trained(scanned=False, layers=3, rank=2, seed=0):
  random = np.random.default_rng(seed)
  draw = lambda *shape: random.standard_normal(shape).astype(np.float32)
  pairs = [{'lora_a': draw(D, rank), 'lora_b': draw(rank, K)} for _ in range(layers)]
  if scanned:
    stacked = {name: np.stack([each[name] for each in pairs]) for name in pairs[0]}
    return {'encoder': {'layers': {'attention': {'query': stacked}}}}
  return {'encoder': {f'layers_{i}': {'attention': {'query': x}} for i, x in enumerate(pairs)}}


OPTIONS = {'name': 'lora', 'rank': 2, 'alpha': 6.0, 'targets': ['.*/query'], 'train': []}


@pytest.mark.parametrize(
  'options, scale',
  [
    ({}, 3.0),
    ({'rslora': True}, 6 / math.sqrt(2)),
    ({'alpha': {r'.*/query': 5.0, '.*': 1.0}}, 2.5),
    ({'name': 'lora+prefix_embed', 'before': 4}, 3.0),
  ],
)
def test_the_scale_is_the_methods_own(options, scale):
  found = factors.updates(trained(), OPTIONS | options)
  assert [update.scale for update in found] == pytest.approx([scale] * 3)


def test_an_update_is_what_merging_adds():
  weight = {'attention': {'query': {'kernel': np.zeros((D, K), np.float32)}}}
  frozen = {'encoder': {f'layers_{i}': weight for i in range(3)}}
  merged = lora(rank=2, alpha=6.0).merge(frozen, trained())
  for update in factors.updates(trained(), OPTIONS):
    inputs, values, outputs = factors.thin_svd(update)
    layer = merged['encoder'][f'layers_{update.layer}']['attention']['query']['kernel']
    np.testing.assert_allclose(inputs * values @ outputs.T, layer, atol=1e-4)


def test_scanned_layers_are_the_looped_ones():
  looped, scanned = (factors.updates(trained(s), OPTIONS) for s in (False, True))
  assert [u.path for u in looped] == [u.path for u in scanned]
  assert [u.layer for u in scanned] == [0, 1, 2]
  kernels = np.random.default_rng(1).standard_normal((3, D, K))
  place = lambda x: {'attention': {'query': {'kernel': x}}}
  frozen = [{'encoder': {f'layers_{i}': place(kernels[i]) for i in range(3)}},
            {'encoder': {'layers': place(kernels)}}]  # fmt: skip
  one, two = (single.measure(u, f) for u, f in zip((looped, scanned), frozen))
  assert one['table7'] == two['table7']
  assert [row['layer'] for row in one['table7']] == [0, 1, 2]
  assert [row['update'] for row in one['table7']] == pytest.approx(
    [row['norm'] for row in one['spectra']]
  )


def test_layers_that_share_a_subspace_are_found():
  """Layers 0 and 2 read the same directions and write others; layer 1 reads orthogonal ones."""
  left, right = orthogonal(D, 8), orthogonal(K, 9)
  found = [
    update(left[:, cols], right[:, out].T, path=f'encoder/layers_{i}/attention/query')._replace(
      layer=i
    )
    for i, (cols, out) in enumerate([([0, 1], [0, 1]), ([2, 3], [2, 3]), ([1, 0], [4, 5])])
  ]
  inputs, outputs = single.measure(found)['layers']
  assert (inputs['side'], outputs['side']) == ('input', 'output')
  np.testing.assert_allclose(inputs['whole'], [[1, 0, 1], [0, 1, 0], [1, 0, 1]], atol=1e-12)
  np.testing.assert_allclose(outputs['whole'], np.eye(3), atol=1e-12)
  assert inputs['whole_by_chance'] == 2 / D


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


ZERO = trained()
ZERO['encoder']['layers_1']['attention']['query']['lora_b'][:] = 0
NAN = trained()
NAN['encoder']['layers_1']['attention']['query']['lora_b'][0, 0] = np.nan


@pytest.mark.parametrize(
  'act, words',
  [
    (lambda u: factors.updates({'x': {'bias': np.ones(3)}}, {'name': 'bitfit'}), 'bitfit.*x/bias'),
    (lambda u: factors.updates(trained(rank=0), OPTIONS), 'rank 0'),
    (lambda u: factors.updates(NAN, OPTIONS), 'layers_1.*diverged'),
    (lambda u: single.measure(factors.updates(ZERO, OPTIONS)), 'layers_1.*is zero'),
    (lambda u: single.measure(u, layers=[3, 9]), r'layers \[3, 9\].*0, 1, 2'),
    (lambda u: single.measure(u, matrices=['qurey']), "'qurey' matches no adapted matrix.*query"),
    (lambda u: single.measure(u, {}), 'layers_0/attention/query/kernel.*missing'),
    (lambda u: pair.compare(u, u, layers=[3]), r'layers \[3\]'),
    (lambda u: pair.compare(u, u, of='c'), "of='c'"),
    (lambda u: pair.compare(u, [x._replace(a=x.a[:-1]) for x in u]), 'different bases'),
    (lambda u: pair.compare(u, [x._replace(path='y', matrix='key') for x in u]), 'in common.*key'),
  ],
)  # fmt: skip
def test_mistakes_are_named(act, words):
  with pytest.raises(ValueError, match=f'(?s){words}'):
    act(factors.updates(trained(), OPTIONS))
