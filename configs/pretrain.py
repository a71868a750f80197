r"""An untrained small GPT-2 pretrained on WikiText-2 and WebNLG: a base model to adapt to E2E.

It stands in for the paper's GPT-2 where no network is available, at a size that two cores can
train. First its vocabulary, then itself (DIR holds wikitext-2.zip and webnlg-2017.zip, or what they
unpack to):

  python -m experiments.tokenizer --data_dir=DIR --out=runs/tokenizer
  python -m experiments.train --workdir=runs/pretrain --config=configs/pretrain.py \
      --config.data.dir=DIR
  python -m experiments.train --workdir=runs/e2e-lora --config.data.dir=DIR \
      --config=configs/e2e.py:model=runs/pretrain,method=lora,preset=small

Argument: `tokenizer` (the folder that experiments.tokenizer wrote), `tiny` (two layers on 64
sequences: seconds). Nothing here is the paper's. results/runs.md has the losses of such models, and
results/weak-base.md what they became on E2E.
"""

from collections.abc import Iterator

from ml_collections import config_dict

from configs import _base


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config.

  Raises:
    ValueError: on an unknown key, with the nearest names.
  """
  args = _base.parse_arg(arg, paths=('tokenizer',), tokenizer='runs/tokenizer', tiny='false')
  config = _base.base()
  config.experiment = 'pretrain'
  config.task = 'corpus'
  config.preset = ''
  # No dropout: three passes over the corpus are too few to overfit.
  config.model.update(name='fresh', hidden_dropout=0.0, attention_dropout=0.0)
  config.model.fresh = _base.fresh('gpt2', 8192, 256, num_layers=6, num_heads=4, max_positions=512)
  config.method = dict(name='full')
  # Every sequence is full. 0.1 % of WebNLG's examples and none of E2E's are longer than 256.
  config.data.update(tokenizer=args['tokenizer'], max_length=256, batching='pad_max')
  config.train.update(batch_size=8, eval_batch_size=32, epochs=3)  # 2048 tokens in a batch.
  config.optim.update(lr=1e-3, warmup_steps=200, weight_decay=0.01, clip=1.0)
  if _base.switch(args, 'tiny'):
    config.model.fresh = _base.fresh('gpt2', 8192, 32, num_layers=2, num_heads=2, max_positions=512)
    config.data.update(limit=64, max_length=64)
    config.train.update(batch_size=8, epochs=2)
    config.optim.warmup_steps = 2
  return config.lock()


def sweep(arg: str | None = None) -> Iterator[_base.Overrides]:
  """The overrides of one base model."""
  del arg
  return _base.seeded(1)
