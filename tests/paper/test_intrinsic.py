"""The published intrinsic dimensions, as far as the abstract and the counts of models tell."""

import pytest

from lora_jax.cost import counts
from lora_jax.paper import intrinsic, translation


@pytest.mark.parametrize('model', ['RoBERTa-base', 'RoBERTa-large'])
def test_lora_of_rank_1_has_the_counts_of_the_models(model):
  options = dict(rank=1, targets=translation.QUERY_VALUE)
  found = counts.summarize_preset(model.lower(), 'lora', options, scan=True)
  (row,) = (row for row in intrinsic.ROWS if row.model == model)
  assert row.lora == found.trainable - found.head
  assert max(row.d90) < row.lora


def test_a_factor_for_each_layer_never_takes_more_dimensions():
  for row in intrinsic.ROWS:
    mrpc_said, qqp_said, mrpc_did, qqp_did = row.d90
    assert mrpc_said <= mrpc_did and qqp_said <= qqp_did
  assert round(intrinsic.ROWS[-1].d90[0], -2) == 200  # The abstract.
