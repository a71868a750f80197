r"""LoRA and adapters of GPT-2 on the E2E NLG challenge (paper, table 3; settings of table 11).

GPT-2 medium at the paper's settings. DIR holds the challenge's CSV files or their archive:

  python -m experiments.train --workdir=runs/e2e \
      --config=configs/e2e.py:model=gpt2-medium,method=lora --config.data.dir=DIR

The adapters that the authors trained (table 3: adapter_h on gpt2-medium, adapter_l on gpt2-large in
two sizes):

  python -m experiments.train --workdir=runs/e2e-adapter \
      --config=configs/e2e.py:model=gpt2-large,method=adapter_l,bottleneck=248 \
      --config.data.dir=DIR

SmolLM2-135M, which `python -m experiments.base` fetches, adapted in query and value or in all four
matrices of the attention:

  python -m experiments.train --workdir=runs/e2e-qv --config.data.dir=DIR \
      --config=configs/e2e.py:model=models/smollm2,method=lora
  python -m experiments.train --workdir=runs/e2e-all --config.data.dir=DIR \
      --config=configs/e2e.py:model=models/smollm2,method=lora,targets=all

A small untrained model (6 layers, width 256) with GPT-2's vocabulary, then LoRA on top of it:

  python -m experiments.train --workdir=runs/e2e-fresh --config.data.dir=DIR \
      --config=configs/e2e.py:model=fresh,method=full --config.data.tokenizer=DIR/tokenizer-gpt2.zip
  python -m experiments.train --workdir=runs/e2e-fresh-lora --config.data.dir=DIR \
      --config=configs/e2e.py:model=runs/e2e-fresh,method=lora --config.train.epochs=1

Argument and presets: configs/_base_gpt2.py. The length penalty is 0.9 in `paper` and 0.8 in
`script`, as the table and the authors' command differ. The paper reports the mean over three seeds
(`sweep`) of each run's best epoch, with every context of the test set decoded. The index
results/README.md has what was found here.
"""

from collections.abc import Iterator

from ml_collections import config_dict

from configs import _base, _base_gpt2


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config of one entry; see `_base_gpt2.get_config`."""
  return _base_gpt2.get_config(arg, 'e2e')


def sweep(arg: str | None = None) -> Iterator[_base.Overrides]:
  """The overrides of the runs behind one entry of table 3: three seeds."""
  del arg
  return _base.seeded(3)
