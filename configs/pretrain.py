r"""A small GPT-2 from nothing, on WikiText-2 and WebNLG: a base model to adapt to E2E.

No pretrained GPT-2 can be had where there is no network; this one is a base for the paper's GPT-2
experiments at a size that two cores can train. Its vocabulary, then itself (DIR holds
wikitext-2.zip and webnlg-2017.zip, or what they unpack to):

  python -m experiments.tokenizer --data_dir=DIR --out=runs/tokenizer
  python -m experiments.train --workdir=runs/pretrain --config=configs/pretrain.py \
      --config.data.dir=DIR
  python -m experiments.train --workdir=runs/e2e-lora --config.data.dir=DIR \
      --config=configs/e2e.py:model=runs/pretrain,method=lora

Argument: `tokenizer` (the folder that experiments.tokenizer wrote), `tiny` (two layers on 64
sequences: seconds). Nothing of it is the paper's.
"""

from collections.abc import Iterable, Iterator, Mapping

from ml_collections import config_dict

from configs import base


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config.

  Raises:
    ValueError: on an unknown key, with the nearest names.
  """
  args = base.parse_arg(arg, paths=('tokenizer',), tokenizer='runs/tokenizer', tiny=False)
  config = base.base()
  config.experiment = 'pretrain'
  config.task = 'corpus'
  config.preset = ''
  # No dropout: three times over the corpus is too few to learn it by heart.
  config.model.update(name='fresh', hidden_dropout=0.0, attention_dropout=0.0)
  config.model.fresh = base.fresh('gpt2', 8192, 256, num_layers=6, num_heads=4, max_positions=512)
  config.method = dict(name='full')
  # Every sequence is full. 0.1 % of WebNLG's examples and none of E2E's reach beyond 256.
  config.data.update(tokenizer=args['tokenizer'], max_length=256, batching='pad_max')
  config.train.update(batch_size=8, eval_batch_size=32, epochs=3)  # 2048 tokens at a time.
  config.optim.update(lr=1e-3, warmup_steps=200, weight_decay=0.01, clip=1.0)
  if args['tiny']:
    config.model.fresh = base.fresh('gpt2', 8192, 32, num_layers=2, num_heads=2, max_positions=512)
    config.data.update(limit=64, max_length=64)
    config.train.update(batch_size=8, epochs=2)
    config.optim.warmup_steps = 2
  return config.lock()


def sweep(seeds: Iterable[int] = range(1), rates: Iterable[float] = ()) -> Iterator[Mapping]:
  """Overrides of one base model, or of one for each seed."""
  return base.runs(seeds, rates)
