"""Matrices and updates whose answer is known by construction."""

import numpy as np

from lora_jax.analysis import factors

D, K = 40, 24


def orthogonal(size, seed=0):
  return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


def spanned(basis, values, seed=1):
  """A matrix [d, r] with these left-singular vectors and falling singular values."""
  return basis * np.asarray(values) @ orthogonal(basis.shape[1], seed)


def update(a, b, scale=1.0, path='encoder/layers_0/attention/query'):
  return factors.Update(path, 0, 'query', np.asarray(a, float), np.asarray(b, float), scale)


def trained(scanned=False, layers=3, rank=2, seed=0):
  random = np.random.default_rng(seed)
  draw = lambda *shape: random.standard_normal(shape).astype(np.float32)
  pairs = [{'lora_a': draw(D, rank), 'lora_b': draw(rank, K)} for _ in range(layers)]
  if scanned:
    stacked = {name: np.stack([each[name] for each in pairs]) for name in pairs[0]}
    return {'encoder': {'layers': {'attention': {'query': stacked}}}}
  return {'encoder': {f'layers_{i}': {'attention': {'query': x}} for i, x in enumerate(pairs)}}


OPTIONS = {'name': 'lora', 'rank': 2, 'alpha': 6.0, 'targets': ['.*/query'], 'train': []}
