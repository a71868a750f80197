r"""LoRA and the other methods on GLUE (paper, table 2; settings of tables 9 and 10).

RoBERTa-base on MRPC at the paper's settings; DIR holds the official archives:

  python -m experiments.train --workdir=runs/mrpc \
      --config=configs/glue.py:task=mrpc,model=roberta-base,method=lora --config.data.dir=DIR

A small encoder in a local folder, at settings of our own:

  python -m experiments.train --workdir=runs/mrpc-small --config.data.dir=DIR \
      --config=configs/glue.py:task=mrpc,model=path/to/encoder,preset=small

Argument:

  task         one of the nine tasks
  model        a preset of lora_jax/models, or a folder in Hugging Face layout, written with a slash
  method       one of _base.METHODS
  preset       see below
  settings_of  roberta-base, roberta-large or deberta-v2-xxlarge: the model of the paper whose
               settings are taken. The default is the model itself by the last part of its name or
               folder, and roberta-base for any other model
  bottleneck   which adapter of preset=adapter_setup
  tiny         true is a toy that trains in seconds: two layers, untrained unless a model is named,
               on 64 examples. An untrained model has no tokenizer: it needs
               `--config.data.tokenizer=`, a folder or archive

Presets:

  paper          tables 9 and 10, with the batch taken as the global one; what they leave open is
                 as in the scripts. Rows that table 2 quotes from earlier work (*) have no settings
  script         the authors' scripts, which differ: alpha of the base model, the batch of a device
                 times the devices; for DeBERTa warm-up steps, evaluations by steps, and the rates
                 of CoLA and RTE
  adapter_setup  table 9's rows of RoBERTa-large marked †: batch 4 and length 128 throughout, no
                 start from MNLI; and the adapters in both of their sizes
  small          settings of our own, for encoders of some 20M parameters
  compare        settings of our own for a comparison of eight methods; see configs/compare.py

MRPC, RTE and STS-B of `paper` and `script` start from the factors of the best MNLI run, which the
command names:

  python -m experiments.train --workdir=runs/rte --config.init_adapter=runs/mnli \
      --config=configs/glue.py:task=rte,model=roberta-base,method=lora --config.data.dir=DIR

The paper reports the median over five seeds (`sweep`) of each run's best epoch. results/table-2.md
has its scores, and those of small encoders here.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ml_collections import config_dict

from configs import _base
from lora_jax.paper import entries, scripts, settings

TASKS = ('cola', 'sst2', 'mrpc', 'stsb', 'qqp', 'mnli', 'qnli', 'rte', 'wnli')
BASE, LARGE, XXLARGE = 'roberta-base', 'roberta-large', 'deberta-v2-xxlarge'
OTHER_MODELS = ('deberta-v3-base', 'bert-base-uncased', 'bert-large-uncased', 'fresh')
PAPER_TABLES = {'paper': 'table 2', 'script': 'table 2', 'adapter_setup': 'table 2 †'}
SETTINGS = {
  'paper': {
    BASE: settings.ROBERTA_BASE,
    LARGE: settings.ROBERTA_LARGE,
    XXLARGE: settings.DEBERTA_XXL,
  },
  'script': {
    BASE: scripts.ROBERTA_BASE,
    LARGE: scripts.ROBERTA_LARGE,
    XXLARGE: scripts.DEBERTA_XXL,
  },
  'adapter_setup': {LARGE: settings.ROBERTA_LARGE_ADAPTER_SETUP},
}
ADAPTERS = settings.ADAPTERS_OF_ROBERTA_LARGE  # Of preset=adapter_setup.


def _own(epochs: tuple[int, ...]) -> dict[str, settings.GlueRow]:
  return settings.by_task((1e-3,) * 8, (32,) * 8, epochs, (128,) * 8)


# Settings of our own, in the order of settings.GLUE_TASKS.
SMALL = _own((3, 3, 10, 10, 3, 3, 10, 8))
COMPARE = _own((1, 1, 5, 5, 1, 1, 5, 5))  # What one machine can run of every method and rate.
POSITIONS = 128  # Of an untrained model.
FULL_SMALL_LR = 5e-5  # Of full fine-tuning with preset=small; the rest is as in SMALL.
PRESETS = (*SETTINGS, 'small', 'compare')


class Choice(NamedTuple):
  """What an argument picks: its values, checked, with the defaults filled in."""

  task: str
  model: str
  method: str
  preset: str
  settings_of: str
  bottleneck: str
  tiny: bool


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config of one entry.

  Raises:
    ValueError: on an unknown key, task, method, preset or model, with the nearest names; on a
      method that the preset has no settings of.
  """
  choice = _parse(arg)
  row = _settings(choice)
  config = _base.base()
  config.experiment = 'glue'
  config.task = choice.task
  config.preset = choice.preset
  published = _base.last_part(choice.model) in (BASE, LARGE, XXLARGE)
  if published and choice.task != 'wnli' and not choice.tiny:
    config.paper_table = PAPER_TABLES.get(choice.preset, '')
  config.model.name = choice.model
  config.model.classifier_dropout = row.classifier_dropout
  config.data.max_length = row.max_length
  if choice.model == 'fresh':
    config.model.fresh = _base.fresh('bert', 30522, 32, 2, 2, max_positions=POSITIONS)
    config.data.max_length = POSITIONS
  config.method = _base.method(choice.method, _lora(choice))
  if choice.bottleneck:
    config.method.bottleneck = int(choice.bottleneck)
  config.optim.update(
    lr=_rate(choice, row),
    weight_decay=row.weight_decay,
    warmup_ratio=row.warmup_ratio,
    warmup_steps=row.warmup_steps,
    # The defaults of the trainer that the scripts call; the paper gives none.
    clip=1.0,
    eps=1e-8,
    beta1=0.9,
    beta2=0.999,
  )
  config.train.update(batch_size=row.batch_size, epochs=row.epochs)
  config.eval.every_steps = row.eval_steps
  if choice.tiny:
    config.data.update(limit=64, max_length=128)
    config.train.update(batch_size=8, epochs=2)
    config.optim.warmup_steps = config.eval.every_steps = 0
  return config.lock()


def sweep(arg: str | None = None) -> Iterator[_base.Overrides]:
  """The overrides of the runs behind one entry of table 2: five seeds."""
  del arg
  return _base.seeded(5)


def _parse(arg: str | None) -> Choice:
  args = _base.parse_arg(
    arg,
    paths=('model',),
    task='mrpc',
    model='',
    method='lora',
    preset='paper',
    settings_of='',
    bottleneck='',
    tiny='false',
  )
  tiny = _base.switch(args, 'tiny')
  model = args['model'] or ('fresh' if tiny else BASE)
  _base.check('task', args['task'], TASKS)
  _base.check('method', args['method'], _base.METHODS)
  _base.check('preset', args['preset'], PRESETS)
  _base.check_model(model, (BASE, LARGE, XXLARGE, *OTHER_MODELS))
  own = _base.last_part(model)
  settings_of = args['settings_of'] or (own if own in SETTINGS['paper'] else BASE)
  _base.check('settings_of', settings_of, SETTINGS['paper'])
  choice = Choice(
    args['task'], model, args['method'], args['preset'], settings_of, args['bottleneck'], tiny
  )
  _check_settings(choice)
  if choice.preset == 'adapter_setup' and choice.method != 'lora':
    sizes = list(map(str, ADAPTERS[choice.method]))
    choice = choice._replace(bottleneck=choice.bottleneck or sizes[0])
    _base.check(f'bottleneck of {choice.method} in table 9', choice.bottleneck, sizes)
  return choice


def _check_settings(choice: Choice) -> None:
  """Raises a ValueError if the preset has no settings of the method on the model."""
  method, preset, model = choice.method, choice.preset, _base.last_part(choice.model)
  own = method in ('lora', *ADAPTERS)
  if preset == 'adapter_setup' and not (own and choice.settings_of == LARGE):
    raise ValueError(
      f"preset=adapter_setup is table 9's rows of method={'|'.join(('lora', *ADAPTERS))}, "
      f'model={LARGE}; found method={method}, model={model}. For others take preset=paper or '
      'preset=small.'
    )
  if preset in ('paper', 'script') and method != 'lora':
    offer = f' preset=adapter_setup has the adapters on {LARGE}.' if own else ''
    raise _base.no_settings(entries.TABLE_2, 'table 2', model, method, preset, offer)
  if preset == 'compare':
    _base.check('method of preset=compare', method, _base.RATES)
  if choice.bottleneck and not (preset == 'adapter_setup' and method != 'lora'):
    raise ValueError(
      'bottleneck picks a row of preset=adapter_setup. Elsewhere: --config.method.bottleneck'
    )


def _settings(choice: Choice) -> settings.GlueRow:
  """The row of the task; WNLI, which the paper leaves out, has the row of RTE everywhere."""
  if choice.preset == 'small':
    rows = SMALL
  elif choice.preset == 'compare':
    rows = COMPARE
  elif choice.bottleneck:
    rows = ADAPTERS[choice.method][int(choice.bottleneck)]
  else:
    rows = SETTINGS[choice.preset][choice.settings_of]
  return rows['rte' if choice.task == 'wnli' else choice.task]


def _lora(choice: Choice) -> dict[str, object]:
  """The section of LoRA: rank and alpha of the preset, and the authors' initialization."""
  rank, alpha = settings.RANK_OF_GLUE, scripts.ROBERTA_ALPHA
  if (choice.preset, choice.settings_of) == ('paper', BASE):
    alpha = settings.ALPHA_OF_ROBERTA_BASE
  if choice.preset in ('paper', 'script') and choice.settings_of == XXLARGE:
    # Table 10 prints 8 and 8, with which table 2's count and the released files do not agree.
    rank, alpha = scripts.DEBERTA_XXL_RANK, scripts.DEBERTA_XXL_ALPHA
  section = _base.lora(rank=rank, alpha=alpha)
  # The authors' DeBERTa draws the factors from a normal distribution; their RoBERTa, as loralib.
  return section | {'init': 'normal'} if choice.settings_of == XXLARGE else section


def _rate(choice: Choice, row: settings.GlueRow) -> float:
  if choice.preset == 'compare':
    return _base.RATES[choice.method][1]
  return FULL_SMALL_LR if choice.method == 'full' else row.lr
