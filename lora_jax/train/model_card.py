"""The model card of a run: the README.md that the hub shows, written from `result.json` alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lora_jax.data import glue
from lora_jax.models import presets

Result = Mapping[str, Any]  # The contents of a run's result.json.
# What of it every card shows, beside the evaluations.
KEYS = (
  *('task', 'model', 'method', 'preset', 'seed', 'config', 'parameters', 'seconds'),
  *('device', 'cpu', 'versions', 'commit'),
)
DATASETS = {  # Task -> the data set's name on the hub, and its config.
  **{task: ('nyu-mll/glue', task) for task in glue.TASKS},
  'e2e': ('tuetschek/e2e_nlg', None),
  'webnlg': ('webnlg-challenge/web_nlg', None),
  'dart': ('Yale-LILY/dart', None),
}
METRICS = {  # Metrics whose names on the hub differ from those in result.json.
  'matthews': 'matthews_correlation',
  'pearson': 'pearsonr',
  'spearman': 'spearmanr',
  'rouge_l': 'rouge',
}
PIPELINES = {'lm': 'text-generation'}
FRESH = """\
Its base was an untrained model, drawn from the run's seed and not published. To use it elsewhere,
export the run with the base: `python -m experiments.export --format=merged`."""
LOAD = {
  'adapter': """\
```python
from lora_jax import attach, bind, load_adapter, load_model

model, params = load_model({base!r}, task={task!r}{labels}{coded})
adapter = load_adapter('FOLDER')
method, frozen, trainable = attach(adapter, model, params)
apply = bind(model.apply, method)  # apply(frozen, trainable, input_ids)
```""",
  'peft': """\
```python
from peft import PeftModel
from transformers import {auto}

model = {auto}.from_pretrained({base!r}{labels})
model = PeftModel.from_pretrained(model, 'FOLDER')
```""",
  'loralib': """\
A state dict of loralib's layers, which stores no scale: load the base first, then this with
`strict=False`. For lora_jax, convert it with its scale:

    python -m experiments.export --adapter=FILE --base={base} --alpha={alpha} \\
        --format=adapter --out=DIR""",
  'merged': """\
```python
from transformers import {auto}

model = {auto}.from_pretrained('FOLDER')
```""",
}


def card(
  result: Result,
  *,
  task: str,
  num_labels: int,
  name: str,
  format: str = 'adapter',
  which: str = 'best',
  base: str = '',
  alpha: object = None,
) -> str:
  """The text of README.md: YAML front matter, a table of the run, and how to load its model.

  Every number in it is in `result`.

  Args:
    result: contents of the run's `result.json`.
    task, num_labels: those of the run's `Adapter`.
    name: the model's name in the hub's table of results.
    format: format of the files beside the card: `adapter`, `peft`, `loralib` or `merged`.
    which: the checkpoint that was exported, `best` or `last`.
    base: the base's name on the hub; '' takes that of the run's preset.
    alpha: alpha of a loralib file, which does not store it; None is that of the run.
  """
  base = base or hub_name(result['model'])
  where = base if '/' in base else f'PATH/TO/{base}'
  rows = _rows(result, base, which)
  config = result['config']
  labels = '' if task == 'lm' else f', num_labels={num_labels}'
  kind = 'CausalLM' if task == 'lm' else 'SequenceClassification'
  quantize = _quantize(result)
  coded = f', quantize={quantize!r}' if quantize else ''
  names = dict(base=where, task=task, labels=labels, coded=coded, auto=f'AutoModelFor{kind}')
  how = LOAD[format].format(**names, alpha=alpha or config['method'].get('alpha'))
  if result['model'] == 'fresh' and format != 'merged':
    how = FRESH
  table = '\n'.join(f'| {name} | {_text(value)} |' for name, value in rows if value not in ('', {}))
  return f"""---
{_front_matter(result, task, name, format, which, base)}
---

# {name}

`{base}` adapted to {result['task']} by {result['method']} with lora_jax
([LoRA](https://arxiv.org/abs/2106.09685) in JAX and Flax).

| | |
|---|---|
{table}

One run. `best` is the epoch with the best {result['metric']}, chosen on the split that it is
reported on, as the paper does; `last` is the last one. This is the {which} checkpoint.

## How to load it

{how}
"""


def hub_name(model: str) -> str:
  """A model's public name: a preset's repository, or the last part of a folder."""
  if model in presets.PRESETS:
    return presets.PRESETS[model].repository
  return Path(model).name


def _rows(result: Result, base: str, which: str) -> Iterable[tuple[str, object]]:
  """Names and values of the table."""
  config, counts, metric = result['config'], result['parameters'], result['metric']
  method = {key: value for key, value in config['method'].items() if value not in ((), [], '')}
  at = lambda record: f'{_text(record[metric])} (step {record["step"]})'
  split = metric.partition('/')[0]
  sampled = _sampled(result, which)
  others = {
    key: value
    for key, value in result[which].items()
    if key.startswith(f'{split}/') and key != metric and key not in sampled
  }
  yield 'base model', base
  yield 'method', {method.pop('name'): '', **method}
  yield 'task', result['task']
  yield f'{metric}, best', at(result['best'])
  yield f'{metric}, last', at(result['last'])
  yield f'others, {which}', others
  if sampled:
    yield f'of {config["decode"]["contexts"]} texts of {split}, {which}', sampled
  if generated := result.get('generated'):
    yield f'texts of {generated["split"]}, best checkpoint', generated['scores']
    yield 'decoding', generated['decode']
  yield 'seed', result['seed']
  yield 'trained parameters', counts['trainable']
  yield 'trained parameters without the head', counts['trainable_without_head']
  yield 'frozen parameters', counts['frozen']
  yield 'kernels of the base', (quantize := _quantize(result)) and f'in {quantize}'
  preset = {'preset': result['preset']} if result['preset'] else {}
  yield 'settings', {**preset, **config['optim'], **config['train']}
  limits = {part: config.get(part, {}).get('limit') for part in ('data', 'eval')}
  yield 'at most', {f'{part}.limit': limit for part, limit in limits.items() if limit}
  yield 'longest example', f'{config["data"]["max_length"]} tokens'
  yield 'hardware', f'{result["device"]}; host {result["cpu"]}'
  yield 'seconds', result['seconds']
  yield 'versions', result['versions']
  yield 'commit', result['commit']


def _sampled(result: Result, which: str) -> dict[str, float]:
  """The scores of the few texts that each evaluation of a language model decodes."""
  split, found = result['metric'].partition('/')[0], result[which]
  contexts = result['config'].get('decode', {}).get('contexts')
  if not contexts or f'{split}/perplexity' not in found:  # That is of language models alone.
    return {}
  whole = (f'{split}/loss', f'{split}/perplexity')
  return {k: x for k, x in found.items() if k.startswith(f'{split}/') and k not in whole}


def _quantize(result: Result) -> str:
  """How the base's kernels were quantized; '' if they were not."""
  found = result['config']['model'].get('quantize', 'none')
  return '' if found == 'none' else found


def _front_matter(result: Result, task: str, name: str, format: str, which: str, base: str) -> str:
  import huggingface_hub  # Writes and checks its own YAML.

  dataset, part = DATASETS.get(result['task'], (None, None))
  texts = result.get('generated', {}) if which == 'best' else {}
  split, sampled = result['metric'].partition('/')[0], _sampled(result, which)
  limit = result['config'].get('eval', {}).get('limit')
  found = [
    (split, key.partition('/')[2], value, limit)
    for key, value in result[which].items()
    if key.startswith(f'{split}/') and not key.endswith('/constant') and key not in sampled
  ]
  found += [(texts['split'], key, value, 0) for key, value in texts.get('scores', {}).items()]
  pipeline = PIPELINES.get(task, 'text-classification')
  data = huggingface_hub.ModelCardData(
    base_model=base if '/' in base else None,
    library_name={'peft': 'peft', 'merged': 'transformers'}.get(format, 'lora_jax'),
    pipeline_tag=pipeline,
    tags=['lora_jax', *result['method'].split('+')],
    datasets=[dataset] if dataset else None,
    metrics=list(dict.fromkeys(METRICS.get(key, key) for _, key, _, _ in found)),
    model_name=name,
    eval_results=[
      huggingface_hub.EvalResult(
        task_type=pipeline,
        dataset_type=dataset or result['task'],
        dataset_name=result['task'],
        dataset_config=part,
        dataset_split=split,
        dataset_args={'limit': limit} if limit else None,
        metric_type=METRICS.get(key, key),
        metric_name=key,
        metric_value=value,
      )
      for split, key, value, limit in found
    ],
  )
  return data.to_yaml()


def _text(value: object) -> str:
  """A value as a table's entry; floats to four significant digits."""
  if isinstance(value, Mapping):
    return ', '.join(f'{key} {_text(item)}'.strip() for key, item in value.items())
  if isinstance(value, list | tuple):
    return ' '.join(map(_text, value))
  return f'{value:.4g}' if isinstance(value, float) else str(value).replace('|', '\\|')
