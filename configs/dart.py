r"""LoRA and adapters of GPT-2 on DART 1.1.1 (paper, table 13, settings table 11).

GPT-2 medium by the paper's table. DIR holds dart-v1.1.1-full-dev.json and -test.json or their
archive, and dart-v1.1.1-full-train.json:

  python -m experiments.train --workdir=runs/dart \
      --config=configs/dart.py:model=gpt2-medium,method=lora --config.data.dir=DIR

Argument and presets: configs/base_gpt2.py. The authors publish no training command of this task:
`script` is their E2E command at table 11's numbers.
"""

from collections.abc import Iterable, Iterator, Mapping

from ml_collections import config_dict

from configs import base, base_gpt2

ROW = base_gpt2.Row(
  task='dart',
  cell='table 13',
  weight_decay=0.0,
  dropout=0.0,
  label_smoothing=0.0,
  length_penalty=0.8,
  cells=base_gpt2.CELLS,
)


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config of one cell; see `base_gpt2.get_config`."""
  return base_gpt2.get_config(arg, ROW)


def sweep(seeds: Iterable[int] = range(3), rates: Iterable[float] = ()) -> Iterator[Mapping]:
  """Overrides of the runs behind one cell of table 13: three seeds, at the config's own rate."""
  return base.runs(seeds, rates)
