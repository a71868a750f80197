"""Losses. Classification and language modelling share one: a class for each read-out of a row."""

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
  log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
  loss = -jnp.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0]
  if smoothing:
    loss = (1 - smoothing) * loss - smoothing * log_p.mean(-1)
  return loss


def squared_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Squared error, float32 [...], of the single output of each read-out (STS-B).

  Args:
    logits: [..., 1].
    labels: float [...].
  """
  return jnp.square(logits[..., 0].astype(jnp.float32) - labels)


def per_readout(kind: str, logits: jax.Array, labels: jax.Array, smoothing: float = 0.0):
  """The loss of each read-out, float32 [...], for a task of that kind (`Task.kind`)."""
  if kind == 'regression':
    return squared_error(logits, labels)
  return cross_entropy(logits, labels, smoothing)
