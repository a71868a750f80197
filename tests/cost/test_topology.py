"""Topologies by name."""

import pytest

from lora_jax import cost


@pytest.mark.parametrize(
  ('name', 'expected'),
  [('v7:2x2', 'v4, v5e, v5p, v6e'), ('v5e:3x3', 'v5e comes as 1x1'), ('v5p', 'v5p comes as 2x2x1')],
)
def test_unknown_slices_are_named(name, expected):
  with pytest.raises(ValueError, match=expected):
    cost.find(name)
