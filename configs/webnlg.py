r"""LoRA and adapters of GPT-2 on WebNLG 2017 (paper, table 14, settings table 11).

GPT-2 medium by the paper's table, from a folder of train.json, dev.json and test.json or their
archive:

  python -m experiments.train --workdir=runs/webnlg \
      --config=configs/webnlg.py:model=gpt2-medium,method=lora --config.data.dir=DIR

Argument and presets: configs/base_gpt2.py. The test set is scored as a whole, and on the categories
that training has, `seen`, and on the others. The authors publish no training command of this task:
`script` is their E2E command at table 11's numbers.
"""

from collections.abc import Iterable, Iterator, Mapping

from ml_collections import config_dict

from configs import base, base_gpt2

ROW = base_gpt2.Row(
  task='webnlg',
  cell='table 14',
  weight_decay=0.01,
  dropout=0.1,
  label_smoothing=0.1,
  length_penalty=0.8,
  cells=base_gpt2.CELLS,
)


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config of one cell; see `base_gpt2.get_config`."""
  return base_gpt2.get_config(arg, ROW)


def sweep(seeds: Iterable[int] = range(3), rates: Iterable[float] = ()) -> Iterator[Mapping]:
  """Overrides of the runs behind one cell of table 14: three seeds, at the config's own rate."""
  return base.runs(seeds, rates)
