"""Counts per pattern."""

import jax.numpy as jnp

from lora_jax import count, full, lora, summarize, tree
from tests.methods.toys import adapted


def test_summary_counts_per_pattern():
  method = lora(rank=2, alpha=1, targets=('.*/query', '.*/value'), train='classifier/.*')
  _, params, frozen, trainable, _ = adapted('loop', method)
  summary = summarize(method, frozen, trainable, head='classifier/.*')
  assert [(row.pattern, len(row.matched), row.parameters) for row in summary.rows] == [
    ('.*/query', 3, 3 * 2 * (6 + 6)),
    ('.*/value', 3, 3 * 2 * (6 + 6)),
    ('classifier/.*', 2, 6 * 2 + 2),
  ]
  assert (summary.head, summary.trainable) == (14, 14 + 2 * 72)
  assert summary.frozen == count(params) - 14
  assert '.*/query' in str(summary)
  assert 'of them 14 in the task head' in str(summary)


def test_no_head_is_mentioned_where_none_was_named_and_a_low_precision_is():
  method = lora(rank=2, alpha=1, targets='.*/query', train='classifier/.*')
  _, _, frozen, trainable, _ = adapted('loop', method)
  said = str(summarize(method, frozen, trainable))
  assert 'head' not in said and 'float' not in said
  trainable['classifier'] = tree.cast(trainable['classifier'], jnp.bfloat16)
  summary = summarize(method, frozen, trainable)
  assert summary.low_precision == {'bfloat16': 14}
  assert '14 of the trained are bfloat16' in str(summary)


def test_summary_names_what_no_pattern_matches():
  method = lora(rank=2, alpha=1, targets='.*/query', bias='all')
  _, _, frozen, trainable, _ = adapted('loop', method)
  rows = summarize(method, frozen, trainable).rows
  # The adapted modules' own biases are found at their pattern, the others have none.
  assert [(row.pattern, row.parameters) for row in rows] == [
    ('.*/query', 3 * (2 * 12 + 6)),
    ('(others)', 3 * (6 + 6) + 2),
  ]


def test_a_model_without_parameters_is_summarized():
  assert 'trained 0 of 0 (0.000%); frozen 0 (0.0 MB)' in str(summarize(full(), {}, {}))
