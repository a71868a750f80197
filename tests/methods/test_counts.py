"""Parameters that the paper's settings train, at full size (tables 2 to 4); by shapes alone."""

import jax
import jax.numpy as jnp
import pytest

from lora_jax import count, lora, summarize, tree
from lora_jax.models import presets

GPT3 = presets.architecture(
  'gpt2', hidden_size=12288, num_layers=96, num_heads=96, max_positions=2048
)


@pytest.mark.parametrize(
  'name, rank, scan, expected',
  [
    ('roberta-base', 8, False, 294_912),
    ('roberta-base', 8, True, 294_912),
    ('roberta-large', 8, True, 786_432),
    ('gpt2-medium', 4, False, 393_216),  # Table 3 prints 0.35M, which is 0.1 % of the model.
    ('gpt2-medium', 4, True, 393_216),
    ('gpt3', 4, True, 18_874_368),
  ],
)
def test_trained_parameters(name, rank, scan, expected):
  config = GPT3 if name == 'gpt3' else presets.PRESETS[name].config
  task = 'lm' if 'gpt' in name else 'classification'
  model = presets.build(config, task=task, scan=scan)
  tokens = jax.ShapeDtypeStruct((1, 8), jnp.int32)
  params = jax.eval_shape(model.init, jax.random.key(0), tokens)['params']
  method = lora(rank=rank, alpha=1.0, train=model.head)
  init = lambda params: method.init(jax.random.key(0), model, params, tokens)
  frozen, trainable = jax.eval_shape(init, params)
  summary = summarize(method, frozen, trainable, model.head)
  assert summary.trainable - summary.head == expected
  assert summary.frozen + summary.head == count(params)
  assert set(tree.paths(frozen)) | set(tree.paths(trainable)) >= set(tree.paths(params))
