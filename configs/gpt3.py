r"""The paper's GPT-3 experiments on WikiSQL, MNLI and SAMSum (tables 4, 15-17), on any GPT-2.

The settings are those of table 12 (table 17 for MNLI on n examples); the model is GPT-3 175B in the
paper, and here whatever GPT-2 is named. LoRA on GPT-2 XL, its row of 4.7M parameters (at 175B):

  python -m experiments.train --workdir=runs/wikisql --config.data.dir=DIR \
      --config=configs/gpt3.py:task=wikisql,model=gpt2-xl,method=lora,size=low

Argument: `task` (wikisql: DIR holds what its data.tar.bz2 unpacks to; samsum: train.json, val.json,
test.json; mnli_text: GLUE's MNLI.zip), `model` (a GPT-2 preset, fresh, or a folder or run
directory, written with a slash; a size of GPT-3, gpt3-175b, to be planned, not trained), `method`
(base.METHODS but top_layers and the adapters other than adapter_h), `size` (low or high, where
table 4 has two rows), `examples` (mnli_text: 100, 1k, 10k, all: table 16), `tiny`.

The paper states neither alpha nor how GPT-3's answers are decoded: here alpha is r, and decoding is
greedy. Its warm-up of 250,000 tokens is counted in tokens of full length.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import config_dict

from configs import base

SIZES = ('125m', '350m', '760m', '1.3b', '2.7b', '6.7b', '13b', '175b')
GPT3 = tuple(f'gpt3-{size}' for size in SIZES)  # To be planned; their weights are not published.
MODELS = ('gpt2', 'gpt2-medium', 'gpt2-large', 'gpt2-xl', *GPT3, 'fresh')
LENGTHS = {'wikisql': 384, 'mnli_text': 768, 'samsum': 2048}  # Table 12.
POSITIONS = 1024  # GPT-2's: with it SAMSum's chats are cut at half of the paper's length.
BATCH_SIZE, EPOCHS, WARMUP_TOKENS, WEIGHT_DECAY = 128, 2, 250_000, 0.1  # Table 12.

# Table 12: the learning rate. Table 15 (and the sizes in table 4): options of the low and high row.
METHODS: dict[str, tuple[float, dict[str, dict[str, Any]]]] = {
  'full': (5e-6, {'': {}}),
  'bitfit': (1.6e-3, {'': {}}),
  'prefix_embed': (5e-4, {'': dict(prefix=256, infix=8)}),
  'prefix_layer': (1e-4, {'': dict(prefix=8, infix=8)}),
  'adapter_h': (1e-4, {'low': dict(bottleneck=1), 'high': dict(bottleneck=8)}),
  'lora': (2e-4, {'low': dict(rank=1), 'high': dict(rank=8)}),  # Query and value.
  # Table 15 alone; their rates are in no table: LoRA's.
  'lora+prefix_embed': (
    2e-4, {'low': dict(rank=8, prefix=8, infix=4), 'high': dict(rank=64, prefix=8, infix=4)},
  ),
  'lora+prefix_layer': (2e-4, {'': dict(rank=8, prefix=8, infix=4)}),
}  # fmt: skip

# Table 17: examples -> their number, batch, epochs, then what differs from table 12.
EXAMPLES = {
  '100': (100, 20, 40),
  '1k': (1_000, 20, 40),
  '10k': (10_000, 100, 4),
  'all': (0, 128, 2),
}
EMBED_RATES = {'100': 2e-4, '1k': 2e-4, '10k': 4e-4, 'all': 5e-4}
EMBED_PREFIX = {'100': 16, '1k': 32, '10k': 64, 'all': 256}
LAYER_RATES = {'100': 5e-5, '1k': 5e-5, '10k': 5e-5, 'all': 1e-4}


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config of one cell.

  Raises:
    ValueError: on an unknown key, task, method, size, number of examples or model, with the nearest
      names.
  """
  args = base.parse_arg(
    arg, paths=('model',), task='wikisql', model='', method='lora', size='', examples='', tiny=False
  )
  name = args['model'] or ('fresh' if args['tiny'] else 'gpt2-xl')
  base.check('task', args['task'], LENGTHS)
  base.check('method', args['method'], METHODS)
  base.check_model(name, MODELS)
  rate, sizes = METHODS[args['method']]
  size = args['size'] or next(iter(sizes))
  if size not in sizes:
    known = ', '.join(filter(None, sizes)) or 'one'
    raise ValueError(f'size={size}: method={args["method"]} has {known} in tables 4 and 15')
  few = args['examples'] or 'all'
  base.check('number of examples', few, EXAMPLES)
  if few != 'all' and args['task'] != 'mnli_text':
    raise ValueError(f'examples={few}: table 16 is of task=mnli_text, found {args["task"]}')

  config = base.base()
  config.experiment, config.task, config.preset = 'gpt3', args['task'], 'paper'
  limit, batch_size, epochs = EXAMPLES[few]
  positions = LENGTHS['samsum'] if name in GPT3 else POSITIONS
  config.data.update(max_length=min(LENGTHS[args['task']], positions), limit=limit)
  config.train.update(batch_size=batch_size, epochs=epochs, eval_batch_size=32)
  config.model.update(name=name, hidden_dropout=0.0, attention_dropout=0.0)
  lora = base.lora(rank=1, alpha=1)
  config.method = base.method(args['method'], lora)
  config.method.update(sizes[size])
  if 'lora' in args['method']:
    config.method.alpha = float(config.method.rank)
  if args['task'] == 'mnli_text' and args['method'] == 'prefix_embed':
    rate, config.method.prefix = EMBED_RATES[few], EMBED_PREFIX[few]
  if args['task'] == 'mnli_text' and args['method'] == 'prefix_layer':
    rate = LAYER_RATES[few]
  config.optim.update(
    lr=rate,
    weight_decay=WEIGHT_DECAY,
    warmup_steps=max(1, round(WARMUP_TOKENS / (batch_size * config.data.max_length))),
  )
  longest = {'wikisql': 64, 'mnli_text': 4, 'samsum': 128}[args['task']]
  held_out = {'wikisql': 'dev', 'mnli_text': 'dev_matched', 'samsum': 'dev'}[args['task']]
  config.decode.update(
    strategy='greedy', no_repeat_ngram=0, max_tokens=longest, contexts=64, final=held_out
  )
  if args['tiny']:
    _shrink(config)
  return config.lock()


def _shrink(config: config_dict.ConfigDict) -> None:
  config.model.fresh = base.fresh('gpt2', 50257, 32, 2, 2, max_positions=512)
  config.data.update(limit=64, max_length=min(config.data.max_length, 256))
  config.train.update(batch_size=8, epochs=1)
  config.optim.warmup_steps = 2
  config.decode.update(max_tokens=8, contexts=4, final='')
  if 'prefix' in config.method:
    config.method.update(prefix=8, infix=8)


def sweep(seeds: Iterable[int] = range(3), rates: Iterable[float] = ()) -> Iterator[Mapping]:
  """Overrides of the runs behind one cell: three seeds, at the config's own rate."""
  return base.runs(seeds, rates)
