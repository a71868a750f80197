r"""The rank of LoRA, with different matrices adapted (paper, tables 6 and 18).

  python -m experiments.sweep --workdir=runs/rank-mrpc --config.data.dir=DIR \
      --config=configs/rank.py:task=mrpc,model=path/to/encoder,preset=small
  python -m experiments.sweep --workdir=runs/rank-e2e --config.data.dir=DIR \
      --config=configs/rank.py:task=e2e,model=gpt2-medium

On a task of GLUE a sweep has the form of table 6, which trains GPT-3: rank 1 to 64 of the query, of
query and value, of all four matrices. On E2E it has the form of table 18: rank 1 to 1024 of query
and value of GPT-2 medium. results/table-6.md has the paper's scores of
the first and those of small models here.

Alpha stays what the task's config has: "we set alpha to the first r we try and do not tune it"
(section 4.1). Argument: configs/_base_ablation.py.
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
  args = _base_ablation.parse(arg)
  medium = args['task'] == 'e2e' and args['model'] in ('', 'gpt2-medium')
  printed = medium and not _base.switch(args, 'tiny')
  return _base_ablation.get_config(args, 'rank', paper_table='table 18' if printed else '')


def sweep(arg: str | None = None) -> Iterator[_base.Overrides]:
  """The overrides of each run: every rank of every choice of matrices, with every seed."""
  args = _base_ablation.parse(arg)
  ranks, choices = entries.RANKS_OF_TABLE_6, entries.WEIGHTS_OF_TABLE_6
  if args['task'] == 'e2e':
    ranks, choices = entries.RANKS_OF_TABLE_18, ('Wq,Wv',)
  if _base.switch(args, 'tiny'):
    ranks = ranks[:2]
  runs = [
    {'method.rank': rank, 'method.targets': translation.targets(weights)}
    for weights in choices
    for rank in ranks
  ]
  return _base.seeded(int(args['seeds']), runs)
