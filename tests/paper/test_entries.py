"""The rows of the tables are what they train, in the order of the print."""

import pytest

from lora_jax.paper import entries, printed, translation


def test_the_tables_have_the_papers_rows():
  rows = lambda table, quoted: sorted(
    f'{row.model} {row.method} {row.printed}' for row in table if row.quoted == quoted
  )
  assert rows(entries.TABLE_2, quoted=True) == [
    'deberta-v2-xxlarge full 1500.0M',
    'roberta-base adapter_d 0.3M',
    'roberta-base adapter_d 0.9M',
    'roberta-base bitfit 0.1M',
    'roberta-base full 125.0M',
    'roberta-large full 355.0M',
  ]
  assert rows(entries.TABLE_2, quoted=False) == [
    'deberta-v2-xxlarge lora 4.7M', 'roberta-base lora 0.3M', 'roberta-large adapter_h 0.8M',
    'roberta-large adapter_h 6.0M', 'roberta-large adapter_p 0.8M', 'roberta-large adapter_p 3.0M',
    'roberta-large lora 0.8M', 'roberta-large lora 0.8M',
  ]  # fmt: skip
  assert rows(entries.TABLE_3, quoted=True) == [
    'gpt2-large full 774.03M',
    'gpt2-large prefix_layer 0.77M',
    'gpt2-medium adapter_l 0.37M',
    'gpt2-medium adapter_l 11.09M',
    'gpt2-medium full 354.92M',
    'gpt2-medium prefix_layer 0.35M',
    'gpt2-medium top_layers 25.19M',
  ]
  assert rows(entries.TABLE_3, quoted=False) == [
    'gpt2-large adapter_l 0.88M',
    'gpt2-large adapter_l 23.00M',
    'gpt2-large lora 0.77M',
    'gpt2-medium adapter_h 11.09M',
    'gpt2-medium lora 0.35M',
  ]


@pytest.mark.parametrize('table', ['13', '14'])
def test_rows_without_a_spread_are_those_that_table_3_quotes(table):
  rows = getattr(entries, f'TABLE_{table}')
  own = [(row.model, row.method) for row in rows if not row.quoted]
  assert own == [
    ('gpt2-medium', 'lora'),
    *[('gpt2-large', 'adapter_l')] * 2,
    ('gpt2-large', 'lora'),
  ]


def test_table_15_is_read_from_its_settings():
  options = {
    row['setting']: entry.options
    for row, entry in zip(printed.TABLES['15'].rows, entries.TABLE_15, strict=True)
  }
  assert options['-'] == {}
  assert options['lp=8 li=0'] == {'prefix': 8, 'infix': 0}
  assert options['r=16'] == {'bottleneck': 16}
  assert options['rv=2'] == {'rank': 2, 'targets': ('.*/attention/value',)}
  assert options['rq=rk=rv=ro=64'] == {'rank': 64, 'targets': translation.ALL_OF_ATTENTION}
  assert options['rq=rv=32 lp=8 li=4'] == {
    'rank': 32,
    'targets': translation.targets('Wq,Wv'),
    'prefix': 8,
    'infix': 4,
  }
  with pytest.raises(LookupError, match='table 15 has no row of lora'):
    entries.of_table_15('lora', rank=3)


def test_table_4_prints_the_counts_of_table_15():
  by_options = [entries.of_table_15(row.method, **row.options) for row in entries.TABLE_4[2:]]
  assert [row.printed for row in by_options] == [row.printed for row in entries.TABLE_4[2:]]


def test_the_ablations_grids_are_those_of_the_print():
  assert list(entries.TABLE_5.values()) == [8, 8, 8, 8, 4, 4, 2]
  assert entries.RANKS_OF_TABLE_6 == (1, 2, 4, 8, 64)
  assert entries.WEIGHTS_OF_TABLE_6 == ('Wq', 'Wq,Wv', 'Wq,Wk,Wv,Wo')
  methods = ('full', 'prefix_embed', 'prefix_layer', 'adapter_h', 'lora')
  assert methods == entries.METHODS_OF_TABLE_15 and len(entries.TABLE_15) == 30
  assert [row.size for row in entries.TABLE_15][:7] == [None, 32, 64, 128, 256, 512, 2]
  assert entries.METHODS_OF_TABLE_16 == ('full', 'prefix_embed', 'prefix_layer', 'lora')
  assert tuple(2**i for i in range(11)) == entries.RANKS_OF_TABLE_18
  assert entries.TABLE_1 == {'32x512': '0.5M', '16x256': '11M', '1x128': '11M'}
