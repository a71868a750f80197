r"""LoRA and the other methods on GLUE (paper, table 2; settings of tables 9 and 10).

RoBERTa-base on MRPC, by the paper's table, from a folder of the official archives:

  python -m experiments.train --workdir=runs/mrpc \
      --config=configs/glue.py:task=mrpc,model=roberta-base,method=lora --config.data.dir=DIR

A small local encoder, at the settings of its own:

  python -m experiments.train --workdir=runs/mrpc-small --config.data.dir=DIR \
      --config=configs/glue.py:task=mrpc,model=path/to/encoder,preset=small

Argument: `task` (one of nine), `model` (a preset, or a folder in Hugging Face layout, written with
a slash), `method` (base.METHODS), `preset`, `bottleneck`, `tiny`. Presets (rows: base_glue.py):

  paper    tables 9 and 10, the batch taken as the global one; what they leave open is as in the
           scripts. The rows of table 2 that are quoted from earlier work (*) have no settings
  script   the authors' scripts, which differ: alpha of the base model, batch times devices; for
           DeBERTa warm-up steps, an evaluation every so many steps, the rates of CoLA and RTE
  dagger   table 9's rows of RoBERTa-large †: batch 4 and length 128 throughout, no start from MNLI;
           the adapters of both bottlenecks
  small    encoders of some 20M parameters, for which the paper has no row. Ours
  compare  eight methods at about equal numbers of parameters, each with some rates. Ours

A model whose name or folder ends in `roberta-large` or `deberta-v2-xxlarge` takes the rows of that,
any other those of RoBERTa-base. MRPC, RTE and STS-B of `paper` and `script` start from the factors
of the best MNLI run, which the command names:

  python -m experiments.train --workdir=runs/rte --config.init_adapter=runs/mnli \
      --config=configs/glue.py:task=rte,model=roberta-base,method=lora --config.data.dir=DIR

The paper's figure is the median over five seeds (`sweep`) of each run's best epoch.

A comparison of methods as one sweep: configs/compare.py.

`tiny=true` is a toy that trains in seconds: two layers, from scratch unless a model is named, on 64
examples. An untrained model has no tokenizer, so it needs `--config.data.tokenizer=`, a folder or
archive.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import config_dict

from configs import base, base_glue

TASKS = ('cola', 'sst2', 'mrpc', 'stsb', 'qqp', 'mnli', 'qnli', 'rte', 'wnli')
MODELS = (
  'roberta-base', 'roberta-large', 'deberta-v2-xxlarge', 'deberta-v3-base', 'bert-base-uncased',
  'bert-large-uncased', 'fresh',
)  # fmt: skip
PRESETS = ('paper', 'script', 'dagger', 'small', 'compare')

CELLS = {'paper': 'table 2', 'script': 'table 2', 'dagger': 'table 2 †'}


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config of one cell.

  Raises:
    ValueError: on an unknown key, task, method, preset or model, with the nearest names.
  """
  defaults = dict(task='mrpc', model='', method='lora', preset='paper', bottleneck='', tiny=False)
  args = base.parse_arg(arg, paths=('model',), **defaults)
  task, method, preset = args['task'], args['method'], args['preset']
  name = args['model'] or ('fresh' if args['tiny'] else 'roberta-base')
  base.check('task', task, TASKS)
  base.check('method', method, base.METHODS)
  base.check('preset', preset, PRESETS)
  base.check_model(name, MODELS)
  short = name.rstrip('/').split('/')[-1]
  ends = {'large': base_glue.LARGE, 'xxlarge': base_glue.XXLARGE}
  size = next((size for size, end in ends.items() if short.endswith(end)), 'base')
  _check_method(method, preset, size, short, args['bottleneck'])

  rows = base_glue.ROWS[preset, size]
  if preset == 'dagger' and method != 'lora':
    sizes = base_glue.ADAPTERS[method]
    bottleneck = args['bottleneck'] or next(iter(sizes))
    base.check(f'bottleneck of {method} in table 9', bottleneck, sizes)
    rows = sizes[bottleneck]
  row = base_glue.Row(*rows['rte' if task == 'wnli' else task])
  rank, alpha = base_glue.FACTORS.get((preset, size), (8, 16))
  lora = base.lora(rank=rank, alpha=alpha)
  if size == 'xxlarge':
    lora['init'] = 'normal'  # So the authors' DeBERTa; their RoBERTa keeps loralib's.

  config = base.base()
  config.experiment = 'glue'
  if short in ('roberta-base', *ends.values()) and task != 'wnli' and not args['tiny']:
    config.cell = CELLS.get(preset, '')
  config.task = task
  config.preset = preset
  config.model.name = name
  config.model.classifier_dropout = row.classifier_dropout
  config.data.max_length = row.max_length
  if name == 'fresh':
    config.model.fresh = base.fresh('bert', 30522, 32, 2, 2, max_positions=128)
    config.data.max_length = config.model.fresh.max_positions
  config.method = base.method(method, lora)
  if preset == 'dagger' and method != 'lora':
    config.method.bottleneck = int(bottleneck)
  config.optim.update(
    lr=row.lr, weight_decay=row.weight_decay, warmup_ratio=row.warmup_ratio,
    warmup_steps=row.warmup_steps,
    # Not in the paper: the trainer that the scripts call.
    clip=1.0, eps=1e-8, beta1=0.9, beta2=0.999,
  )  # fmt: skip
  if preset == 'compare':
    config.optim.lr = base_glue.RATES[method][1]
  elif method == 'full':
    config.optim.lr = base_glue.FULL_SMALL_LR
  config.train.update(batch_size=row.batch_size, epochs=row.epochs)
  config.eval.every_steps = row.eval_steps
  if args['tiny']:
    config.data.update(limit=64, max_length=128)
    config.train.update(batch_size=8, epochs=2)
    config.optim.warmup_steps = config.eval.every_steps = 0
  return config.lock()


def _check_method(method: str, preset: str, size: str, model: str, bottleneck: str) -> None:
  """Raises a ValueError if a preset has no settings of a method on a model."""
  own = method in ('lora', *base_glue.ADAPTERS)
  if preset == 'dagger' and not (own and size == 'large'):
    raise ValueError(
      f"preset=dagger is table 9's rows of method={'|'.join(('lora', *base_glue.ADAPTERS))}, "
      f'model=roberta-large; found method={method}, model={model}. For others take preset=paper or '
      'preset=small.'
    )
  if preset in ('paper', 'script') and method != 'lora':
    dagger = ' preset=dagger has the adapters on roberta-large.' if own else ''
    raise base.no_settings('table 2', base_glue.TABLE_2, model, method, preset, dagger)
  if preset == 'compare':
    base.check('method of preset=compare', method, base_glue.RATES)
  if bottleneck and not (preset == 'dagger' and method != 'lora'):
    raise ValueError(
      'bottleneck picks a row of preset=dagger. Elsewhere: --config.method.bottleneck'
    )


def sweep(
  seeds: Iterable[int] = range(5), rates: Iterable[float] = ()
) -> Iterator[Mapping[str, Any]]:
  """Overrides of the runs behind one cell of table 2: five seeds, at the config's own rate."""
  return base.runs(seeds, rates)
