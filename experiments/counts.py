"""Trained parameters of the paper's rows, printed and computed: `python -m experiments.counts`.

The rows of tables 2 and 3 as the configs have them, quoted ones too, and table 15's of GPT-3.
Counted by shapes alone, at full size, the task head left out as in the paper. `experiments.report`
makes results/counts.md of the JSON, results/runs/counts.json.
"""

import jax
import jax.numpy as jnp

from configs import base, base_glue, e2e
from experiments import _cli
from lora_jax import methods
from lora_jax.models import presets
from lora_jax.train import result, writers

FILE = 'results/runs/counts.json'

GPT3 = presets.architecture(
  'gpt2', hidden_size=12288, num_layers=96, num_heads=96, max_positions=2048
)


def _gpt3(method: str, printed: str, **options: object) -> base.Cell:
  if 'lora' in method:
    options = {'targets': base.QUERY_VALUE, **options}
  return base.Cell('gpt3', method, options, printed)


VALUE, ALL = ('.*/value',), ('.*/attention/(query|key|value|output)',)
TABLE_15 = (
  _gpt3('full', '175,255.8M'),
  _gpt3('bitfit', '14.2M'),
  *(
    _gpt3('prefix_embed', printed, prefix=prefix, infix=8)
    for prefix, printed in (
      (32, '0.4M'), (64, '0.9M'), (128, '1.7M'), (256, '3.2M'), (512, '6.4M'),
    )
  ),
  *(
    _gpt3('prefix_layer', printed, prefix=prefix, infix=infix)
    for prefix, infix, printed in (
      (2, 2, '5.1M'), (8, 0, '10.1M'), (8, 8, '20.2M'), (32, 4, '44.1M'), (64, 0, '76.1M'),
    )
  ),
  *(
    _gpt3('adapter_h', printed, bottleneck=size)
    for size, printed in (
      (1, '7.1M'), (4, '21.2M'), (8, '40.1M'), (16, '77.9M'), (64, '304.4M'),
    )
  ),
  *(
    _gpt3('lora', printed, rank=rank, targets=targets)
    for rank, targets, printed in (
      (2, VALUE, '4.7M'), (1, base.QUERY_VALUE, '4.7M'), (2, base.QUERY_VALUE, '9.4M'),
      (1, ALL, '9.4M'), (4, base.QUERY_VALUE, '18.8M'), (2, ALL, '18.8M'),
      (8, base.QUERY_VALUE, '37.7M'), (4, ALL, '37.7M'), (64, base.QUERY_VALUE, '301.9M'),
      (64, ALL, '603.8M'),
    )
  ),
  *(
    _gpt3('lora+prefix_embed', printed, rank=rank, prefix=8, infix=4)
    for rank, printed in ((8, '37.8M'), (32, '151.1M'), (64, '302.1M'))
  ),
  _gpt3('lora+prefix_layer', '52.8M', rank=8, prefix=8, infix=4),
)  # fmt: skip
# The config has the rank of the scripts (base_glue.FACTORS).
TABLE_10 = (base.Cell(base_glue.XXLARGE, 'lora', dict(rank=8, targets=base.QUERY_VALUE), '4.7M'),)
TABLES = {
  'table 2': base_glue.TABLE_2,
  'table 10': TABLE_10,
  'table 3': e2e.TABLE_3,
  'table 15': TABLE_15,
}

# What is known of the differences of a model and a method.
NOTES = {
  ('roberta-base', 'full'): 'rounded',
  ('roberta-large', 'full'): 'rounded',
  ('deberta-v2-xxlarge', 'full'): 'rounded',
  ('deberta-v2-xxlarge', 'lora'): "at the rank that table 10 prints; 4.7M is the scripts' 16",
  ('gpt2-medium', 'full'): 'cause unknown',
  ('gpt3', 'lora'): 'the print is twice that of query and value',
  ('gpt3', 'full'): 'a second matrix of words would be 617.6M of it; the rest unknown',
  ('gpt2-medium', 'lora'): 'the print is 0.1 % of the model',
  ('gpt2-large', 'lora'): 'the print is 0.1 % of the model',
  ('gpt2-medium', 'prefix_layer'): 'size not given: nearest; the print is 0.1 % of the model',
  ('gpt2-large', 'prefix_layer'): 'size not given: nearest; the print is 0.1 % of the model',
  ('gpt2-medium', 'adapter_h'): 'size not given: nearest',
  ('roberta-large', 'adapter_p'): 'near, for a bottleneck that table 9 gives',
  ('roberta-large', 'adapter_h'): 'near, for a bottleneck that table 9 gives',
  ('gpt3', 'prefix_layer'): 'L d (lp + li), the formula of the paper; cause unknown',
  ('gpt3', 'lora+prefix_layer'): 'as prefix_layer',
  ('gpt3', 'bitfit'): 'every bias; the print is 12 d L, cause unknown',
}


def of(
  config: presets.Config, method: str, options: dict[str, object], scan: bool
) -> methods.Summary:
  """What a method trains of a model; nothing is computed but shapes.

  Args:
    config: the architecture.
    method: one of the methods or a composition; its `options` need no alpha and no task head.
    scan: whether the layers are one stack. The numbers are the same.
  """
  task = 'lm' if config.family == 'gpt2' else 'classification'
  built = presets.build(config, task=task, scan=scan)
  tokens = jax.ShapeDtypeStruct((1, 8), jnp.int32)
  params = jax.eval_shape(built.init, jax.random.key(0), tokens)['params']
  if 'lora' in method:
    options = {'alpha': 1.0, **options}
  if method != 'full':
    options = {**options, 'train': built.head}
  made = methods.make(method, **options)
  init = lambda params: made.init(jax.random.key(0), built, params, tokens)
  return methods.summarize(made, *jax.eval_shape(init, params), built.head)


def trained(model: str, method: str, options: dict[str, object], scan: bool) -> methods.Summary:
  """As `of`, for the full size of a preset by its name, or of gpt3."""
  return of(GPT3 if model == 'gpt3' else presets.PRESETS[model].config, method, options, scan)


def row(table: str, cell: base.Cell) -> dict[str, object]:
  """The row of the JSON: what is printed, and what is computed without the task head."""
  # Layers in one stack are traced once; their last ones cannot be told apart.
  scan = cell.method != 'top_layers'
  summary = trained(cell.model, cell.method, dict(cell.options), scan)
  return {
    'table': table,
    'model': cell.model,
    'method': cell.method,
    'options': dict(cell.options),
    'quoted': table in ('table 2', 'table 3') and not cell.arg,
    'printed': cell.printed,
    'computed': summary.trainable - summary.head,
    'note': NOTES.get((cell.model, cell.method), ''),
  }


def main() -> None:
  rows = [row(table, cell) for table, cells in TABLES.items() for cell in cells]
  for found in rows:
    print('{table:9} {model:19} {method:18} {printed:>12} {computed:>17,}'.format(**found))
  about = result.about()
  writers.write_json(FILE, {'experiment': 'counts', **about, 'counts': rows})


if __name__ == '__main__':
  _cli.run(main)
