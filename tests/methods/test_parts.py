"""The two parts of a bound `apply`: each mistake is one sentence, and other divisions are none."""

import numpy as np
import pytest

from lora_jax import bind, join, split
from lora_jax.methods import parts
from tests.methods.toys import METHOD, adapted


def test_parts_that_are_swapped_or_left_out_are_named():
  model, _, frozen, trainable, x = adapted('loop', METHOD)
  apply = bind(model.apply, METHOD)
  with pytest.raises(ValueError, match=r'swapped: the first holds .*lora_., the second .*kernel'):
    apply(trainable, frozen, x)
  for given, name in (((trainable, x), 'trainable'), ((x, trainable), 'frozen')):
    with pytest.raises(TypeError, match=rf'{name} is of the type \w*Array.*\(frozen, trainable'):
      parts.check(METHOD.follows, *given)


def test_factors_of_a_module_that_is_not_there_are_named():
  """They would lie in the tree unused, and the model would be the base."""
  model, _, frozen, trainable, x = adapted('loop', METHOD)
  name = next(iter(trainable))
  misnamed = {f'{other}s' if other == name else other: x for other, x in trainable.items()}
  with pytest.raises(ValueError, match=rf'{name}s/.*lora_a.*: the model has no parameters there'):
    bind(model.apply, METHOD)(frozen, misnamed, x)


def test_the_leaves_may_be_divided_otherwise():
  model, _, frozen, trainable, x = adapted('loop', METHOD)
  apply = bind(model.apply, METHOD)
  expected = apply(frozen, trainable, x)
  np.testing.assert_array_equal(apply(join(frozen, trainable), {}, x), expected)
  rest, some = split(trainable, '.*/lora_b')
  np.testing.assert_array_equal(apply(join(frozen, rest), some, x), expected)
