r"""LoRA and adapters of GPT-2 on WebNLG 2017 (paper, table 14; settings of table 11).

GPT-2 medium at the paper's settings. DIR holds train.json, dev.json and test.json or their archive:

  python -m experiments.train --workdir=runs/webnlg \
      --config=configs/webnlg.py:model=gpt2-medium,method=lora --config.data.dir=DIR

Argument and presets: configs/_base_gpt2.py. The test set is scored as a whole, on the categories
that the training set has (`seen`), and on the others (`unseen`). The authors publish no training
command of this task: `script` is their E2E command at table 11's numbers. The paper's
scores are in lora_jax/paper/printed.py.
"""

from collections.abc import Iterator

from ml_collections import config_dict

from configs import _base, _base_gpt2


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config of one entry; see `_base_gpt2.get_config`."""
  return _base_gpt2.get_config(arg, 'webnlg')


def sweep(arg: str | None = None) -> Iterator[_base.Overrides]:
  """The overrides of the runs behind one entry of table 14: three seeds."""
  del arg
  return _base.seeded(3)
