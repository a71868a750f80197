r"""The demo: a small GPT-2 pretrained on synthetic text of some domains, adapted to another one.

  make demo

runs all of it in order. One run of it, once the tokenizer and the base model are there; and the
sweep of ranks by matrices:

  python -m experiments.train --workdir=runs/demo/lora-4 \
      --config=configs/demo.py:model=runs/demo/pretrain,method=lora,rank=4
  python -m experiments.sweep --workdir=runs/demo/lora \
      --config=configs/demo.py:model=runs/demo/pretrain,method=lora

Argument: `model` (`fresh` to pretrain, or the run directory of that), `method` (lora, full),
`rank` (of lora; 4 by default), `tokenizer` (the folder that the demo saves it to). Nothing here is
the paper's.
"""

from collections.abc import Iterator

from ml_collections import config_dict

from configs import _base
from lora_jax.paper import translation

HELD_OUT = 'synthetic/recipes'
RANKS = (1, 8)
# So narrow a model has little room in query and value alone, where GPT-3 has enough.
MATRICES = {
  'query and value': translation.QUERY_VALUE,
  'all of attention': translation.ALL_OF_ATTENTION,
  'all': ('.*/(query|key|value|output|up|down)',),
}


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config of one run.

  Raises:
    ValueError: on an unknown key or method, with the nearest names, or a rank that is no number or
      of a run that has none.
  """
  defaults = dict(model='fresh', method='lora', rank='', tokenizer='runs/demo/tokenizer')
  args = _base.parse_arg(arg, paths=('model', 'tokenizer'), **defaults)
  _base.check('method', args['method'], ('lora', 'full'))
  pretraining = args['model'] == 'fresh'
  if args['rank'] and (pretraining or args['method'] == 'full'):
    found = 'model=fresh, which is pretrained' if pretraining else 'method=full'
    raise ValueError(
      f'rank={args["rank"]} is for method=lora on a pretrained model, found {found}. Leave it out.'
    )
  rank = args['rank'] or '4'
  if not rank.isdecimal():
    raise ValueError(f'rank={rank!r}: expected a whole number')
  config = _base.base()
  config.experiment = 'demo'
  config.task = 'synthetic/pretrain' if pretraining else HELD_OUT
  config.preset = ''
  config.model.update(name=args['model'], hidden_dropout=0.0, attention_dropout=0.0)
  # One shape: another compilation would take longer here than the padding that it saves.
  config.data.update(tokenizer=args['tokenizer'], max_length=128, max_shapes=1)
  # The time of a sweep grows with examples times runs: small batches make the most updates of them.
  config.train.update(batch_size=16, eval_batch_size=128, epochs=1)
  config.optim.update(warmup_ratio=0.1, weight_decay=0.01, clip=1.0)
  # 64 tokens cut few sentences, and with a context (up to 44) they fit the positions. The demo
  # decodes at its end, all runs with one program.
  config.decode.update(beams=4, length_penalty=0.8, max_tokens=64, batch_size=50)
  if pretraining:
    config.model.fresh = _base.fresh(
      'gpt2', 1024, 128, num_layers=4, num_heads=4, max_positions=128
    )
    config.method = dict(name='full')
    config.data.limit = 5_000  # Of 14,000, to save time.
    config.optim.lr = 3e-3
  elif args['method'] == 'full':
    config.method = dict(name='full')
    config.optim.lr = 1e-3
  else:
    config.method = _base.lora(rank=int(rank), alpha=2 * int(rank))
    config.method.targets = MATRICES['all']
    config.optim.lr = 1e-2
    config.sweep.width = len(RANKS) * len(MATRICES)  # One program, one compilation.
  return config.lock()


def sweep(arg: str | None = None) -> Iterator[_base.Overrides]:
  """The overrides of each run of the demo's table: every rank in every choice of matrices."""
  del arg
  for targets in MATRICES.values():
    for rank in RANKS:
      yield {'method.targets': targets, 'method.rank': rank, 'method.alpha': 2.0 * rank}
