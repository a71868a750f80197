"""What the configs of language models on E2E, WebNLG and DART share: table 11 and their argument.

Argument:

  model       gpt2, gpt2-medium, gpt2-large, gpt2-xl, fresh (untrained), a preset of the Llama
              family (llama-3-8b), or a folder in Hugging Face layout, a GGUF file or a run
              directory, written with a slash
  method      one of _base.METHODS
  targets     matrices of LoRA: qv (query and value, the paper's) or all (key and output as well,
              with the same rank)
  bottleneck  which of the adapters that the authors trained
  preset      see below
  tiny        true is a toy that trains in seconds: two layers, untrained unless a model is named,
              on 64 examples. An untrained model has no tokenizer: it needs
              `--config.data.tokenizer=`

Presets:

  paper   table 11, evaluated after every epoch: the default of models and folders named gpt2,
          gpt2-medium, gpt2-large and gpt2-xl. Table 11 is LoRA's; the paper says nothing of the
          settings of the adapters that the authors trained themselves, so they take its rate,
          batch, epochs, warm-up, decay and label smoothing, without dropout. Rows that the paper
          quotes from earlier work (marked * in table 3) have no settings
  script  examples/NLG as its README calls it: the same training, seed 110, evaluated every 2000
          steps and saved every 1000, decoded with the length penalty of its command
  llm     settings of our own, for pretrained language models: the default of any other model.
          The rates were searched on SmolLM2-135M, the sizes of methods are about LoRA's there
  small   settings of our own, for models of some 14M parameters that were trained here: the default
          of `fresh`
"""

from typing import NamedTuple

from ml_collections import config_dict

from configs import _base
from lora_jax.paper import entries, scripts, settings, translation

PUBLISHED = ('gpt2', 'gpt2-medium', 'gpt2-large', 'gpt2-xl')
LLAMAS = (
  *('smollm2-135m', 'smollm2-360m', 'smollm2-1.7b', 'tinyllama-1.1b'),
  *('llama-2-7b', 'llama-2-13b', 'llama-2-70b', 'llama-3-8b', 'llama-3-70b'),
  *('llama-3.2-1b', 'llama-3.2-3b'),
)
OWN = ('llm', 'small')
PRESETS = ('paper', 'script', *OWN)
TARGETS = {'qv': translation.QUERY_VALUE, 'all': translation.ALL_OF_ATTENTION}
ENTRIES = {'e2e': entries.TABLE_3, 'dart': entries.TABLE_13, 'webnlg': entries.TABLE_14}


class Schedule(NamedTuple):
  """Fields of `optim` and `train`. The batch is the global one: the authors use one device."""

  lr: float
  batch_size: int
  epochs: int
  warmup_steps: int


PAPER = Schedule(**settings.GPT2_TRAINING)
# Ours. Two methods are compared with it, so label smoothing and decay are the same for both. Rates:
# the best loss on E2E's dev set after an epoch of 2,400 examples, of LoRA's 3e-3, 1e-2, 3e-2 and of
# full fine-tuning's 5e-4, 1e-3; the other methods' was not searched for.
SMALL = {'lora': Schedule(1e-2, 32, 2, 100), 'full': Schedule(1e-3, 32, 2, 100)}
SMALL_OF_OTHERS = Schedule(2e-3, 32, 2, 100)
FRESH = Schedule(1e-3, 32, 1, 100)  # Full training of an untrained model.
# Rates of preset=llm. Of all but bitfit and vera, whose rates were not searched: the least loss of
# 300 dev rows of E2E (eval.limit) after 640 examples (data.limit) on SmolLM2-135M, of three rates
# or more, a factor of three apart, with the best inside. LoRA's is best on query and value, and on
# all matrices.
LLM_RATES = {
  'full': 1e-3,
  'bitfit': 3e-3,
  'top_layers': 3e-3,
  'adapter_h': 1e-2,
  'adapter_l': 1e-2,
  'prefix_layer': 1e-3,
  'lora': 3e-3,
  'vera': 1e-2,
}
LLM_SIZES: dict[str, dict[str, object]] = {
  'adapter_h': dict(bottleneck=3),
  'adapter_l': dict(bottleneck=5),
  'prefix_layer': dict(prefix=10, infix=3),
}


class Choice(NamedTuple):
  """What an argument picks: its values, checked, with the defaults filled in."""

  task: str
  model: str
  method: str
  targets: str
  bottleneck: str
  preset: str
  tiny: bool

  @property
  def published(self) -> str:
    """The last part of the model's name or folder, by which the tables know it."""
    return _base.last_part(self.model)

  @property
  def own_entries(self) -> list[entries.Entry]:
    """The rows of the task's table of this model and method that the authors trained."""
    wanted = (self.published, self.method)
    rows = ENTRIES[self.task]
    return [row for row in rows if (row.model, row.method) == wanted and not row.quoted]


def get_config(arg: str | None, task: str) -> config_dict.ConfigDict:
  """The locked config of one entry.

  Raises:
    ValueError: on an unknown key, method, preset, targets or model, with the nearest names; on a
      method that the preset has no settings of.
  """
  choice = _parse(arg, task)
  row = settings.TABLE_11[task]
  config = _base.base()
  config.experiment = config.task = task
  config.preset = choice.preset
  of_table = choice.model in ('gpt2-medium', 'gpt2-large') and choice.targets == 'qv'
  if of_table and choice.preset not in OWN and not choice.tiny:
    config.paper_table = f'table {row.paper_table}'
  # The authors' GPT-2 has no dropout of its own (examples/NLG/src/model.py).
  config.model.update(name=choice.model, hidden_dropout=0.0, attention_dropout=0.0)
  if choice.model == 'fresh':
    config.model.fresh = _base.fresh(
      'gpt2', 50257, 256, num_layers=6, num_heads=4, max_positions=512
    )
  config.optim.update(weight_decay=row.weight_decay, eps=scripts.GPT2_EPS)
  config.train.update(eval_batch_size=32, label_smoothing=row.label_smoothing)
  config.decode.update(
    beams=settings.GPT2_BEAMS,
    no_repeat_ngram=settings.GPT2_NO_REPEAT_NGRAM,
    length_penalty=row.length_penalty,
    contexts=64,
    final='test',
  )
  lora = _base.lora(**settings.GPT2_LORA, dropout=row.dropout)
  config.method = _base.method(choice.method, lora | {'targets': TARGETS[choice.targets]})
  if choice.bottleneck:
    config.method.bottleneck = int(choice.bottleneck)
  _schedule(config, PAPER)
  if choice.preset == 'script':
    _as_scripts(config)
  if choice.preset in OWN:
    (_as_small if choice.preset == 'small' else _as_llm)(config)
  if choice.tiny:
    _shrink(config)
  return config.lock()


def _parse(arg: str | None, task: str) -> Choice:
  defaults = dict.fromkeys(('model', 'targets', 'bottleneck', 'preset'), '')
  args = _base.parse_arg(arg, paths=('model',), task=task, method='lora', tiny='false', **defaults)
  tiny = _base.switch(args, 'tiny')
  model = args['model'] or ('fresh' if tiny else 'gpt2-medium')
  own = 'small' if model == 'fresh' else 'llm'
  preset = args['preset'] or ('paper' if _base.last_part(model) in PUBLISHED else own)
  targets = args['targets'] or 'qv'
  _base.check('task', args['task'], (task,))
  _base.check('method', args['method'], _base.METHODS)
  _base.check_model(model, (*PUBLISHED, *LLAMAS, 'fresh'))
  _base.check('preset', preset, PRESETS)
  _base.check('targets', targets, TARGETS)
  if args['targets'] and 'lora' not in args['method'].split('+'):
    raise ValueError(f'targets={targets} is for method=lora, found method={args["method"]}.')
  choice = Choice(task, model, args['method'], targets, args['bottleneck'], preset, tiny)
  return choice._replace(bottleneck=_bottleneck(choice))


def _bottleneck(choice: Choice) -> str:
  """The bottleneck of an adapter that the authors trained, the smallest by default; '' elsewhere.

  Raises:
    ValueError: if the preset has no settings of the method, or none with this bottleneck.
  """
  task, preset, method = choice.task, choice.preset, choice.method
  table = f'table {settings.TABLE_11[task].paper_table}'
  own = choice.own_entries
  sizes = sorted(
    {int(str(row.options['bottleneck'])) for row in own if 'bottleneck' in row.options}
  )
  if preset not in OWN and method != 'lora' and not own:
    raise _base.no_settings(ENTRIES[task], table, choice.published, method, preset)
  if preset == 'script' and method != 'lora':
    raise ValueError(
      f'preset=script: the authors published no script of method={method}. Take preset=paper.'
    )
  if choice.bottleneck and (preset in OWN or not sizes):
    raise ValueError(
      f'bottleneck picks a row of {table}, which has none of method={method} on '
      f'{choice.published} in this preset. Elsewhere: --config.method.bottleneck'
    )
  if preset in OWN or not sizes:
    return ''
  bottleneck = choice.bottleneck or str(sizes[0])
  _base.check(f'bottleneck of {method} in {table}', bottleneck, map(str, sizes))
  return bottleneck


def _schedule(config: config_dict.ConfigDict, schedule: Schedule) -> None:
  config.optim.update(lr=schedule.lr, warmup_steps=schedule.warmup_steps)
  config.train.update(batch_size=schedule.batch_size, epochs=schedule.epochs)


def _as_scripts(config: config_dict.ConfigDict) -> None:
  config.seed = scripts.GPT2_SEED
  config.eval.every_steps = scripts.GPT2_EVAL_STEPS
  config.checkpoint.every_steps = scripts.GPT2_SAVE_STEPS
  config.decode.length_penalty = scripts.GPT2_LENGTH_PENALTY


def _as_llm(config: config_dict.ConfigDict) -> None:
  method = config.method.name
  config.model.update(dtype='bfloat16', param_dtype='bfloat16')
  config.optim.update(lr=LLM_RATES.get(method, LLM_RATES['lora']), warmup_ratio=0.1, warmup_steps=0)
  config.optim.update(weight_decay=0.01, clip=1.0)
  config.train.update(batch_size=16, epochs=1, label_smoothing=0.0)
  config.method.update(LLM_SIZES.get(method, {}))
  config.decode.contexts = 0  # Beams of ten take as long as a quarter of an epoch on a CPU.
  if 'dropout' in config.method:
    config.method.dropout = 0.0


def _as_small(config: config_dict.ConfigDict) -> None:
  method = config.method.name
  fresh = config.model.name == 'fresh' and method == 'full'
  _schedule(config, FRESH if fresh else SMALL.get(method, SMALL_OF_OTHERS))
  config.data.max_length = 256  # configs/pretrain.py trains the positions up to here.
  config.optim.clip = 1.0
  config.train.label_smoothing = 0.0
  if 'dropout' in config.method:
    config.method.dropout = 0.0


def _shrink(config: config_dict.ConfigDict) -> None:
  if config.model.name == 'fresh':
    config.model.fresh = _base.fresh('gpt2', 50257, 32, 2, 2, max_positions=128)
  config.data.update(limit=64, max_length=128)
  config.train.update(batch_size=8, epochs=2)
  config.optim.warmup_steps = 2
  config.eval.every_steps = config.checkpoint.every_steps = 0
  config.decode.update(beams=2, max_tokens=8, contexts=4, final='')
