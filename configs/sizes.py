r"""Methods by the number of parameters that they train (paper, table 15 and figure 2).

  python -m experiments.sweep --workdir=runs/sizes-cola --config.data.dir=DIR \
      --config=configs/sizes.py:task=cola,model=path/to/encoder,preset=compare

The rows are the paper's: full fine-tuning, prefix-embedding of 32 to 512 tokens, prefix-layer of 2
to 64, Adapter-H with bottlenecks of 1 to 64, LoRA of one, two and four matrices at ranks of 1 to
64. The paper's model is GPT-3; results/table-15.md has its scores and those of small models here.
LoRA's alpha stays what the task's config has, as in configs/rank.py.

Argument, each a list joined by `+`, beside that of configs/_base_ablation.py:

  methods  of METHODS; by default all of them, and lora with the presets of the paper, which have
           settings of no other
  sizes    some of the rows, by the rank, the bottleneck or the first number of prefix tokens
           (32+64). A model of 512 positions has no room for 512 tokens of a prefix
  lr       rates, of which the page takes the best for each row; by default the one of the task's
           config
"""

from collections.abc import Iterator, Mapping

from ml_collections import config_dict

from configs import _base, _base_ablation
from lora_jax.paper import entries

METHODS = entries.METHODS_OF_TABLE_15  # A `+` joins a list, so none adds a prefix to LoRA.


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config that all runs of a sweep share: that of LoRA.

  Raises:
    ValueError: on an unknown key, task, preset, model or method, with the nearest names; on sizes
      that are not whole numbers or that no row has, or rates that are not numbers.
  """
  return _base_ablation.get_config(_parse(arg), 'sizes')


def sweep(arg: str | None = None) -> Iterator[_base.Overrides]:
  """The overrides of each run: rows of the table by rates, with every seed.

  Raises:
    ValueError: as `get_config`; if the preset has no settings of a method.
  """
  args = _parse(arg)
  runs = list(_runs(args))
  return _base_ablation.seeded(args, runs[: 2 if _base.switch(args, 'tiny') else None])


def _runs(args: Mapping[str, str]) -> Iterator[_base.Overrides]:
  sizes = [None, *map(int, args['sizes'].split('+'))] if args['sizes'] else []
  for method in _base_ablation.methods(args, METHODS):
    config = _base_ablation.get_config(args, 'sizes', method=method)
    for row in entries.TABLE_15:
      if row.method == method and (not sizes or row.size in sizes):
        # The options apart from the section, since a run is named after them.
        options = {f'method.{name}': value for name, value in row.options.items()}
        for lr in _base.numbers('lr', args['lr']) or (config.optim.lr,):
          yield {'method': config.method.to_dict(), **options, 'optim.lr': lr}


def _parse(arg: str | None) -> dict[str, str]:
  args = _base_ablation.parse(arg, methods='', sizes='', lr='')
  for method in filter(None, args['methods'].split('+')):
    _base.check('part of methods=', method, METHODS)
  known = {str(row.size) for row in entries.TABLE_15 if row.size}
  for size in filter(None, args['sizes'].split('+')):
    _base.check('part of sizes=', size, sorted(known, key=int))
  _base.numbers('lr', args['lr'])
  return args
