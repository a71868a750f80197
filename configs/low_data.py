r"""LoRA and other methods on few training examples (paper, table 16; its settings table 17).

  python -m experiments.sweep --workdir=runs/low-data --config.data.dir=DIR \
      --config=configs/low_data.py:task=sst2,model=path/to/encoder,preset=compare

Training examples: 100, 1,000, 10,000 and all of them, drawn anew for each seed; the whole
validation set throughout. A limit that a task does not reach trains on all of its examples. The
paper's model is GPT-3 on MultiNLI; results/table-16.md has its scores and those of a small encoder
here.

Batch and rate are those of the task's own config for every number of examples, unlike in table 17,
unless rates are given; the epochs grow in the table's proportion: 20 times those of all examples
for 100 and 1,000, twice for 10,000.

Argument, each a list joined by `+`, beside that of configs/_base_ablation.py:

  methods   full, prefix_embed, prefix_layer and lora, the paper's; with the presets of the paper,
            which have settings of LoRA alone, by default lora
  examples  100+1000+10000+0 by default; 0 is all of them
  lr        rates, of which the page takes the best for each method and number of examples; by
            default the one of the task's config
"""

from collections.abc import Iterator, Mapping

from ml_collections import config_dict

from configs import _base, _base_ablation
from lora_jax.paper import entries, settings


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config that all runs of a sweep share: that of LoRA.

  Raises:
    ValueError: on an unknown key, task, preset, model or method, with the nearest names; on numbers
      of examples that are not whole or rates that are not numbers.
  """
  return _base_ablation.get_config(_parse(arg), 'low_data')


def sweep(arg: str | None = None) -> Iterator[_base.Overrides]:
  """The overrides of each run: methods by numbers of examples by rates, with every seed.

  Raises:
    ValueError: as `get_config`; if the preset has no settings of a method.
  """
  args = _parse(arg)
  return _base_ablation.seeded(args, list(_runs(args)))


def _runs(args: Mapping[str, str]) -> Iterator[_base.Overrides]:
  times = {row.examples: row.epochs // settings.GPT3_EPOCHS for row in settings.TABLE_17.values()}
  if _base.switch(args, 'tiny'):
    times = {8: 1, 16: 1}
  if args['examples']:
    times = {examples: _times(examples) for examples in map(int, args['examples'].split('+'))}
  for method in _base_ablation.methods(args, entries.METHODS_OF_TABLE_16):
    config = _base_ablation.get_config(args, 'low_data', method=method)
    for limit, n in times.items():
      for lr in _base.numbers('lr', args['lr']) or (config.optim.lr,):
        yield {
          'method': config.method.to_dict(),
          'data.limit': limit,
          'train.epochs': n * config.train.epochs,
          'optim.lr': lr,
        }


def _times(examples: int) -> int:
  """How many times the epochs of all examples, as the next row of table 17 with as many."""
  rows = sorted(row for row in settings.TABLE_17.values() if row.examples >= examples > 0)
  return rows[0].epochs // settings.GPT3_EPOCHS if rows else 1


def _parse(arg: str | None) -> dict[str, str]:
  args = _base_ablation.parse(arg, methods='', examples='', lr='')
  for method in filter(None, args['methods'].split('+')):
    _base.check('part of methods=', method, entries.METHODS_OF_TABLE_16)
  if args['examples'] and not all(text.isdecimal() for text in args['examples'].split('+')):
    raise ValueError(f'examples={args["examples"]!r}: expected whole numbers, as 100+1000')
  _base.numbers('lr', args['lr'])
  return args
