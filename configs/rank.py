r"""The rank of LoRA, with different matrices adapted (paper, tables 6 and 18).

  python -m experiments.sweep --workdir=runs/rank-mrpc --config.data.dir=DIR \
      --config=configs/rank.py:task=mrpc,model=path/to/encoder,preset=small
  python -m experiments.sweep --workdir=runs/rank-e2e --config.data.dir=DIR \
      --config=configs/rank.py:task=e2e,model=gpt2-medium

On a task of GLUE it has the form of table 6: rank 1, 2, 4, 8, 64 of the query, of query and value,
of all four matrices. There GPT-3 goes on MultiNLI from 90.7 (rank 1, query) to 91.7 (rank 2 or 4,
all four), and rank 1 does nearly as well as 64: 91.3 against 91.4 for query and value.

On E2E it has the form of table 18: rank 1 to 1024 of query and value. GPT-2 medium has a validation
loss of 1.23 at rank 1, 1.16 from 16 to 512, 1.17 at 1024, and its best BLEU, 70.38, at rank 4.

Alpha stays what the task's config has: "we set alpha to the first r we try and do not tune it"
(section 4.1). Argument: configs/base_ablation.py.
"""

from collections.abc import Iterator, Mapping

from ml_collections import config_dict

from configs import base_ablation

TABLE_6 = (1, 2, 4, 8, 64)
TABLE_18 = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config of all runs of a sweep, but for what `sweep` yields.

  Raises:
    ValueError: on an unknown key, task, preset or model, with the nearest names.
  """
  args = base_ablation.parse(arg)
  printed = args['task'] == 'e2e' and args['model'] in ('', 'gpt2-medium') and not args['tiny']
  return base_ablation.get_config(args, 'rank', cell='table 18' if printed else '')


def sweep(arg: str | None = None) -> Iterator[Mapping]:
  """Overrides of each run: every rank of every choice of matrices, with every seed."""
  args = base_ablation.parse(arg)
  generation = args['task'] == 'e2e'
  ranks = TABLE_18 if generation else TABLE_6
  if args['tiny']:
    ranks = ranks[:2]
  yield from base_ablation.seeded(
    args,
    [
      {'method.rank': rank, **base_ablation.targets(matrices)}
      for matrices in (('qv',) if generation else ('q', 'qv', 'qkvo'))
      for rank in ranks
    ],
  )
