"""What a method trains of a model, counted by shapes alone: the numbers of the paper's tables."""

from __future__ import annotations

from collections.abc import Mapping

import jax

from lora_jax import methods
from lora_jax.models import presets
from lora_jax.paper import entries
from lora_jax.result_schema import CountRow

# The rows that are counted, by table. Of table 15 the first row is rounded to billions, and BitFit
# is missing; table 4 has both.
TABLES = {
  'table 2': entries.TABLE_2,
  'table 10': entries.TABLE_10,
  'table 3': entries.TABLE_3,
  'table 4': tuple(row for row in entries.TABLE_4 if row.method in ('full', 'bitfit')),
  'table 15': tuple(row for row in entries.TABLE_15 if row.method != 'full'),
}


def summarize(
  architecture: presets.Config, method: str, options: Mapping[str, object], scan: bool
) -> methods.Summary:
  """What a method trains of a model; nothing is computed but shapes.

  Args:
    architecture: the model's.
    method: one of the methods or a composition.
    options: the method's, without alpha (which no count depends on) and without the task head.
    scan: whether the layers are one stack. The numbers are the same.
  """
  task = presets.TASKS[architecture.family][0]
  model = presets.build(architecture, task=task, scan=scan)
  params = presets.abstract_params(model)
  if 'lora' in method.split('+'):
    options = {'alpha': 1.0, **options}
  made = methods.make(method, **{**options, 'train': model.head})
  init = lambda params: made.init(jax.random.key(0), model, params, presets.TOKENS)
  frozen, trainable = jax.eval_shape(init, params)
  return methods.summarize(made, frozen, trainable, model.head)


def summarize_preset(
  model: str, method: str, options: Mapping[str, object], scan: bool
) -> methods.Summary:
  """As `summarize`, for a preset of `lora_jax.models` by its name."""
  return summarize(presets.PRESETS[model].config, method, options, scan)


def row(table: str, entry: entries.Entry) -> CountRow:
  """A row of a table: the count that is printed, and the one computed without the task head."""
  # Layers in one stack are traced once, but then the last ones cannot be told apart.
  scan = entry.method != 'top_layers'
  summary = summarize_preset(entry.model, entry.method, entry.options, scan)
  return {
    'table': table,
    'model': entry.model,
    'method': entry.method,
    'options': dict(entry.options),
    'quoted': entry.quoted,
    'printed': entry.printed,
    'computed': summary.trainable - summary.head,
    'note': entries.NOTES.get((entry.model, entry.method), ''),
  }
