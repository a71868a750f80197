r"""The rank of LoRA, with different matrices adapted (paper, tables 6 and 18).

  python -m experiments.sweep --workdir=runs/rank-mrpc --config.data.dir=DIR \
      --config=configs/rank.py:task=mrpc,model=path/to/encoder,preset=small
  python -m experiments.sweep --workdir=runs/rank-e2e --config.data.dir=DIR \
      --config=configs/rank.py:task=e2e,model=gpt2-medium

`rows=6`, the default on a task of GLUE, has the form of table 6, which trains GPT-3: rank 1 to 64
of the query, of query and value, of all four matrices. `rows=18`, the default on E2E, has the form
of table 18: rank 1 to 1024 of query and value of GPT-2 medium. `ranks=8+64` trains these alone.
results/table-6.md has the paper's scores and those of small models here.

Alpha stays what the task's config has: "we set alpha to the first r we try and do not tune it"
(section 4.1). Argument: `rows`, `ranks`, and those of configs/_base_ablation.py.
"""

from collections.abc import Iterator

from ml_collections import config_dict

from configs import _base, _base_ablation
from lora_jax.paper import entries, translation

ROWS = {
  '6': (entries.WEIGHTS_OF_TABLE_6, entries.RANKS_OF_TABLE_6),
  '18': (('Wq,Wv',), entries.RANKS_OF_TABLE_18),
}


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config that all runs of a sweep share.

  Raises:
    ValueError: on an unknown key, task, preset, model or table, with the nearest names; on ranks
      that are not whole numbers.
  """
  args = _parse(arg)
  medium = args['task'] == 'e2e' and args['model'] in ('', 'gpt2-medium')
  printed = medium and args['rows'] == '18' and not _base.switch(args, 'tiny')
  return _base_ablation.get_config(args, 'rank', paper_table='table 18' if printed else '')


def sweep(arg: str | None = None) -> Iterator[_base.Overrides]:
  """The overrides of each run: every rank of every choice of matrices, with every seed."""
  args = _parse(arg)
  choices, ranks = ROWS[args['rows']]
  if _base.switch(args, 'tiny'):
    ranks = ranks[:2]
  if args['ranks']:
    ranks = tuple(map(int, args['ranks'].split('+')))
  runs = [
    {'method.rank': rank, 'method.targets': translation.targets(weights)}
    for weights in choices
    for rank in ranks
  ]
  return _base_ablation.seeded(args, runs)


def _parse(arg: str | None) -> dict[str, str]:
  args = _base_ablation.parse(arg, rows='', ranks='')
  args['rows'] = args['rows'] or ('18' if args['task'] == 'e2e' else '6')
  _base.check('rows', args['rows'], ROWS)
  if args['ranks'] and not all(text.isdecimal() for text in args['ranks'].split('+')):
    raise ValueError(f'ranks={args["ranks"]!r}: expected whole numbers, as 8+64')
  return args
