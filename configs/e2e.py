r"""LoRA and full fine-tuning of GPT-2 on the E2E NLG challenge (paper, table 3, settings table 11).

GPT-2 medium by the paper's table, from a folder of the challenge's CSV files or their archive:

  python -m experiments.train --workdir=runs/e2e \
      --config=configs/e2e.py:model=gpt2-medium,method=lora --config.data.dir=DIR

A small model from nothing (6 layers, width 256) with GPT-2's vocabulary, then LoRA on top of it:

  python -m experiments.train --workdir=runs/e2e-fresh --config.data.dir=DIR \
      --config=configs/e2e.py:model=fresh,method=full --config.data.tokenizer=DIR/tokenizer-gpt2.zip
  python -m experiments.train --workdir=runs/e2e-fresh-lora --config.data.dir=DIR \
      --config=configs/e2e.py:model=runs/e2e-fresh,method=lora --config.train.epochs=1

Argument: `model` (gpt2, gpt2-medium, gpt2-large, gpt2-xl, fresh, or a folder in Hugging Face layout
or a run directory, written with a slash), `method` (lora, full), `preset`, `tiny`. Presets:

  paper    table 11; evaluated after every epoch
  script   examples/NLG as its README calls it: the same training, seed 110, evaluated every 2000
           steps and saved every 1000

The paper's figure is the mean over three seeds (`sweep`) of each run's best epoch. `tiny=true` is a
toy that trains in seconds: two layers, from scratch unless a model is named, on 64 examples. An
untrained model has no tokenizer, so it needs `--config.data.tokenizer=`, a folder or archive.
"""

from collections.abc import Iterable, Iterator, Mapping

from ml_collections import config_dict

from configs import base

TASKS = ('e2e',)
MODELS = ('gpt2', 'gpt2-medium', 'gpt2-large', 'gpt2-xl', 'fresh')
PRESETS = ('paper', 'script')

# Table 11: lr, batch, epochs, warm-up steps, weight decay, label smoothing. The README trains on
# one device, so that batch is the global one.
PAPER = (2e-4, 8, 5, 500, 0.01, 0.1)

# Full fine-tuning: the paper quotes its rows from prior work and gives no setting. Ours. A model
# from nothing wants a larger step and a bound on it.
#                        lr, batch, epochs, warm-up steps, weight decay, label smoothing
FULL = (5e-5, 8, 5, 500, 0.01, 0.0)
FULL_FRESH = (1e-3, 32, 1, 100, 0.01, 0.0)


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config of one cell.

  Raises:
    ValueError: on an unknown key, task, method, preset or model, with the nearest names.
  """
  defaults = dict(task='e2e', model='', method='lora', preset='paper', tiny=False)
  args = base.parse_arg(arg, paths=('model',), **defaults)
  name = args['model'] or ('fresh' if args['tiny'] else 'gpt2-medium')
  base.check('task', args['task'], TASKS)
  base.check('method', args['method'], base.METHODS)
  base.check('preset', args['preset'], PRESETS)
  base.check_model(name, MODELS)

  config = base.base()
  config.experiment = 'e2e'
  config.cell = 'table 3' if name in ('gpt2-medium', 'gpt2-large') and not args['tiny'] else ''
  config.task = args['task']
  config.preset = args['preset']
  config.model.name = name
  # The authors' GPT-2 has no dropout of its own (examples/NLG/src/model.py).
  config.model.update(hidden_dropout=0.0, attention_dropout=0.0)
  if name == 'fresh':
    config.model.fresh = base.fresh(
      'gpt2', 50257, 256, num_layers=6, num_heads=4, max_positions=512
    )
  config.data.max_length = 512
  # The scripts: eps and betas (the code's own default of beta2 is 0.98), no clipping.
  config.optim.update(eps=1e-6, beta1=0.9, beta2=0.999, clip=0.0)
  if args['method'] == 'full':
    config.method = dict(name='full')
    row = FULL_FRESH if name == 'fresh' else FULL
    config.optim.clip = 1.0
  else:
    config.method = base.lora(rank=4, alpha=32, dropout=0.1)  # Table 11.
    row = PAPER
  lr, batch_size, epochs, warmup_steps, weight_decay, label_smoothing = row
  config.optim.update(lr=lr, warmup_steps=warmup_steps, weight_decay=weight_decay)
  config.train.update(
    batch_size=batch_size, eval_batch_size=32, epochs=epochs, label_smoothing=label_smoothing
  )
  if args['preset'] == 'script':
    config.seed = 110
    config.eval.every_steps = 2000
    config.checkpoint.every_steps = 1000
  if args['tiny']:
    _shrink(config)
  return config.lock()


def sweep(seeds: Iterable[int] = range(3), rates: Iterable[float] = ()) -> Iterator[Mapping]:
  """Overrides of the runs behind one cell of table 3: three seeds, at the config's own rate."""
  return base.runs(seeds, rates)


def _shrink(config: config_dict.ConfigDict) -> None:
  if config.model.name == 'fresh':
    config.model.fresh = base.fresh('gpt2', 50257, 32, 2, 2, max_positions=128)
  config.data.update(limit=64, max_length=128)
  config.train.update(batch_size=8, epochs=2)
  config.optim.warmup_steps = 2
  config.eval.every_steps = config.checkpoint.every_steps = 0
