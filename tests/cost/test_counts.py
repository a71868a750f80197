"""Parameters that the paper's settings train, at full size (tables 2, 3, 15); by shapes alone."""

import collections

import pytest

from lora_jax.cost import counts
from lora_jax.paper import entries, translation
from lora_jax.report.pages.counts import agrees

QV = dict(targets=translation.QUERY_VALUE)
GPT3 = translation.GPT3
QV_OF_GPT3 = dict(targets=translation.targets('Wq,Wv'))

# Against the paper's printed counts: what was found to match comes out to the unit. Where
# the paper prints another number, it stands beside.
CASES = [
  ('roberta-base', 'lora', dict(rank=8, **QV), 294_912),
  ('roberta-large', 'lora', dict(rank=8, **QV), 786_432),
  ('gpt2-medium', 'lora', dict(rank=4, **QV), 393_216),  # 0.35M: 0.1 % of the model.
  ('gpt2-large', 'lora', dict(rank=4, **QV), 737_280),  # 0.77M: 0.1 % of the model.
  ('deberta-v2-xxlarge', 'lora', dict(rank=16, **QV), 4_718_592),
  ('deberta-v2-xxlarge', 'lora', dict(rank=8, **QV), 2_359_296),  # 4.7M, in table 10.
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
  ('gpt2-medium', 'prefix_layer', dict(prefix=14, infix=0), 24 * 1024 * 14),  # 0.35M.
  ('gpt2-large', 'prefix_layer', dict(prefix=17, infix=0), 36 * 1280 * 17),  # 0.77M.
  # Full fine-tuning, less the head; to that belongs DeBERTa's pooler, and RoBERTa has none.
  ('roberta-base', 'full', {}, 124_055_040),  # 125.0M.
  ('roberta-large', 'full', {}, 354_310_144),  # 355.0M.
  ('deberta-v2-xxlarge', 'full', {}, 1_564_549_632),  # 1500.0M.
  ('gpt2-medium', 'full', {}, 354_823_168),  # 354.92M.
  ('gpt2-large', 'full', {}, 774_030_080),
  (GPT3, 'full', {}, 174_604_259_328),  # 175,255.8M.
  *[
    (GPT3, 'adapter_h', dict(bottleneck=r), expected)
    for r, expected in (
      (1, 7_078_080), (4, 21_234_432), (8, 40_109_568), (16, 77_859_840), (64, 304_361_472),
    )
  ],
  *[
    (GPT3, 'prefix_embed', dict(prefix=prefix, infix=8), expected)
    for prefix, expected in (
      (32, 491_520), (64, 884_736), (128, 1_671_168), (256, 3_244_032), (512, 6_389_760),
    )
  ],
  # Of every count of PreLayer the paper prints 0.4M to 1.6M more than L d (lp + li).
  *[
    (GPT3, 'prefix_layer', dict(prefix=prefix, infix=infix), 96 * 12288 * (prefix + infix))
    for prefix, infix in ((2, 2), (8, 0), (8, 8), (32, 4), (64, 0))
  ],
  (GPT3, 'lora', dict(targets=translation.targets('Wv'), rank=2), 4_718_592),
  *[
    (GPT3, 'lora', dict(rank=rank, **QV_OF_GPT3), expected)
    for rank, expected in (
      (1, 4_718_592), (2, 9_437_184), (4, 18_874_368), (8, 37_748_736), (64, 301_989_888),
    )
  ],
  *[
    (GPT3, 'lora', dict(targets=translation.ALL_OF_ATTENTION, rank=rank), expected)
    for rank, expected in (
      (1, 9_437_184), (2, 18_874_368), (4, 37_748_736), (64, 603_979_776),
    )
  ],
  *[
    (GPT3, 'lora+prefix_embed', dict(rank=rank, prefix=8, infix=4, **QV_OF_GPT3), expected)
    for rank, expected in ((8, 37_896_192), (32, 151_142_400), (64, 302_137_344))
  ],
  (GPT3, 'lora+prefix_layer', dict(rank=8, prefix=8, infix=4, **QV_OF_GPT3), 51_904_512),  # 52.8M.
  (GPT3, 'bitfit', {}, 12_976_128 + 12_288),  # 14.2M; the last norm's bias is the 12,288.
]  # fmt: skip


def key(model, method, options):
  return model, method, tuple(sorted(options.items()))


EXPECTED = {key(*case[:3]): case[3] for case in CASES}


@pytest.mark.parametrize('model, method, options, expected', CASES)
def test_trained_parameters(model, method, options, expected):
  # Traced in full, the layers of the large models take long; the laws compare the layouts.
  both = (False, True) if model == 'roberta-base' else (True,)
  layouts = (False,) if method == 'top_layers' else both
  for scan in layouts:
    summary = counts.summarize_preset(model, method, options, scan)
    assert summary.trainable - summary.head == expected
    assert (summary.frozen == 0) == (method == 'full')


def test_every_row_of_the_tables_is_counted_and_its_mismatch_named():
  rows = [(table, entry) for table, rows in counts.TABLES.items() for entry in rows]
  assert {key(e.model, e.method, e.options) for _, e in rows} == set(EXPECTED)
  assert collections.Counter(table for table, _ in rows) == {
    'table 2': 14,
    'table 10': 1,
    'table 3': 12,
    'table 4': 2,
    'table 15': 29,
  }
  mismatched = {
    (e.model, e.method)
    for _, e in rows
    if not agrees(e.printed, EXPECTED[key(e.model, e.method, e.options)])
  }
  assert mismatched == set(entries.NOTES)


@pytest.mark.parametrize('printed', entries.ADAPTERS_OF_TABLE_1)
def test_the_adapters_have_the_counts_of_table_1(printed):
  for method, size in entries.ADAPTERS_OF_TABLE_1[printed].items():
    found = counts.summarize_preset(
      'gpt2-medium', method, dict(bottleneck=size), scan=True
    ).trainable
    assert f'{found / 1e6:.{"1f" if "." in printed else "0f"}}M' == printed
  sizes = {row.options['bottleneck'] for row in entries.TABLE_3 if row.printed == '11.09M'}
  assert set(entries.ADAPTERS_OF_TABLE_1['11M'].values()) == sizes
