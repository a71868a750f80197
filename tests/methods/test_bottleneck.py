"""Where adapters sit."""

from lora_jax import tree
from tests.methods.laws import adapted_model


def test_adapters_are_where_they_should_be():
  paths = lambda name: {
    path.split('/adapter/')[0]
    for path in tree.paths(adapted_model(name, 'roberta')[-1])
    if 'adapter' in path
  }
  layers = [f'encoder/layers_{i}' for i in range(2)]
  both = {f'{layer}/{place}_branch' for layer in layers for place in ('attention', 'mlp')}
  assert paths('adapter_h') == both
  assert paths('adapter_l') == {*layers}
  assert paths('adapter_p') == {f'{layer}/mlp_branch' for layer in layers}
  assert paths('adapter_d') == {f'{layer}/mlp_branch' for layer in layers[1:]}
