"""Parameters that the paper's settings train, at full size (tables 2 to 4); by shapes alone."""

import jax
import jax.numpy as jnp
import pytest

from lora_jax import count, methods, summarize, tree
from lora_jax.models import presets

GPT3 = presets.architecture(
  'gpt2', hidden_size=12288, num_layers=96, num_heads=96, max_positions=2048
)


# Against paper.md's table of counts: what is printed there as a match comes out to the unit. Where
# the paper prints another number, it stands beside.
QV = dict(alpha=1.0, targets='.*/(query|value)')
CASES = [
  ('roberta-base', 'lora', dict(rank=8, **QV), 294_912),
  ('roberta-large', 'lora', dict(rank=8, **QV), 786_432),
  ('gpt2-medium', 'lora', dict(rank=4, **QV), 393_216),  # 0.35M: 0.1 % of the model.
  ('gpt2-large', 'lora', dict(rank=4, **QV), 737_280),  # 0.77M: 0.1 % of the model.
  ('gpt3', 'lora', dict(rank=4, **QV), 18_874_368),
  ('deberta-v2-xxlarge', 'lora', dict(rank=16, **QV), 4_718_592),
  ('roberta-base', 'bitfit', {}, 102_144),
  ('roberta-base', 'adapter_d', dict(bottleneck=16), 304_320),
  ('roberta-base', 'adapter_d', dict(bottleneck=48), 894_528),
  ('roberta-large', 'adapter_p', dict(bottleneck=16), 811_392),
  ('roberta-large', 'adapter_p', dict(bottleneck=64), 3_171_840),  # 3.0M.
  ('roberta-large', 'adapter_h', dict(bottleneck=8), 835_968),
  ('roberta-large', 'adapter_h', dict(bottleneck=64), 6_343_680),  # 6.0M.
  ('gpt2-medium', 'adapter_l', dict(bottleneck=6), 368_784),
  ('gpt2-medium', 'adapter_l', dict(bottleneck=224), 11_089_152),
  ('gpt2-medium', 'adapter_h', dict(bottleneck=112), 11_064_576),  # 11.09M.
  ('gpt2-large', 'adapter_l', dict(bottleneck=8), 875_808),
  ('gpt2-large', 'adapter_l', dict(bottleneck=248), 23_002_848),
  ('gpt2-medium', 'top_layers', dict(layers=2), 25_192_448),
  *[
    ('gpt3', 'adapter_h', dict(bottleneck=r), expected)
    for r, expected in (
      (1, 7_078_080), (4, 21_234_432), (8, 40_109_568), (16, 77_859_840), (64, 304_361_472),
    )
  ],
  *[
    ('gpt3', 'prefix_embed', dict(prefix=prefix, infix=8), expected)
    for prefix, expected in (
      (32, 491_520), (64, 884_736), (128, 1_671_168), (256, 3_244_032), (512, 6_389_760),
    )
  ],
  # Of every count of PreLayer the paper prints 0.4M to 1.6M more than L d (lp + li).
  *[
    ('gpt3', 'prefix_layer', dict(prefix=prefix, infix=infix), 96 * 12288 * (prefix + infix))
    for prefix, infix in ((2, 2), (8, 0), (8, 8), (32, 4), (64, 0))
  ],
  *[
    ('gpt3', 'lora+prefix_embed', dict(rank=rank, prefix=8, infix=4, **QV), expected)
    for rank, expected in ((8, 37_896_192), (32, 151_142_400), (64, 302_137_344))
  ],
  ('gpt3', 'lora+prefix_layer', dict(rank=8, prefix=8, infix=4, **QV), 51_904_512),  # 52.8M.
  ('gpt3', 'bitfit', {}, 12_976_128 + 12_288),  # 14.2M; the last norm's bias is the 12,288.
]  # fmt: skip


@pytest.mark.parametrize('name, method, options, expected', CASES)
def test_trained_parameters(name, method, options, expected):
  config = GPT3 if name == 'gpt3' else presets.PRESETS[name].config
  task = 'lm' if 'gpt' in name else 'classification'
  layouts = (False,) if method == 'top_layers' else (True,) if name == 'gpt3' else (False, True)
  for scan in layouts:
    model = presets.build(config, task=task, scan=scan)
    tokens = jax.ShapeDtypeStruct((1, 8), jnp.int32)
    params = jax.eval_shape(model.init, jax.random.key(0), tokens)['params']
    made = methods.make(method, train=model.head, **options)
    init = lambda params: made.init(jax.random.key(0), model, params, tokens)
    frozen, trainable = jax.eval_shape(init, params)
    summary = summarize(made, frozen, trainable, model.head)
    assert summary.trainable - summary.head == expected
    leaves = {*tree.paths(frozen), *tree.paths(trainable)}
    assert leaves >= {*tree.paths(params)}
    assert not {*tree.paths(frozen)} & {*tree.paths(trainable)}
    added = {
      path: x for path, x in tree.flatten(trainable).items() if path not in tree.paths(params)
    }
    assert summary.frozen + summary.trainable == count(params) + count(added)
