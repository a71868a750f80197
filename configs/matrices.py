r"""Which attention matrices LoRA adapts, under one budget of parameters (paper, tables 5 and 15).

  python -m experiments.sweep --workdir=runs/matrices-mrpc --config.data.dir=DIR \
      --config=configs/matrices.py:task=mrpc,model=path/to/encoder,preset=small
  python -m experiments.sweep --workdir=runs/matrices-e2e --config.data.dir=DIR \
      --config=configs/matrices.py:task=e2e,model=runs/pretrain,rows=15

`rows=5` has the form of table 5: one matrix of rank 8, two of rank 4, all four of rank 2. `rows=15`
has the rows of LoRA in table 15, by growing number of parameters: the value alone, query and value,
and all four matrices, of rank 1 to 64. The paper's model is GPT-3; results/table-5.md and
results/table-15.md have its scores and those of small models here.

The budget is one only if the matrices of the model have one size, as in BERT, RoBERTa and GPT-2.
Argument: `rows`, and those of configs/_base_ablation.py.
"""

from collections.abc import Iterator

from ml_collections import config_dict

from configs import _base, _base_ablation
from lora_jax.paper import entries, translation

ROWS = {
  '5': tuple(entries.TABLE_5.items()),
  '15': tuple(entries.LORA_OF_TABLE_15.values()),
}


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config that all runs of a sweep share.

  Raises:
    ValueError: on an unknown key, task, preset, model or table, with the nearest names.
  """
  return _base_ablation.get_config(_parse(arg), 'matrices')


def sweep(arg: str | None = None) -> Iterator[_base.Overrides]:
  """The overrides of each run: every row of the table, with every seed."""
  args = _parse(arg)
  rows = ROWS[args['rows']][: 2 if _base.switch(args, 'tiny') else None]
  runs = [
    {'method.rank': rank, 'method.targets': translation.targets(weights)} for weights, rank in rows
  ]
  return _base_ablation.seeded(args, runs)


def _parse(arg: str | None) -> dict[str, str]:
  args = _base_ablation.parse(arg, rows='5')
  _base.check('rows', args['rows'], ROWS)
  return args
