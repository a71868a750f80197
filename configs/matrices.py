r"""Which attention matrices LoRA adapts, under one budget of parameters (paper, table 5).

  python -m experiments.sweep --workdir=runs/matrices-mrpc --config.data.dir=DIR \
      --config=configs/matrices.py:task=mrpc,model=path/to/encoder,preset=small
  python -m experiments.sweep --workdir=runs/matrices-e2e --config.data.dir=DIR \
      --config=configs/matrices.py:task=e2e,model=models/smollm2

One matrix of rank 8, two of rank 4, all four of rank 2. The paper's model is GPT-3;
results/table-5.md has its scores and those of small models here.

The budget is one only if the matrices of the model have one size, as in BERT, RoBERTa and GPT-2.
Argument: configs/_base_ablation.py.
"""

from collections.abc import Iterator

from ml_collections import config_dict

from configs import _base, _base_ablation
from lora_jax.paper import entries, translation


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config that all runs of a sweep share.

  Raises:
    ValueError: on an unknown key, task, preset or model, with the nearest names.
  """
  return _base_ablation.get_config(_base_ablation.parse(arg), 'matrices')


def sweep(arg: str | None = None) -> Iterator[_base.Overrides]:
  """The overrides of each run: every row of the table, with every seed."""
  args = _base_ablation.parse(arg)
  rows = list(entries.TABLE_5.items())[: 2 if _base.switch(args, 'tiny') else None]
  runs = [
    {'method.rank': rank, 'method.targets': translation.targets(weights)} for weights, rank in rows
  ]
  return _base_ablation.seeded(args, runs)
