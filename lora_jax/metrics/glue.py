"""GLUE's metrics, in [0, 1] or [-1, 1]. The paper prints them times 100."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lora_jax.errors import nearest


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
  """Share of predictions that equal the label."""
  return float(np.mean(labels == predictions))


def f1(labels: np.ndarray, predictions: np.ndarray) -> float:
  """F1 of class 1; 0 if it is neither predicted nor present."""
  hits = np.sum((labels == 1) & (predictions == 1))
  total = np.sum(labels == 1) + np.sum(predictions == 1)
  return float(2 * hits / total) if total else 0.0


def macro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
  """The mean F1 of the classes that are predicted or present."""
  classes = np.unique(np.concatenate([labels, predictions]))
  return float(np.mean([f1(labels == each, predictions == each) for each in classes]))


def matthews(labels: np.ndarray, predictions: np.ndarray) -> float:
  """Matthews correlation of class ids, of any number of classes; 0 if either side is constant."""
  classes, codes = np.unique(np.concatenate([labels, predictions]), return_inverse=True)
  truth, guess = np.eye(len(classes))[codes].reshape(2, len(labels), -1)
  cov = lambda x, y: np.sum(x * y) * len(labels) - x.sum(0) @ y.sum(0)
  norm = np.sqrt(cov(truth, truth) * cov(guess, guess))
  return float(cov(truth, guess) / norm) if norm else 0.0


def pearson(labels: np.ndarray, predictions: np.ndarray) -> float:
  """Pearson correlation of values; 0 if either side is constant, where it is undefined."""
  if is_constant(labels) or is_constant(predictions):
    return 0.0
  x, y = labels - np.mean(labels), predictions - np.mean(predictions)
  return float(np.clip(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)), -1.0, 1.0))


def spearman(labels: np.ndarray, predictions: np.ndarray) -> float:
  """Pearson correlation of ranks, with ties at their mean rank; 0 if either side is constant."""
  from scipy.stats import rankdata  # It takes half a second, of the start of every command.

  return pearson(rankdata(labels), rankdata(predictions))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
  'accuracy': accuracy,
  'f1': f1,
  'macro_f1': macro_f1,
  'matthews': matthews,
  'pearson': pearson,
  'spearman': spearman,
}


def is_constant(predictions: np.ndarray) -> bool:
  """Whether all predictions are equal: then the model has collapsed, whatever the accuracy is."""
  return bool(np.ptp(predictions) == 0)


def score(names: Sequence[str], labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
  """The named metrics, and `constant`: 1 if all predictions are the same, else 0.

  Args:
    names: of `METRICS`.
    labels: [n] class ids or values.
    predictions: [n] class ids (not logits) or values.

  Raises:
    ValueError: for an unknown metric, unequal or empty inputs, or values that are not finite.
  """
  if unknown := [name for name in names if name not in METRICS]:
    raise ValueError(f'unknown metric {unknown[0]!r}. {nearest(unknown[0], METRICS)}')
  labels, predictions = np.asarray(labels, np.float64), np.asarray(predictions, np.float64)
  if labels.ndim != 1 or labels.shape != predictions.shape or not len(labels):
    raise ValueError(
      f'expected as many predictions as labels, one of each per example; found labels of shape '
      f'{labels.shape} and predictions of shape {predictions.shape}'
    )
  if not np.all(np.isfinite(predictions)):
    bad = int(np.flatnonzero(~np.isfinite(predictions))[0])
    raise ValueError(f'prediction {bad} of {len(labels)} is {predictions[bad]}, not finite')
  scores = {name: METRICS[name](labels, predictions) for name in names}
  return {**scores, 'constant': float(is_constant(predictions))}
