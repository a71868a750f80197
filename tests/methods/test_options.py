"""A method's options are those that it was made with, and make it again."""

import json

import pytest

from lora_jax import adapter_h, bitfit, compose, lora, methods
from lora_jax.adapters.adapter import options_from_json
from tests.methods.laws import METHODS


@pytest.mark.parametrize('name', METHODS)
def test_options_make_the_method_again(name):
  method = methods.make(**{'name': name} | METHODS[name])
  again = methods.make(**options_from_json(json.loads(json.dumps(method.options))))
  assert again.options == method.options and again.program == method.program
  assert again.patterns == method.patterns


def test_defaults_are_among_them():
  options = lora(rank=2, alpha=4).options
  assert options['name'] == 'lora' and options['rank'] == 2 and options['init'] == 'uniform'


def test_a_composition_holds_those_of_its_parts():
  method = compose(lora(rank=1, alpha=1), compose(adapter_h(bottleneck=2), bitfit()))
  again = methods.make(**method.options)
  assert again.patterns == method.patterns and again.options == method.options
