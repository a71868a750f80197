r"""LoRA on few training examples (paper, table 16; its settings table 17).

  python -m experiments.sweep --workdir=runs/low-data --config.data.dir=DIR \
      --config=configs/low_data.py:task=sst2,model=path/to/encoder,preset=small

Training examples: 100, 1,000, 10,000 and all of them, drawn anew for each seed; the whole
validation set throughout. A limit that a task does not reach trains on all of its examples. The
paper's model is GPT-3 on MultiNLI; results/table-16.md has its scores and those of a small encoder
here.

Batch and rate are the task's own for every number of examples, unlike in table 17; the epochs grow
in the table's proportion: 20 times those of all examples for 100 and 1,000, twice for 10,000.
Argument: configs/_base_ablation.py.
"""

from collections.abc import Iterator

from ml_collections import config_dict

from configs import _base, _base_ablation
from lora_jax.paper import settings


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config that all runs of a sweep share.

  Raises:
    ValueError: on an unknown key, task, preset or model, with the nearest names.
  """
  return _base_ablation.get_config(_base_ablation.parse(arg), 'low_data')


def sweep(arg: str | None = None) -> Iterator[_base.Overrides]:
  """The overrides of each run: every number of examples, with every seed."""
  args = _base_ablation.parse(arg)
  epochs = get_config(arg).train.epochs
  times = {row.examples: row.epochs // settings.GPT3_EPOCHS for row in settings.TABLE_17.values()}
  if _base.switch(args, 'tiny'):
    times = {8: 1, 16: 1}
  runs = [{'data.limit': limit, 'train.epochs': n * epochs} for limit, n in times.items()]
  return _base_ablation.seeded(args, runs)
