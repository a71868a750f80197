r"""The paper's GPT-3 experiments on WikiSQL, MNLI and SAMSum (tables 4, 15 and 16), on any GPT-2.

The settings are those of table 12 (table 17 for MNLI on n examples); the paper's model is GPT-3
175B, and here it is whatever GPT-2 is named. LoRA on GPT-2 XL at the smaller size of table 4:

  python -m experiments.train --workdir=runs/wikisql --config.data.dir=DIR \
      --config=configs/gpt3.py:task=wikisql,model=gpt2-xl,method=lora,size=low

Argument:

  task      wikisql (DIR holds what its data.tar.bz2 unpacks to), samsum (train.json, val.json,
            test.json) or mnli_text (GLUE's MNLI.zip)
  model     a GPT-2 preset, fresh (untrained), or a folder or run directory, written with a slash; a
            size of GPT-3 (gpt3-175b) can be planned, not trained
  method    one of _base.METHODS but top_layers and the adapters other than adapter_h
  size      low or high, where the paper has two sizes of the method
  examples  of mnli_text: 100, 1k, 10k or all (table 16)
  tiny      true is a toy that trains in seconds

The paper states neither alpha nor how GPT-3's answers are decoded: here alpha is r, and decoding is
greedy. Its warm-up of 250,000 tokens is counted in tokens of full length. The paper's
scores are in lora_jax/paper/printed.py, what each method takes at full size in results/plan.md.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ml_collections import config_dict

from configs import _base
from lora_jax.paper import entries, settings

GPT3 = tuple(
  f'gpt3-{size}' for size in ['125m', '350m', '760m', '1.3b', '2.7b', '6.7b', '13b', '175b']
)
MODELS = ('gpt2', 'gpt2-medium', 'gpt2-large', 'gpt2-xl', *GPT3, 'fresh')
POSITIONS = 1024  # GPT-2's: SAMSum's chats are cut at half of the paper's length.


class Decoding(NamedTuple):
  """How many tokens an answer may have, and the split that is decoded at the end."""

  max_tokens: int
  split: str


DECODING = {
  'wikisql': Decoding(64, 'dev'),
  'mnli_text': Decoding(4, 'dev_matched'),
  'samsum': Decoding(128, 'dev'),
}
# Their rates are in no table: they take LoRA's.
RATES = settings.GPT3_RATES | {
  name: settings.GPT3_RATES['lora'] for name in ('lora+prefix_embed', 'lora+prefix_layer')
}


def sizes_of(method: str) -> dict[str, Mapping[str, object]]:
  """The options of a method that fix its size, by the name of the size; one alone is named ''.

  They are those of table 4, and of table 15 (its first and last row) for what only that one has.
  """
  rows = [row for row in entries.TABLE_4 if row.method == method]
  if not rows:
    own = [row for row in entries.TABLE_15 if row.method == method]
    rows = [own[0], own[-1]] if len(own) > 1 else own
  names = ('low', 'high') if len(rows) > 1 else ('',)
  drop = lambda options: {key: value for key, value in options.items() if key != 'targets'}
  return {name: drop(row.options) for name, row in zip(names, rows, strict=True)}


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config of one entry.

  Raises:
    ValueError: on an unknown key, task, method, size, number of examples or model, with the nearest
      names.
  """
  args = _parse(arg)
  task, method, model = args['task'], args['method'], args['model']
  few = settings.TABLE_17[args['examples']]
  config = _base.base()
  config.experiment, config.task, config.preset = 'gpt3', task, 'paper'
  longest = settings.GPT3_LENGTHS['samsum'] if model in GPT3 else POSITIONS
  length = min(settings.GPT3_LENGTHS[task], longest)
  config.data.update(max_length=length, limit=few.examples)
  config.train.update(batch_size=few.batch_size, epochs=few.epochs, eval_batch_size=32)
  config.model.update(name=model, hidden_dropout=0.0, attention_dropout=0.0)
  config.method = _base.method(method, _base.lora(rank=1, alpha=1))
  config.method.update(sizes_of(method)[args['size']])
  if 'alpha' in config.method:
    config.method.alpha = float(config.method.rank)
  lr = RATES[method]
  if task == 'mnli_text':
    lr = few.rates.get(method, lr)
    if method == 'prefix_embed':
      config.method.prefix = few.embed_prefix
  config.optim.update(
    lr=lr,
    weight_decay=settings.GPT3_WEIGHT_DECAY,
    warmup_steps=max(1, round(settings.GPT3_WARMUP_TOKENS / (few.batch_size * length))),
  )
  decoding = DECODING[task]
  config.decode.update(
    strategy='greedy',
    no_repeat_ngram=0,
    max_tokens=decoding.max_tokens,
    contexts=64,
    final=decoding.split,
  )
  if _base.switch(args, 'tiny'):
    _shrink(config)
  return config.lock()


def sweep(arg: str | None = None) -> Iterator[_base.Overrides]:
  """The overrides of the runs behind one entry: three seeds."""
  del arg
  return _base.seeded(3)


def _parse(arg: str | None) -> dict[str, str]:
  """The argument's values, checked, with the defaults filled in."""
  defaults = dict.fromkeys(('model', 'size', 'examples'), '')
  args = _base.parse_arg(
    arg, paths=('model',), task='wikisql', method='lora', tiny='false', **defaults
  )
  args['model'] = args['model'] or ('fresh' if _base.switch(args, 'tiny') else 'gpt2-xl')
  args['examples'] = args['examples'] or 'all'
  _base.check('task', args['task'], settings.GPT3_LENGTHS)
  _base.check('method', args['method'], RATES)
  _base.check_model(args['model'], MODELS)
  sizes = sizes_of(args['method'])
  args['size'] = args['size'] or next(iter(sizes))
  if args['size'] not in sizes:
    known = ', '.join(filter(None, sizes)) or 'one'
    raise ValueError(f'size={args["size"]}: method={args["method"]} has {known} in tables 4 and 15')
  _base.check('number of examples', args['examples'], settings.TABLE_17)
  if args['examples'] != 'all' and args['task'] != 'mnli_text':
    raise ValueError(
      f'examples={args["examples"]}: table 16 is of task=mnli_text, found {args["task"]}'
    )
  return args


def _shrink(config: config_dict.ConfigDict) -> None:
  config.model.fresh = _base.fresh('gpt2', 50257, 32, 2, 2, max_positions=512)
  config.data.update(limit=64, max_length=min(config.data.max_length, 256))
  config.train.update(batch_size=8, epochs=1)
  config.optim.warmup_steps = 2
  config.decode.update(max_tokens=8, contexts=4, final='')
  if 'prefix' in config.method:
    config.method.update(prefix=8, infix=8)
