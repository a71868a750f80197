"""What a model cannot have is found by shapes, with the reason."""

import pytest

from configs import e2e
from lora_jax.reproduce import fit

LLAMA = 'tests/golden/models/llama'


def of(method, model=LLAMA):
  config = e2e.get_config(f'model={model},preset=small,method={method}')
  config.data.max_length = 8  # The toys have few positions.
  return config


@pytest.fixture(scope='module')
def fits():
  return fit.Fits()


def test_a_llama_without_biases_has_no_bitfit(fits):
  found = fits(of('bitfit'))
  assert found.why_not.startswith("'(.*/)?bias' matches no parameter")
  assert 'Known' not in found.why_not


def test_the_trained_parameters_are_counted(fits):
  lora, full = fits(of('lora')), fits(of('full'))
  assert 0 < lora.trained < full.trained and not lora.why_not
  assert lora.architecture.family == 'llama'
  assert fits(of('lora')) is lora  # Found once.


def test_an_encoder_generates_no_text(fits):
  assert 'bert model does' in fits(of('lora', 'tests/golden/models/bert')).why_not
