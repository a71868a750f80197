"""A head's own modules: which go with the output, and its outputs in another order."""

import numpy as np
import pytest

from lora_jax import tree
from lora_jax.pretrained import head, load_model
from tests.adapters.toys import GOLDEN

MODELS = GOLDEN / 'models'


@pytest.mark.parametrize('family', ['bert', 'roberta', 'deberta-v2'])
def test_the_outputs_change_places_and_nothing_else(family):
  model, params = load_model(MODELS / family, task='classification')
  outputs = list(reversed(range(model.num_labels)))
  before, after = (tree.flatten(x) for x in (params, head.reorder(model, params, outputs)))
  moved = {path for path in before if not np.array_equal(before[path], after[path])}
  module = 'classifier/output' if family == 'roberta' else 'classifier'
  assert moved == {f'{module}/kernel', f'{module}/bias'}
  for path in moved:
    np.testing.assert_array_equal(after[path], before[path][..., ::-1])


def test_a_fresh_output_leaves_the_pooler():
  model, params = load_model(MODELS / 'bert', task='classification')
  before, after = (tree.flatten(x) for x in (params, head.fresh_output(model, params, 0)))
  moved = {path for path in before if not np.array_equal(before[path], after[path])}
  assert moved == {'classifier/kernel', 'classifier/bias'}
