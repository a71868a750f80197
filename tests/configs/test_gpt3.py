"""The settings of GPT-3 are those of tables 12, 15 and 17."""

import re

import pytest

from configs import gpt3
from lora_jax import methods

# Tables 12, 15 and 17: argument -> lr, batch, epochs, method's options.
GPT3 = {
  'method=full': (5e-6, 128, 2, {}),
  'method=bitfit': (1.6e-3, 128, 2, {}),
  'method=prefix_embed': (5e-4, 128, 2, dict(prefix=256, infix=8)),
  'method=prefix_layer': (1e-4, 128, 2, dict(prefix=8, infix=8)),
  'method=adapter_h,size=high': (1e-4, 128, 2, dict(bottleneck=8)),
  'method=lora': (2e-4, 128, 2, dict(rank=1, alpha=1.0)),
  'method=lora,size=high': (2e-4, 128, 2, dict(rank=8, alpha=8.0)),
  'method=lora+prefix_embed,size=high': (2e-4, 128, 2, dict(rank=64, prefix=8, infix=4)),
  'task=mnli_text,examples=100': (2e-4, 20, 40, dict(rank=1)),
  'task=mnli_text,examples=10k,method=prefix_embed': (4e-4, 100, 4, dict(prefix=64)),
  'task=mnli_text,examples=1k,method=prefix_layer': (5e-5, 20, 40, dict(prefix=8, infix=8)),
  'task=mnli_text,method=prefix_layer': (1e-4, 128, 2, dict(prefix=8, infix=8)),
}


@pytest.mark.parametrize('arg', GPT3)
def test_gpt3s_settings_are_the_papers(arg):
  config = gpt3.get_config(arg)
  lr, batch_size, epochs, options = GPT3[arg]
  assert config.optim.lr == lr and config.optim.weight_decay == 0.1
  assert (config.train.batch_size, config.train.epochs) == (batch_size, epochs)
  assert options.items() <= config.method.to_dict().items()
  tokens = config.optim.warmup_steps * batch_size * config.data.max_length
  assert abs(tokens - 250_000) <= batch_size * config.data.max_length / 2
  methods.make(config.method.name, **{k: v for k, v in config.method.items() if k != 'name'})


def test_gpt3s_mistakes_are_answered_with_what_there_is():
  for arg, message in {
    'task=wikisq': "unknown task 'wikisq'. Did you mean 'wikisql'",
    'method=adapter_d': "Did you mean 'adapter_h'",
    'method=full,size=high': 'method=full has one in tables 4 and 15',
    'size=big': 'method=lora has low, high in tables 4 and 15',
    'examples=1k': 'table 16 is of task=mnli_text, found wikisql',
  }.items():
    with pytest.raises(ValueError, match=re.escape(message)):
      gpt3.get_config(arg)


def test_the_sizes_are_those_of_table_4_and_of_table_15():
  assert gpt3.sizes_of('adapter_h') == {'low': {'bottleneck': 1}, 'high': {'bottleneck': 8}}
  assert gpt3.sizes_of('lora') == {'low': {'rank': 1}, 'high': {'rank': 8}}
  assert gpt3.sizes_of('lora+prefix_embed')['high'] == {'rank': 64, 'prefix': 8, 'infix': 4}
  assert gpt3.sizes_of('full') == {'': {}}
