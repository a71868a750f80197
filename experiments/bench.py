"""Speed and size of a train step, as ratios measured in one run: `python -m experiments.bench`.

method     LoRA (r=8, query and value) against full fine-tuning: seconds, FLOPs, bytes
successors LoRA+, LoRA-FA, PiSSA, DoRA and VeRA against LoRA (r=8, query and value), in pairs
dtype      bfloat16 with float32 accumulation against float32, LoRA
quantized  LoRA on kernels in nf4 and int8 against a base in bfloat16, all computed in bfloat16
layout     an epoch of a task packed, padded to the batch's longest, and padded to `max_length`
           (needs --data_dir, a folder of GLUE's archives, and --tokenizer)
decode     64 tokens after each of --contexts prompts, by a GPT-2 of 6 layers and width 384 with
           GPT-2's vocabulary, by the --beams: seconds with and without compiling; bytes of the
           compiled loop, and how many of them are the cache and the logits of the beams
sweep      --members runs of LoRA (r=8) in one program, on the same batches and on their own,
           against as many runs one after the other: by the step, and by the clock of --steps steps
           each with compiling
serving    a batch in which 8 adapters are mixed (r=8, query and value, a head each) against one on
           a single adapter, unmerged, and against the base; and the bytes of 1,000 such adapters
attention  each implementation of attention that can run here, of an encoder, a DeBERTa and a GPT-2
           of --layers layers, on padded and on packed rows
mfu        the share of the device's arithmetic that a step of LoRA and of full fine-tuning reaches
kernels    where the time of a step of LoRA goes on an accelerator, by the kind of its kernels
nnx        LoRA on a model of Flax NNX against the same model of Linen: seconds and bytes
compile    seconds and programs from the command to the first step, cold and with JAX's cache warm,
           of layers that are looped and scanned
first_step the same of this process (what `compile` runs in processes of its own; run it alone)

What is not given is chosen for the device: an accelerator computes in bfloat16 at published sizes,
a CPU in float32 at small ones.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence

import jax
from absl import flags
from ml_collections import config_dict

from configs import glue, rates
from experiments import _cli
from lora_jax.bench import (
  attention,
  decoding,
  first_step,
  frameworks,
  kernels,
  layouts,
  mfu,
  serving,
  steps,
  successors,
  sweeps,
)
from lora_jax.bench.timing import SHAPES, Measured, Rounds, parse_shape, table
from lora_jax.data import tasks, tokenizer_files
from lora_jax.errors import nearest
from lora_jax.models import presets
from lora_jax.train import mesh, result, writers

DEFAULT_PARTS = [
  'method', 'dtype', 'decode', 'sweep', 'serving', 'attention', 'mfu', 'nnx', 'compile'
]  # fmt: skip
PARTS = flags.DEFINE_list('parts', DEFAULT_PARTS, 'What is measured.')
MODEL = flags.DEFINE_string('model', 'roberta-base', 'Shape of the model of train steps.')
ROWS = flags.DEFINE_integer('rows', 16, 'Rows of the batch of train steps and of serving.')
LENGTH = flags.DEFINE_integer('length', 64, 'Tokens of a row of train steps and of serving.')
BATCHES = flags.DEFINE_list(
  'shapes',
  [],
  'Models and batches of the parts attention, mfu and kernels, each as roberta-base:32x128. The '
  'default is chosen by the part and the device.',
)
METHODS = flags.DEFINE_list('methods', ['lora', 'full'], 'Methods of the part mfu.')
IMPLEMENTATIONS = flags.DEFINE_list(
  'implementations',
  ['auto', 'xla', 'cudnn', 'pallas'],
  'Implementations of attention of the parts attention and mfu (of mfu: for LoRA). One that cannot '
  'run here is skipped, with its reason.',
)
LAYERS = flags.DEFINE_integer(
  'layers', 4, 'Layers of the parts attention and nnx: each compiles longer.'
)
LAYOUTS = flags.DEFINE_list('layouts', ['padded', 'packed'], 'Rows of the part attention.')
ROUNDS = flags.DEFINE_integer('rounds', 5, 'Timed rounds, after one that is not counted.')
DISPATCHES = flags.DEFINE_integer(
  'dispatches', 0, 'Dispatches of a round; 0 is 20 on an accelerator and 1 on a CPU.'
)
STEPS_PER_CALL = flags.DEFINE_integer('steps_per_call', 1, 'Steps of a dispatch.')
COMPILE_JOBS = flags.DEFINE_integer(
  'compile_jobs',
  0,
  'Programs that are compiled at the same time, but for the part sweep; with more than 1 the '
  'seconds of compiling are left out. 0 is 4 on an accelerator and 1 on a CPU.',
)
DATA_DIR = flags.DEFINE_string('data_dir', '', "Folder of GLUE's archives, for the part layout.")
TOKENIZER = flags.DEFINE_string(
  'tokenizer', '', 'Folder or archive of a BERT vocabulary, for the part layout.'
)
TASKS = flags.DEFINE_list('tasks', ['rte', 'cola'], 'Tasks of the part layout.')
CONTEXTS = flags.DEFINE_integer('contexts', 64, 'Number of prompts of the part decode.')
BEAMS = flags.DEFINE_list('beams', ['10', '5', '1'], 'Widths of the beam of the part decode.')
DTYPE = flags.DEFINE_string(
  'dtype', '', 'Compute and base, but for the part dtype; the default is chosen by the device.'
)
DROPOUT = flags.DEFINE_float(
  'dropout',
  None,
  "Rate of dropout; the default is 0 in attention, mfu and kernels, else the model's own.",
)
SCANS = flags.DEFINE_list(
  'scans', ['false', 'true'], 'Whether layers are scanned, of the parts compile and mfu.'
)
MEMBERS = flags.DEFINE_integer('members', 16, 'Number of runs of the part sweep.')
STEPS = flags.DEFINE_integer(
  'steps', 780, 'Steps of each run of the part sweep: ten epochs of RTE.'
)
BEGAN = flags.DEFINE_float(
  'began', 0.0, 'When the command of the part first_step was started, in seconds since 1970.'
)
OUT = flags.DEFINE_string('out', '', 'JSON file that the figures are written to.')
LONGEST = 128  # Tokens of an example in the part layout.
# Defaults of --shapes by part, kernels as mfu: on an accelerator, and on a CPU.
CHOSEN = {
  'attention': (
    ('roberta-base:32x128', 'deberta-v3-base:32x128', 'gpt2-medium:8x512'),
    ('minilm:8x64', 'toy-deberta:8x64', 'toy-gpt2:8x64'),
  ),
  'mfu': (
    ('roberta-base:32x128', 'roberta-large:32x128', 'gpt2-medium:8x512'),
    ('minilm:16x64',),
  ),
}
Titled = Iterator[tuple[str, Measured]]


def is_accelerated() -> bool:
  """Whether the default device is not a CPU."""
  return jax.devices()[0].platform != 'cpu'


def dtype() -> str:
  """The dtype of compute and base."""
  return DTYPE.value or ('bfloat16' if is_accelerated() else 'float32')


def rounds() -> Rounds:
  """How train steps are timed."""
  dispatches = DISPATCHES.value or (20 if is_accelerated() else 1)
  return Rounds(count=ROUNDS.value, dispatches=dispatches, steps_per_call=STEPS_PER_CALL.value)


def compile_jobs() -> int:
  """How many programs are compiled at the same time."""
  return COMPILE_JOBS.value or (4 if is_accelerated() else 1)


def shapes_of(part: str) -> Iterator[tuple[str, int, int]]:
  """(model, rows, length) of each batch of a part; raises as `parse_shape`."""
  return map(parse_shape, BATCHES.value or CHOSEN[part][not is_accelerated()])


def case_of(model: str, rows: int, length: int, layout: str = 'full') -> steps.Case:
  """A batch for a shape of model.

  Raises:
    ValueError: for an unknown shape.
  """
  if model not in SHAPES:
    raise ValueError(f'model {model!r}: no such shape. {nearest(model, SHAPES)}')
  found = SHAPES[model]
  kind = 'lm' if 'lm' in presets.TASKS[found.family] else 'classification'
  return steps.random_case(kind, found.vocab_size, rows, length, layout)


def configured(
  shape: str,
  method: str,
  dtype: str,
  *,
  attention: str = '',
  scan: bool = False,
  dropout: float | None = None,
  num_layers: int = 0,
  quantize: str = 'none',
) -> config_dict.ConfigDict:
  """A fresh model of a shape, with the settings of the GLUE runs of small encoders."""
  fresh = dataclasses.asdict(SHAPES[shape])
  if num_layers:
    fresh['num_layers'] = num_layers
  rate = DROPOUT.value if dropout is None else dropout
  with glue.get_config(f'model=fresh,preset=small,method={method}').unlocked() as config:
    config.model.fresh = fresh
    config.model.update(dtype=dtype, param_dtype=dtype if method != 'full' else 'float32')
    config.model.update(attention=attention or config.model.attention, scan=scan)
    config.model.quantize = quantize
    config.model.update(hidden_dropout=rate, attention_dropout=rate)
    config.model.classifier_dropout = None if 'lm' in presets.TASKS[fresh['family']] else rate
    config.mesh.data = 1
  return config


def step_of(config: config_dict.ConfigDict) -> steps.Make:
  """Makes the step of a single run."""
  return lambda task: steps.Variant(config, task)


def method_part() -> Titled:
  made = {name: step_of(configured(MODEL.value, name, dtype())) for name in ('lora', 'full')}
  note = 'LoRA (r=8, query and value) against full fine-tuning; ratios below 1 are gains.'
  yield f'method, {title()}', compared(made, note)


def successors_part() -> Titled:
  plain, vera = (configured(MODEL.value, name, dtype()) for name in ('lora', 'vera'))
  made = successors.makers(plain, vera, rates.METHODS)
  case = case_of(MODEL.value, ROWS.value, LENGTH.value)
  found = successors.compare(made, step_of(plain), case, rounds())
  yield f'successors, {title()}', found


def dtype_part() -> Titled:
  made = {name: step_of(configured(MODEL.value, 'lora', name)) for name in ('bfloat16', 'float32')}
  yield f'dtype, {title()}', compared(made, 'LoRA in two dtypes; ratios below 1 are gains.')


def quantized_part() -> Titled:
  low = functools.partial(configured, MODEL.value, 'lora', 'bfloat16')
  made = {name: step_of(low(quantize=name)) for name in ('nf4', 'int8')}
  made['bfloat16'] = step_of(low())
  note = 'LoRA on quantized kernels against a base in bfloat16; all compute in it.'
  yield f'quantized, {title()}', compared(made, note)


def compared(made: dict[str, steps.Make], note: str) -> Measured:
  """Compares steps on the batch of the flags."""
  case = case_of(MODEL.value, ROWS.value, LENGTH.value)
  return steps.compare(made, case, rounds(), note, compile_jobs())


def title() -> str:
  """The model and the batch of the flags."""
  return f'{MODEL.value} {ROWS.value}x{LENGTH.value}'


def sweep_part() -> Titled:
  config, count = configured(MODEL.value, 'lora', dtype()), MEMBERS.value

  def together(*, shared: bool) -> steps.Make:
    return lambda task: steps.Members(config, task, count, shared=shared)

  made = {'the same batches': together(shared=True), 'own batches': together(shared=False)}
  case = case_of(MODEL.value, ROWS.value, LENGTH.value)
  found = sweeps.compare(made, step_of(config), case, rounds(), count, STEPS.value)
  yield f'sweep of {count} runs, {title()}', found


def layout_part() -> Titled:
  for name in TASKS.value:
    tokenizer = tokenizer_files.load_tokenizer(TOKENIZER.value)
    task = tasks.load_task(name, tokenizer, data_dir=DATA_DIR.value, max_length=LONGEST)
    config = configured('minilm', 'lora', dtype())
    yield f'epoch of {name}', layouts.epochs(config, task, LONGEST, rounds())


def decode_part() -> Titled:
  found = decoding.beams(CONTEXTS.value, dtype(), tuple(map(int, BEAMS.value)))
  yield f'decode {CONTEXTS.value} contexts', found


def serving_part() -> Titled:
  batch = ROWS.value, LENGTH.value, ROUNDS.value
  yield f'serving, {title()}', serving.mixing(MODEL.value, dtype(), *batch)
  yield f'bank, {MODEL.value}', serving.filling(MODEL.value, dtype())


def attention_part() -> Titled:
  for model, rows, length in shapes_of('attention'):
    cases = {layout: case_of(model, rows, length, layout) for layout in LAYOUTS.value}

    def maker(name: str, model: str = model) -> steps.Make:
      options = dict(attention=name, dropout=DROPOUT.value or 0.0, num_layers=LAYERS.value)
      return step_of(configured(model, 'lora', dtype(), **options))

    found = attention.compare(maker, tuple(IMPLEMENTATIONS.value), cases, rounds(), compile_jobs())
    yield f'attention, {LAYERS.value or "all"} layers of {model} {rows}x{length}', found


def mfu_part() -> Titled:
  rate = DROPOUT.value or 0.0
  reached = mfu.product()
  yield 'product of matrices', mfu.product_table(reached)
  for model, rows, length in shapes_of('mfu'):
    made = {'full': configured(model, 'full', dtype(), dropout=rate)}
    for name in IMPLEMENTATIONS.value:
      made[f'lora, {name}'] = configured(model, 'lora', dtype(), attention=name, dropout=rate)
    if 'true' in SCANS.value:
      made['lora, scanned layers'] = configured(model, 'lora', dtype(), scan=True, dropout=rate)
    asked = {name for name in made if name.partition(',')[0] in METHODS.value}
    makers = {name: step_of(one) for name, one in made.items() if name in asked}
    case = case_of(model, rows, length)
    found = mfu.compare(makers, {'full'}, case, rounds(), reached, compile_jobs())
    yield f'mfu, {model} {rows}x{length}', found


def kernels_part() -> Titled:
  reached = mfu.product()
  for model, rows, length in shapes_of('mfu'):
    config = configured(model, 'lora', dtype(), attention='auto', dropout=DROPOUT.value or 0.0)
    case, rank = case_of(model, rows, length), config.method.rank
    found, longest = kernels.measure(step_of(config), case, rounds(), reached, rank)
    yield f'kernels, {model} {rows}x{length}', found
    if longest.rows:
      yield f'longest kernels, {model} {rows}x{length}', longest


def nnx_part() -> Titled:
  batch = ROWS.value, LENGTH.value
  found = frameworks.compare(LAYERS.value, *batch, dtype(), rounds())
  yield f'nnx, {LAYERS.value} blocks {ROWS.value}x{LENGTH.value}', found


def compile_part() -> Titled:
  variants = {
    'scanned layers' if scan == 'true' else 'looped layers': first_step.of_process(
      f'--model={MODEL.value} --rows={ROWS.value} --length={LENGTH.value} --scans={scan} '
      f'--dtype={DTYPE.value}'
    )
    for scan in SCANS.value
  }
  yield f'compile, {title()}', first_step.cold_and_warm(variants)


def first_step_part() -> Titled:
  config = configured(MODEL.value, 'lora', dtype(), scan=SCANS.value[0] == 'true')
  with config.unlocked():
    config.train.batch_size = ROWS.value
    config.data.update(max_length=LENGTH.value, batching='pad_max')
  case = case_of(MODEL.value, ROWS.value, LENGTH.value)
  row = first_step.measure(config, case.task, BEGAN.value or STARTED)
  note = 'Seconds from the command to the end of the first train step, by purpose.'
  yield f'first step, {title()}', Measured({'this process': row}, note)


STARTED = time.time()  # When this file was imported.
MEASURE: dict[str, Callable[[], Titled]] = {
  'method': method_part,
  'successors': successors_part,
  'dtype': dtype_part,
  'quantized': quantized_part,
  'layout': layout_part,
  'decode': decode_part,
  'sweep': sweep_part,
  'serving': serving_part,
  'attention': attention_part,
  'mfu': mfu_part,
  'kernels': kernels_part,
  'nnx': nnx_part,
  'compile': compile_part,
  'first_step': first_step_part,
}


def check(parts: Sequence[str]) -> None:
  """Raises a ValueError for an unknown part."""
  for name in parts:
    if name not in MEASURE:
      raise ValueError(f'--parts has {name!r}. {nearest(name, MEASURE)}')


def main() -> None:
  check(PARTS.value)
  # What is compiled is timed: nothing may come from a cache, but where that is what is measured.
  jax.config.update('jax_enable_compilation_cache', PARTS.value == ['first_step'])
  if 'compile' in PARTS.value:  # Its processes need memory beside this one.
    os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
  measured: dict[str, Measured] = {}
  for part in PARTS.value:
    for name, found in MEASURE[part]():
      print(table(name, found), flush=True)
      measured[name] = found
      if OUT.value:  # After every table, so that a kill loses none.
        writers.write_json(OUT.value, report(measured))


def report(measured: dict[str, Measured]) -> dict[str, object]:
  """What the file of --out holds."""
  return {
    'experiment': 'bench',
    **result.about(mesh.make_mesh(1)),
    'rounds': ROUNDS.value,
    'measured': {name: found.rows for name, found in measured.items()},
    'notes': {name: found.note for name, found in measured.items()},
    'skipped': {name: dict(found.skipped) for name, found in measured.items() if found.skipped},
  }


if __name__ == '__main__':
  _cli.run(main)
