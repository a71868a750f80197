"""What the configs of GPT-2 on E2E, WebNLG and DART share: all of table 11 that is not of one task.

Each of them is `get_config` of a `Row`. Their argument: `model` (gpt2, gpt2-medium, gpt2-large,
gpt2-xl, fresh, or a folder in Hugging Face layout or a run directory, written with a slash),
`method` (base.METHODS), `targets` of LoRA (qv: query and value, the paper's; all: key and output
besides, with the same rank), `preset`, `tiny`. Presets:

  paper    table 11; evaluated after every epoch. For a model or folder named gpt2, gpt2-medium, ...
  script   examples/NLG as its README calls it: the same training, seed 110, evaluated every 2000
           steps and saved every 1000, decoded with the length penalty of its command
  small    models of some 14M parameters, for which the paper has no row. Ours; that of any other
           model unless a preset is named

`tiny=true` is a toy that trains in seconds: two layers, from scratch unless a model is named, on 64
examples. An untrained model has no tokenizer: it needs `--config.data.tokenizer=`.
"""

from typing import NamedTuple

from ml_collections import config_dict

from configs import base

MODELS = ('gpt2', 'gpt2-medium', 'gpt2-large', 'gpt2-xl', 'fresh')
PRESETS = ('paper', 'script', 'small')
TARGETS = {'qv': ('.*/(query|value)',), 'all': ('.*/attention/(query|key|value|output)',)}
SCRIPT_LENGTH_PENALTY = 0.8  # In the README's command, of every task.


class Row(NamedTuple):
  """What table 11 says of one task, and the table that its results are in."""

  task: str
  cell: str
  weight_decay: float
  dropout: float  # Of the input of LoRA alone.
  label_smoothing: float
  length_penalty: float


# lr, batch, epochs, warm-up steps. The README trains on one device: that batch is the global one.
PAPER = (2e-4, 8, 5, 500)  # Table 11, for every task.
# Full fine-tuning: the paper quotes its rows from prior work and gives no setting. Ours.
FULL = (5e-5, 8, 5, 500)
# Ours. Two methods are compared here, so smoothing and decay are the same for both.
SMALL = {'lora': (2e-3, 32, 2, 100), 'full': (5e-4, 32, 2, 100)}
FRESH = (1e-3, 32, 1, 100)  # All of a model from nothing, which wants a larger step.


def get_config(arg: str | None, row: Row) -> config_dict.ConfigDict:
  """The locked config of one cell.

  Raises:
    ValueError: on an unknown key, method, preset, targets or model, with the nearest names.
  """
  defaults = dict(task=row.task, model='', method='lora', targets='', preset='', tiny=False)
  args = base.parse_arg(arg, paths=('model',), **defaults)
  name = args['model'] or ('fresh' if args['tiny'] else 'gpt2-medium')
  base.check('task', args['task'], (row.task,))
  base.check('method', args['method'], base.METHODS)
  base.check_model(name, MODELS)
  published = name.rstrip('/').rpartition('/')[2] in MODELS[:-1]
  preset = args['preset'] or ('paper' if published else 'small')
  base.check('preset', preset, PRESETS)
  targets = args['targets'] or 'qv'
  base.check('targets', targets, TARGETS)
  if args['targets'] and 'lora' not in args['method']:
    raise ValueError(f'targets={targets} is for method=lora, found method={args["method"]}.')
  if preset != 'small' and args['method'] not in ('lora', 'full'):
    raise ValueError(
      f'preset={preset} has no settings of method={args["method"]}: take preset=small (ours).'
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
  if args['method'] == 'full':
    config.train.label_smoothing = 0.0
    config.optim.clip = 1.0
    _set(config, FULL)
  else:
    _set(config, PAPER)
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
  _set(config, FRESH if fresh else SMALL.get(method, SMALL['lora']))
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
