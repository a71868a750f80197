r"""Which attention matrices LoRA adapts, under one budget of parameters (paper, tables 5 and 15).

  python -m experiments.sweep --workdir=runs/matrices-mrpc --config.data.dir=DIR \
      --config=configs/matrices.py:task=mrpc,model=path/to/encoder,preset=small
  python -m experiments.sweep --workdir=runs/matrices-e2e --config.data.dir=DIR \
      --config=configs/matrices.py:task=e2e,model=runs/pretrain,rows=15

`rows=5` is the form of table 5: one matrix of rank 8, two of rank 4, all four of rank 2. GPT-3 on
MultiNLI: query 91.0, key 90.8, value 91.0, output 91.3, query and key 91.3, query and value 91.3,
all four 91.7; on WikiSQL 70.4, 70.0, 73.0, 73.2, 71.4, 73.7, 73.7.

`rows=15` are the rows of LoRA in table 15, by growing number of parameters: value of rank 2; query
and value of rank 1, 2, 4, 8, 64; all four of rank 1, 2, 4, 64. GPT-3 has 91.2 to 91.7 on MultiNLI
over all of them, 73.3 to 74.1 on WikiSQL.

The matrices of one model are to be of one size for the budget to be one: they are, in BERT, RoBERTa
and GPT-2. Argument: `rows`, and those of configs/base_ablation.py.
"""

from collections.abc import Iterator, Mapping

from ml_collections import config_dict

from configs import base, base_ablation

TABLE_5 = (('q', 8), ('k', 8), ('v', 8), ('o', 8), ('qk', 4), ('qv', 4), ('qkvo', 2))
TABLE_15 = (
  ('v', 2), ('qv', 1), ('qv', 2), ('qkvo', 1), ('qv', 4), ('qkvo', 2), ('qv', 8), ('qkvo', 4),
  ('qv', 64), ('qkvo', 64),
)  # fmt: skip
ROWS = {'5': TABLE_5, '15': TABLE_15}


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config of all runs of a sweep, but for what `sweep` yields.

  Raises:
    ValueError: on an unknown key, task, preset, model or table, with the nearest names.
  """
  return base_ablation.get_config(_parse(arg), 'matrices', cell='')


def sweep(arg: str | None = None) -> Iterator[Mapping]:
  """Overrides of each run: every row of the table, with every seed."""
  args = _parse(arg)
  rows = ROWS[args['rows']][: 2 if args['tiny'] else None]
  yield from base_ablation.seeded(
    args,
    [{'method.rank': rank, **base_ablation.targets(matrices)} for matrices, rank in rows],
  )


def _parse(arg: str | None) -> dict:
  args = base_ablation.parse(arg, rows='5')
  base.check('rows', args['rows'], ROWS)
  return args
