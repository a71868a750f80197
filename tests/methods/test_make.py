"""Methods by name, as a config gives them."""

import pytest

from lora_jax.methods import make


def test_unknown_method_and_option():
  with pytest.raises(ValueError, match=r"unknown method 'loar'\. Did you mean 'lora'"):
    make('loar')
  with pytest.raises(ValueError, match=r"'lora' has no option 'ranks'\. Did you mean 'rank'"):
    make('lora', ranks=3)
  with pytest.raises(ValueError, match=r"method 'prefix_embde'\. Did you mean 'prefix_embed'"):
    make('lora+prefix_embde')
  for options in ({}, {'methods': ({'name': 'full'},), 'rank': 3}):
    with pytest.raises(ValueError, match=r"'compose' has the option 'methods' alone, found \["):
      make('compose', **options)
  with pytest.raises(ValueError, match='compose: expected one method or more'):
    make('compose', methods=())
