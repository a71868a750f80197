"""Query, key and value of GPT-2's `c_attn` as one pair of factors, as PEFT stores them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lora_jax.adapters.parts import Pair


def fuse(thirds: Mapping[int, Pair]) -> Pair:
  """One pair with exactly the update of up to three pairs.

  Its rank R is the sum of their ranks. Its a [in, R] holds theirs side by side; its b [R, 3 d] is
  zero outside of each pair's own rows and columns. Its scale is the largest of theirs, and the b of
  a pair with a smaller scale is multiplied by the ratio.

  Args:
    thirds: pairs of query (0), key (1) and value (2).

  Raises:
    ValueError: if scales differ by a factor that is not a power of two, which would round b.
  """
  members = sorted(thirds.items())
  rank = sum(pair.rank for _, pair in members)
  largest = max((pair for _, pair in members), key=lambda pair: pair.scale)
  width = largest.b.shape[-1]
  b = np.zeros((rank, 3 * width), np.float32)
  start = 0
  for third, pair in members:
    ratio = pair.scale / largest.scale
    if math.frexp(ratio)[0] != 0.5:
      raise ValueError(
        f'query, key and value have the scales {[pair.scale for _, pair in members]}. In PEFT they '
        'are one module with one scale, which holds them exactly only if the scales differ by a '
        'power of two. Train them with one scale, or export a merged model.'
      )
    rows = slice(start, start + pair.rank)
    b[rows, third * width : (third + 1) * width] = pair.b * np.float32(ratio)
    start += pair.rank
  times = rank / largest.rank
  alpha = largest.alpha * (math.sqrt(times) if largest.rslora else times)
  a = np.concatenate([pair.a for _, pair in members], axis=-1)
  lengths = [pair.magnitude for _, pair in members if pair.magnitude is not None]
  if 0 < len(lengths) < 3:
    raise ValueError(
      'PEFT trains the lengths of query, key and value together (DoRA): adapt all three, or export '
      'a merged model.'
    )
  return Pair(a, b, alpha, largest.rslora, np.concatenate(lengths) if lengths else None)


def separate(pair: Pair) -> dict[int, Pair]:
  """Pairs of query, key and value that share a, with the update of one pair on all three."""
  lengths = _thirds(pair)
  parts = enumerate(np.split(pair.b, 3, axis=-1))
  return {i: pair._replace(b=b, magnitude=lengths[i]) for i, b in parts}


def _thirds(pair: Pair) -> Sequence[np.ndarray | None]:
  return [None] * 3 if pair.magnitude is None else np.split(pair.magnitude, 3)


def unfuse(pair: Pair, alphas: Mapping[int, float], ranks: Mapping[int, int]) -> dict[int, Pair]:
  """The inverse of `fuse`, to the last bit, given the `alphas` and `ranks` of its pairs.

  Raises:
    ValueError: if the pair does not have that structure.
  """
  rank, width = sum(ranks.values()), pair.b.shape[-1] // 3
  rest, lengths = pair.b.copy(), _thirds(pair)
  thirds, start = {}, 0
  for third, r in sorted(ranks.items()):
    rows, columns = slice(start, start + r), slice(third * width, (third + 1) * width)
    part = Pair(pair.a[:, rows], pair.b[rows, columns], alphas[third], pair.rslora, lengths[third])
    ratio = 2.0 ** round(math.log2(part.scale / pair.scale))
    thirds[third] = part._replace(b=part.b / np.float32(ratio))
    rest[rows, columns] = 0
    start += r
  if rank != pair.rank or rest.any():
    raise ValueError('its factors are not the blocks of query, key and value that were exported')
  return thirds
