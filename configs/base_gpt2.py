"""What the configs of GPT-2 on E2E, WebNLG and DART share: all of table 11 that is not of one task.

Each of them is `get_config` of a `Row`. Their argument: `model` (gpt2, gpt2-medium, gpt2-large,
gpt2-xl, fresh, or a folder in Hugging Face layout or a run directory, written with a slash),
`method` (base.METHODS), `targets` of LoRA (qv: query and value, the paper's; all: key and output
besides, with the same rank), `bottleneck` of the paper's adapters, `preset`, `tiny`. Presets:

  paper    table 11; evaluated after every epoch. For a model or folder named gpt2, gpt2-medium, ...
           The adapters that the authors trained themselves are here too. Of their settings the
           paper says nothing, table 11 being LoRA's: rate, batch, epochs, warm-up, decay and label
           smoothing are taken from it, and there is no dropout. Rows that it quotes from earlier
           work (marked * in table 3) have no settings
  script   examples/NLG as its README calls it: the same training, seed 110, evaluated every 2000
           steps and saved every 1000, decoded with the length penalty of its command
  small    models of some 14M parameters, for which the paper has no row. Ours; that of any other
           model unless a preset is named

`tiny=true` is a toy that trains in seconds: two layers, from scratch unless a model is named, on 64
examples. An untrained model has no tokenizer: it needs `--config.data.tokenizer=`.
"""

from collections.abc import Iterable
from typing import NamedTuple

from ml_collections import config_dict

from configs import base

MODELS = ('gpt2', 'gpt2-medium', 'gpt2-large', 'gpt2-xl', 'fresh')
PRESETS = ('paper', 'script', 'small')
TARGETS = {'qv': base.QUERY_VALUE, 'all': ('.*/attention/(query|key|value|output)',)}
SCRIPT_LENGTH_PENALTY = 0.8  # In the README's command, of every task.


class Row(NamedTuple):
  """What table 11 says of one task, and the table that its results are in."""

  task: str
  cell: str
  weight_decay: float
  dropout: float  # Of the input of LoRA alone.
  label_smoothing: float
  length_penalty: float
  cells: tuple[base.Cell, ...]  # Of that table; bottlenecks and prefixes by their counts.


def own_cells(adapters: Iterable[tuple[str, str, int, str]]) -> tuple[base.Cell, ...]:
  """The rows that the authors trained: LoRA, and adapters (model, method, bottleneck, printed)."""
  lora = dict(rank=4, targets=base.QUERY_VALUE)
  return (
    base.Cell('gpt2-medium', 'lora', lora, '0.35M', 'method=lora'),
    base.Cell('gpt2-large', 'lora', lora, '0.77M', 'method=lora'),
    *(
      base.Cell(model, method, dict(bottleneck=size), printed, f'method={method},bottleneck={size}')
      for model, method, size, printed in adapters
    ),
  )


ADAPTERS_OF_LARGE = (
  ('gpt2-large', 'adapter_l', 8, '0.88M'),
  ('gpt2-large', 'adapter_l', 248, '23.00M'),
)
# Tables 13 and 14 mark nothing. The rows that have a spread are the authors' own; the others are
# those that table 3 marks as quoted.
CELLS = (
  base.Cell('gpt2-medium', 'full', {}, '354M'),
  base.Cell('gpt2-medium', 'adapter_l', dict(bottleneck=6), '0.37M'),
  base.Cell('gpt2-medium', 'adapter_l', dict(bottleneck=224), '11M'),
  base.Cell('gpt2-medium', 'top_layers', dict(layers=2), '24M'),
  base.Cell('gpt2-medium', 'prefix_layer', {}, '0.35M'),
  base.Cell('gpt2-large', 'full', {}, '774M'),
  base.Cell('gpt2-large', 'prefix_layer', {}, '0.77M'),
  *own_cells(ADAPTERS_OF_LARGE),
)

# Table 1: batch x length -> how many parameters its adapters have; and the bottlenecks that come
# nearest to that in GPT-2 medium, those of 11M being table 3's.
TABLE_1 = {'32x512': '0.5M', '16x256': '11M', '1x128': '11M'}
ADAPTERS_OF_TABLE_1 = {
  '0.5M': {'adapter_l': 9, 'adapter_h': 5},
  '11M': {'adapter_l': 224, 'adapter_h': 112},
}

# lr, batch, epochs, warm-up steps. The README trains on one device: that batch is the global one.
PAPER = (2e-4, 8, 5, 500)  # Table 11, for every task.
# Ours. Two methods are compared here, so smoothing and decay are the same for both. Rates: the best
# loss on E2E's dev set after an epoch of 2,400 examples, of LoRA's 3e-3, 1e-2, 3e-2 and of full
# fine-tuning's 5e-4, 1e-3; the other methods' was not searched for.
SMALL = {'lora': (1e-2, 32, 2, 100), 'full': (1e-3, 32, 2, 100), 'other': (2e-3, 32, 2, 100)}
FRESH = (1e-3, 32, 1, 100)  # All of a model from nothing, which wants a larger step.


def get_config(arg: str | None, row: Row) -> config_dict.ConfigDict:
  """The locked config of one cell.

  Raises:
    ValueError: on an unknown key, method, preset, targets or model, with the nearest names.
  """
  defaults = dict(
    task=row.task, model='', method='lora', targets='', bottleneck='', preset='', tiny=False
  )
  args = base.parse_arg(arg, paths=('model',), **defaults)
  name = args['model'] or ('fresh' if args['tiny'] else 'gpt2-medium')
  base.check('task', args['task'], (row.task,))
  base.check('method', args['method'], base.METHODS)
  base.check_model(name, MODELS)
  short = name.rstrip('/').rpartition('/')[2]
  published = short in MODELS[:-1]
  preset = args['preset'] or ('paper' if published else 'small')
  base.check('preset', preset, PRESETS)
  targets = args['targets'] or 'qv'
  base.check('targets', targets, TARGETS)
  if args['targets'] and 'lora' not in args['method']:
    raise ValueError(f'targets={targets} is for method=lora, found method={args["method"]}.')
  own = [c for c in row.cells if c.arg and (c.model, c.method) == (short, args['method'])]
  sizes = {str(cell.options['bottleneck']) for cell in own if 'bottleneck' in cell.options}
  if preset != 'small' and args['method'] != 'lora' and not own:
    raise base.no_settings(row.cell, row.cells, short, args['method'], preset)
  if preset == 'script' and args['method'] != 'lora':
    raise ValueError(
      f'preset=script: the authors published no script of method={args["method"]}. Take '
      'preset=paper.'
    )
  if args['bottleneck'] and (preset == 'small' or not sizes):
    raise ValueError(
      f'bottleneck picks a row of {row.cell}, which has none of method={args["method"]} on {short} '
      'in this preset. Elsewhere: --config.method.bottleneck'
    )

  config = base.base()
  config.experiment = config.task = row.task
  config.preset = preset
  of_table = name in ('gpt2-medium', 'gpt2-large') and preset != 'small' and targets == 'qv'
  config.cell = row.cell if of_table and not args['tiny'] else ''
  # The authors' GPT-2 has no dropout of its own (examples/NLG/src/model.py).
  config.model.update(name=name, hidden_dropout=0.0, attention_dropout=0.0)
  if name == 'fresh':
    config.model.fresh = base.fresh(
      'gpt2', 50257, 256, num_layers=6, num_heads=4, max_positions=512
    )
  # The scripts: eps and betas (the code's own default of beta2 is 0.98), no clipping.
  config.optim.update(weight_decay=row.weight_decay, eps=1e-6, beta1=0.9, beta2=0.999, clip=0.0)
  config.train.update(eval_batch_size=32, label_smoothing=row.label_smoothing)
  config.decode.update(length_penalty=row.length_penalty, contexts=64, final='test')
  lora = base.lora(rank=4, alpha=32, dropout=row.dropout) | {'targets': TARGETS[targets]}
  config.method = base.method(args['method'], lora)
  _set(config, PAPER)
  if preset == 'paper' and sizes:
    chosen = args['bottleneck'] or min(sizes, key=int)
    base.check(f'bottleneck of {args["method"]} in {row.cell}', chosen, sorted(sizes, key=int))
    config.method.bottleneck = int(chosen)
  if preset == 'script':
    config.seed = 110
    config.eval.every_steps = 2000
    config.checkpoint.every_steps = 1000
    config.decode.length_penalty = SCRIPT_LENGTH_PENALTY
  if preset == 'small':
    _small(config)
  if args['tiny']:
    _shrink(config)
  return config.lock()


def _set(config: config_dict.ConfigDict, row: tuple[float, int, int, int]) -> None:
  lr, batch_size, epochs, warmup_steps = row
  config.optim.update(lr=lr, warmup_steps=warmup_steps)
  config.train.update(batch_size=batch_size, epochs=epochs)


def _small(config: config_dict.ConfigDict) -> None:
  method = config.method.name
  fresh = (config.model.name, method) == ('fresh', 'full')
  _set(config, FRESH if fresh else SMALL.get(method, SMALL['other']))
  # configs/pretrain.py trains the positions up to here and no more.
  config.data.max_length = 256
  config.optim.clip = 1.0
  config.train.label_smoothing = 0.0
  if 'lora' in method:
    config.method.dropout = 0.0


def _shrink(config: config_dict.ConfigDict) -> None:
  if config.model.name == 'fresh':
    config.model.fresh = base.fresh('gpt2', 50257, 32, 2, 2, max_positions=128)
  config.data.update(limit=64, max_length=128)
  config.train.update(batch_size=8, epochs=2)
  config.optim.warmup_steps = 2
  config.eval.every_steps = config.checkpoint.every_steps = 0
  config.decode.update(beams=2, max_tokens=8, contexts=4, final='')
