"""The rows of the paper's tables of results as what they train: model, method, options and count.

The paper does not print every size. One that it leaves out is the size whose number of parameters
comes nearest to the print (`experiments.counts` shows both).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lora_jax.paper import printed, translation

Options = Mapping[str, object]


class Entry(NamedTuple):
  """A row of a table: a method on a model, and how many parameters the paper says it trains.

  Attributes:
    table: the table's number.
    model: a preset's name.
    method: the method's name in this code; a `+` joins two.
    options: those of the method's options that fix its number of parameters.
    printed: the number of trained parameters, as printed.
    quoted: whether the paper quotes the row from earlier work, of which it has no settings.
    adapter_setup: whether the row is marked †, that is, trained in the setup of the adapters'
      authors.
  """

  table: str
  model: str
  method: str
  options: Options
  printed: str
  quoted: bool = False
  adapter_setup: bool = False

  @property
  def size(self) -> int | None:
    """The rank, the bottleneck or the first number of prefix tokens; None of full fine-tuning."""
    names = ('rank', 'bottleneck', 'prefix')
    return next((int(str(self.options[name])) for name in names if name in self.options), None)


_LORA_OF_GLUE = dict(rank=8, targets=translation.QUERY_VALUE)  # Table 9.
_LORA_OF_GPT2 = dict(rank=4, targets=translation.QUERY_VALUE)  # Table 11.
# Model, method, print -> options. Bottlenecks of † are those of table 9.
_OPTIONS: dict[tuple[str, str, str], Options] = {
  ('RoB-base', 'Adpt-D', '0.3M'): dict(bottleneck=16),
  ('RoB-base', 'Adpt-D', '0.9M'): dict(bottleneck=48),
  ('RoB-base', 'LoRA', '0.3M'): _LORA_OF_GLUE,
  ('RoB-large', 'LoRA', '0.8M'): _LORA_OF_GLUE,
  ('RoB-large', 'Adpt-P', '3.0M'): dict(bottleneck=64),
  ('RoB-large', 'Adpt-P', '0.8M'): dict(bottleneck=16),
  ('RoB-large', 'Adpt-H', '6.0M'): dict(bottleneck=64),
  ('RoB-large', 'Adpt-H', '0.8M'): dict(bottleneck=8),
  # The rank of the scripts; table 10 prints 8, which does not train as many (see TABLE_10).
  ('DeB-XXL', 'LoRA', '4.7M'): _LORA_OF_GLUE | dict(rank=16),
  ('GPT-2 M', 'Adapter-L', '0.37M'): dict(bottleneck=6),
  ('GPT-2 M', 'Adapter-L', '11.09M'): dict(bottleneck=224),
  ('GPT-2 M', 'Adapter-L', '11M'): dict(bottleneck=224),
  ('GPT-2 M', 'Adapter-H', '11.09M'): dict(bottleneck=112),
  ('GPT-2 M', 'FT-Top2', '25.19M'): dict(layers=2),
  ('GPT-2 M', 'FT-Top2', '24M'): dict(layers=2),
  # Neither lp nor li is known, and no multiple of L d is 0.35M or 0.77M: these come nearest.
  ('GPT-2 M', 'PreLayer', '0.35M'): dict(prefix=14, infix=0),
  ('GPT-2 L', 'PreLayer', '0.77M'): dict(prefix=17, infix=0),
  ('GPT-2 M', 'LoRA', '0.35M'): _LORA_OF_GPT2,
  ('GPT-2 L', 'LoRA', '0.77M'): _LORA_OF_GPT2,
  ('GPT-2 L', 'Adapter-L', '0.88M'): dict(bottleneck=8),
  ('GPT-2 L', 'Adapter-L', '23.00M'): dict(bottleneck=248),
  ('GPT-2 L', 'Adapter-L', '23M'): dict(bottleneck=248),
}


def _of_published_models(table: str) -> tuple[Entry, ...]:
  entries = []
  for row in printed.TABLES[table].rows:
    name = row['method'].rstrip('*†')
    # Tables 13 and 14 mark nothing. Their rows without a spread are those that table 3 quotes.
    quoted = row['method'].endswith('*')
    if table in ('13', '14'):
      quoted = '±' not in row['BLEU' if table == '13' else 'BLEU A']
    entries.append(
      Entry(
        table=table,
        model=translation.MODELS[row['model']],
        method=translation.METHODS[name],
        options=_OPTIONS.get((row['model'], name, row['params']), {}),
        printed=row['params'],
        quoted=quoted,
        adapter_setup=row['method'].endswith('†'),
      )
    )
  return tuple(entries)


TABLE_2 = _of_published_models('2')
TABLE_3 = _of_published_models('3')
TABLE_13 = _of_published_models('13')
TABLE_14 = _of_published_models('14')
# DeBERTa at the rank that table 10 prints, beside the count that table 2 prints.
TABLE_10 = tuple(
  entry._replace(table='10', options=_LORA_OF_GLUE)
  for entry in TABLE_2
  if (entry.model, entry.method) == (translation.MODELS['DeB-XXL'], 'lora')
)


def weights_and_rank(setting: str) -> tuple[str, int] | None:
  """What LoRA adapts in a setting of table 15 and its rank: `rq=rv=8 lp=8 li=4` -> ('Wq,Wv', 8)."""
  *names, rank = setting.split()[0].split('=')
  matrices = [f'W{name[1:]}' for name in names]
  known = all(matrix in translation.MATRICES for matrix in matrices)
  return (','.join(matrices), int(rank)) if matrices and known else None


def _of_gpt3(row: Mapping[str, str]) -> Entry:
  """The entry of a row of table 15, from its setting."""
  options: dict[str, object] = {}
  if adapted := weights_and_rank(row['setting']):
    weights, rank = adapted
    options |= dict(rank=rank, targets=translation.targets(weights))
  for part in row['setting'].split():
    name, _, size = part.rpartition('=')
    if name in ('lp', 'li', 'r'):
      options[{'lp': 'prefix', 'li': 'infix', 'r': 'bottleneck'}[name]] = int(size)
  method = translation.METHODS[row['method']]
  return Entry('15', translation.GPT3, method, options, row['params'])


TABLE_15 = tuple(map(_of_gpt3, printed.TABLES['15'].rows))


def of_table_15(method: str, **options: object) -> Entry:
  """The first row of table 15 of a method with these options.

  Raises:
    LookupError: if the table has no such row.
  """
  for entry in TABLE_15:
    if entry.method == method and options.items() <= entry.options.items():
      return entry
  raise LookupError(f'table 15 has no row of {method} with {options}')


# Table 4 prints no settings: those of table 15 with its counts (LoRA of query and value).
_QUERY_VALUE_OF_GPT3 = dict(targets=translation.targets('Wq,Wv'))
_OPTIONS_OF_TABLE_4: tuple[Options, ...] = (
  {},
  {},
  of_table_15('prefix_embed', prefix=256).options,
  of_table_15('prefix_layer', prefix=8, infix=8).options,
  of_table_15('adapter_h', bottleneck=1).options,
  of_table_15('adapter_h', bottleneck=8).options,
  of_table_15('lora', rank=1, **_QUERY_VALUE_OF_GPT3).options,
  of_table_15('lora', rank=8, **_QUERY_VALUE_OF_GPT3).options,
)
TABLE_4 = tuple(
  Entry('4', translation.GPT3, translation.METHODS[row['method']], options, row['params'])
  for row, options in zip(printed.TABLES['4'].rows, _OPTIONS_OF_TABLE_4, strict=True)
)

# Table 1: batch x length -> how many parameters its adapters have; and the bottlenecks that come
# nearest to that in GPT-2 medium, those of 11M being table 3's.
TABLE_1 = dict(
  column.split(', adapters ') for column in printed.TABLES['1'].rows[0] if column != 'method'
)
ADAPTERS_OF_TABLE_1 = {
  '0.5M': {'adapter_l': 9, 'adapter_h': 5},
  '11M': {'adapter_l': 224, 'adapter_h': 112},
}

# Table 5: weights -> rank, under one budget of parameters.
TABLE_5 = {
  weights: int(rank) for weights, rank in printed.TABLES['5'].rows[0].items() if rank.isdecimal()
}
# Table 6: every rank of every choice of weights.
WEIGHTS_OF_TABLE_6 = tuple(dict.fromkeys(row['weights'] for row in printed.TABLES['6'].rows))
RANKS_OF_TABLE_6 = tuple(
  int(column.removeprefix('r=')) for column in printed.TABLES['6'].rows[0] if 'r=' in column
)
METHODS_OF_TABLE_16 = tuple(translation.METHODS[row['method']] for row in printed.TABLES['16'].rows)
# Those of table 15 but for LoRA beside a prefix.
METHODS_OF_TABLE_15 = tuple(dict.fromkeys(row.method for row in TABLE_15 if '+' not in row.method))
RANKS_OF_TABLE_18 = tuple(int(row['r']) for row in printed.TABLES['18'].rows)

# Why a print differs from the count of a model and a method, as far as is known.
NOTES = {
  ('roberta-base', 'full'): 'rounded',
  ('roberta-large', 'full'): 'rounded',
  ('deberta-v2-xxlarge', 'full'): 'rounded',
  ('deberta-v2-xxlarge', 'lora'): "at the rank that table 10 prints; 4.7M is the scripts' 16",
  ('gpt2-medium', 'full'): 'cause unknown',
  (translation.GPT3, 'lora'): 'the print is twice that of query and value',
  (translation.GPT3, 'full'): 'a second matrix of words would be 617.6M of it; the rest unknown',
  ('gpt2-medium', 'lora'): 'the print is 0.1 % of the model',
  ('gpt2-large', 'lora'): 'the print is 0.1 % of the model',
  ('gpt2-medium', 'prefix_layer'): 'size not given: nearest; the print is 0.1 % of the model',
  ('gpt2-large', 'prefix_layer'): 'size not given: nearest; the print is 0.1 % of the model',
  ('gpt2-medium', 'adapter_h'): 'size not given: nearest',
  ('roberta-large', 'adapter_p'): 'near, for a bottleneck that table 9 gives',
  ('roberta-large', 'adapter_h'): 'near, for a bottleneck that table 9 gives',
  (translation.GPT3, 'prefix_layer'): 'L d (lp + li), the formula of the paper; cause unknown',
  (translation.GPT3, 'lora+prefix_layer'): 'as prefix_layer',
  (translation.GPT3, 'bitfit'): 'every bias; the print is 12 d L, cause unknown',
}
