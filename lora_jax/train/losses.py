"""Losses at label positions; classification and language modeling share cross-entropy."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
  """Cross-entropy in nats, float32 [...], with label smoothing as the authors' GPT-2 code has it.

  The smoothed loss is (1 - s) times the label's plus s times the mean over all K classes, the
  label's own among them.

  Args:
    logits: [..., K].
    labels: int [...], in [0, K).
    smoothing: s, in [0, 1).
  """
  logits = logits.astype(jnp.float32)
  # The label's logit by comparison and sum: a gather's gradient is a scatter into [..., K]. Without
  # it a full step of a GPT-2 (6 x 256, 50257 classes) took 0.78 s instead of 0.93 s on 2 cores.
  classes = jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
  picked = jnp.where(classes == labels[..., None], logits, 0.0).sum(-1)
  expected = (1 - smoothing) * picked
  if smoothing:
    expected += smoothing * logits.mean(-1)
  return jax.nn.logsumexp(logits, axis=-1) - expected


def squared_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Squared error, float32 [...], of the single output of each position (STS-B).

  Args:
    logits: [..., 1].
    labels: float [...].
  """
  return jnp.square(logits[..., 0].astype(jnp.float32) - labels)


def per_position(
  kind: str, logits: jax.Array, labels: jax.Array, smoothing: float = 0.0
) -> jax.Array:
  """The loss at each label position, float32 [...], for a task of that kind (`Task.kind`)."""
  if kind == 'regression':
    return squared_error(logits, labels)
  return cross_entropy(logits, labels, smoothing)
