r"""LoRA and adapters of GPT-2 on the E2E NLG challenge (paper, table 3, settings table 11).

GPT-2 medium by the paper's table, from a folder of the challenge's CSV files or their archive:

  python -m experiments.train --workdir=runs/e2e \
      --config=configs/e2e.py:model=gpt2-medium,method=lora --config.data.dir=DIR

Its adapters (table 3: adapter_h on gpt2-medium, adapter_l on gpt2-large, the latter in two sizes):

  python -m experiments.train --workdir=runs/e2e-adapter \
      --config=configs/e2e.py:model=gpt2-large,method=adapter_l,bottleneck=248 \
      --config.data.dir=DIR

The base model that configs/pretrain.py trains, adapted in query and value or in all four matrices:

  python -m experiments.train --workdir=runs/e2e-qv --config.data.dir=DIR \
      --config=configs/e2e.py:model=runs/pretrain,method=lora
  python -m experiments.train --workdir=runs/e2e-all --config.data.dir=DIR \
      --config=configs/e2e.py:model=runs/pretrain,method=lora,targets=all

A small model from nothing (6 layers, width 256) with GPT-2's vocabulary, then LoRA on top of it:

  python -m experiments.train --workdir=runs/e2e-fresh --config.data.dir=DIR \
      --config=configs/e2e.py:model=fresh,method=full --config.data.tokenizer=DIR/tokenizer-gpt2.zip
  python -m experiments.train --workdir=runs/e2e-fresh-lora --config.data.dir=DIR \
      --config=configs/e2e.py:model=runs/e2e-fresh,method=lora --config.train.epochs=1

Argument and presets: configs/base_gpt2.py. The length penalty is 0.9 in `paper` and 0.8 in
`script`, as the table and the authors' command differ. The paper's figure is the mean over three
seeds (`sweep`) of each run's best epoch, every context of the test set decoded.
"""

from collections.abc import Iterable, Iterator, Mapping

from ml_collections import config_dict

from configs import base, base_gpt2

MEDIUM, LARGE = 'gpt2-medium', 'gpt2-large'
TABLE_3 = (
  base.Cell(MEDIUM, 'full', {}, '354.92M'),
  base.Cell(MEDIUM, 'adapter_l', dict(bottleneck=6), '0.37M'),
  base.Cell(MEDIUM, 'adapter_l', dict(bottleneck=224), '11.09M'),
  base.Cell(MEDIUM, 'top_layers', dict(layers=2), '25.19M'),
  # Of the prefix neither lp nor li is known, and 0.35M is no multiple of L d: as near as can be.
  base.Cell(MEDIUM, 'prefix_layer', dict(prefix=14, infix=0), '0.35M'),
  base.Cell(LARGE, 'full', {}, '774.03M'),
  base.Cell(LARGE, 'prefix_layer', dict(prefix=17, infix=0), '0.77M'),
  *base_gpt2.own_cells(((MEDIUM, 'adapter_h', 112, '11.09M'), *base_gpt2.ADAPTERS_OF_LARGE)),
)

ROW = base_gpt2.Row(
  task='e2e',
  cell='table 3',
  weight_decay=0.01,
  dropout=0.1,
  label_smoothing=0.1,
  length_penalty=0.9,
  cells=TABLE_3,
)


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config of one cell; see `base_gpt2.get_config`."""
  return base_gpt2.get_config(arg, ROW)


def sweep(seeds: Iterable[int] = range(3), rates: Iterable[float] = ()) -> Iterator[Mapping]:
  """Overrides of the runs behind one cell of table 3: three seeds, at the config's own rate."""
  return base.runs(seeds, rates)
