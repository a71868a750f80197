"""Speed and size of a train step, as ratios measured in one run: `python -m experiments.bench`.

  method   LoRA (r=8, query and value) against full fine-tuning: seconds, FLOPs, bytes
  dtype    bfloat16 with float32 accumulation against float32, LoRA
  layout   an epoch of a task packed, padded to the batch's longest, and padded to `max_length`
           (needs --data_dir, a folder of GLUE's archives and a BERT tokenizer)
  decode   64 tokens after each of --contexts prompts, by a GPT-2 of 6 layers and width 384 with
           GPT-2's vocabulary, by beam 1, 5 and 10 (nothing ends a text, so all steps are run):
           seconds with and without compiling; bytes of the compiled loop, and how much of them is
           the cache and the logits of the beams
  sweep    --lanes runs of LoRA (r=8) in one program, on the same batches and on their own, against
           one run; a ratio below the number of lanes is the gain over one run after the other
  serving  a batch in which 8 adapters are mixed (r=8, query and value, a head each) against one on
           a single adapter, unmerged, and against the base; and the bytes of 1,000 such adapters

Weights are random: no time depends on them. Each variant is timed in turn, round after round, and
the medians are compared, so that a machine whose speed drifts favours none. An epoch's seconds are
those of the distinct shapes of its batches, each timed, times how often each occurs; compiling is
not in them.
"""

import collections
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from absl import flags
from ml_collections import config_dict

from configs import glue
from experiments import _cli
from lora_jax import generation, methods, serving, tree
from lora_jax.adapters import adapter
from lora_jax.data import batches, tasks, tokenizers
from lora_jax.models import presets
from lora_jax.pretrained import huggingface
from lora_jax.sweep import lanes
from lora_jax.sweep import step as lane_step
from lora_jax.train import generate, job, mesh, optimizer, result, state, step, writers

PARTS = flags.DEFINE_list(
  'parts', ['method', 'dtype', 'layout', 'decode', 'sweep', 'serving'], 'Which measurements.'
)
MODEL = flags.DEFINE_string('model', 'roberta-base', 'Shape for method, dtype, serving.')
ROWS = flags.DEFINE_integer('rows', 16, 'Rows of a batch (method, dtype, serving).')
LENGTH = flags.DEFINE_integer('length', 64, 'Tokens of a row (method, dtype, serving).')
ROUNDS = flags.DEFINE_integer('rounds', 5, 'Timed rounds, after one that is not counted.')
DATA_DIR = flags.DEFINE_string('data_dir', '', 'Folder of archives (layout).')
TOKENIZER = flags.DEFINE_string('tokenizer', '', 'Folder or archive of a BERT vocabulary (layout).')
TASKS = flags.DEFINE_list('tasks', ['rte', 'cola'], 'Tasks (layout).')
CONTEXTS = flags.DEFINE_integer('contexts', 64, 'Number of prompts (decode).')
DTYPE = flags.DEFINE_string('dtype', 'float32', 'Compute and base of method, layout, serving.')
LANES = flags.DEFINE_integer('lanes', 16, 'Runs of one program (sweep).')
OUT = flags.DEFINE_string('out', '', 'JSON file to write besides.')

SHAPES = {  # Published architectures; a fresh model of that shape.
  'minilm': dict(hidden_size=384, num_layers=6, num_heads=12, intermediate_size=1536),
  'roberta-base': dict(hidden_size=768, num_layers=12, num_heads=12, intermediate_size=3072),
  'roberta-large': dict(hidden_size=1024, num_layers=24, num_heads=16, intermediate_size=4096),
}


class Variant:
  """A train step that is ready to be timed on a batch."""

  def __init__(self, config: config_dict.ConfigDict, task: tasks.Task):
    work = job.build(config, task)
    tx, _ = optimizer.make_optimizer(config.optim, 1000)
    self.frozen = work.frozen
    self.state = state.init_state(work.trainable, tx, 0)
    self.step = step.make_train_step(work.apply, tx, task.kind)
    self.trainable = work.summary.trainable

  def seconds(self, batch: dict[str, np.ndarray]) -> float:
    """Wall seconds of one step, results waited for."""
    began = time.perf_counter()
    self.state, metrics = self.step(self.state, self.frozen, batch)
    jax.block_until_ready((self.state, metrics))
    return time.perf_counter() - began

  def size(self, batch: dict[str, np.ndarray]) -> dict[str, float]:
    """FLOPs and bytes of the compiled step."""
    compiled = self.step.lower(self.state, self.frozen, batch).compile()
    memory = compiled.memory_analysis()
    total = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return {
      'flops': compiled.cost_analysis()['flops'],
      'peak_bytes': total + memory.temp_size_in_bytes - memory.alias_size_in_bytes,
    }


class Lanes(Variant):
  """The step of several runs in one program, with the same batch or each with its own."""

  def __init__(self, config: config_dict.ConfigDict, task: tasks.Task, shared: bool):
    works = [job.build(config, task)] * LANES.value
    trainable = lanes.stacked([work.trainable for work in works])
    seeds = list(range(LANES.value))
    per_lane = lanes.per_lane(works, [1000] * LANES.value)
    inner = lane_step.make_train_step(works[0], shared)
    self.frozen, self.trainable = works[0].frozen, works[0].summary.trainable
    self.state = lane_step.init_state(works[0], trainable, seeds, shared)
    self.step = jax.jit(
      lambda state, frozen, batch: inner(state, frozen, per_lane, batch), donate_argnums=0
    )
    self._own = lambda x: x if shared else np.repeat(x[:, None], LANES.value, 1)

  def seconds(self, batch: dict[str, np.ndarray]) -> float:
    return super().seconds({name: self._own(x) for name, x in batch.items()})

  def size(self, batch: dict[str, np.ndarray]) -> dict[str, float]:
    return super().size({name: self._own(x) for name, x in batch.items()})


def configured(shape: str, method: str, dtype: str) -> config_dict.ConfigDict:
  """A fresh encoder of a shape, in the settings that the GLUE runs of small encoders have."""
  with glue.get_config(f'model=fresh,preset=small,method={method}').unlocked() as config:
    config.model.fresh.update(max_positions=512, **SHAPES[shape])
    config.model.update(dtype=dtype, param_dtype=dtype if method == 'lora' else 'float32')
  return config


def random_task(rows: int, length: int) -> tasks.Task:
  """Examples of one length each, so that a batch is `rows` full rows."""
  random = np.random.default_rng(0)
  ids = [random.integers(1000, 20000, length).astype(np.int32) for _ in range(rows)]
  zeros = [np.zeros(length, np.int32)] * rows
  data = tasks.Dataset(ids, zeros, labels=np.arange(rows, dtype=np.int32) % 2)
  return tasks.Task('random', 'classification', 2, data, {}, 'accuracy', True, None)


def in_turn(variants: dict[str, Callable[[], float]]) -> dict[str, float]:
  """Median of the seconds that each variant says, called round after round."""
  times: dict[str, list[float]] = collections.defaultdict(list)
  for counted in range(-1, ROUNDS.value):
    for name, measure in variants.items():
      seconds = measure()
      if counted >= 0:
        times[name].append(seconds)
  return {name: statistics.median(values) for name, values in times.items()}


def compare(made: dict[str, Callable[[tasks.Task], Variant]]) -> dict[str, dict[str, float]]:
  """Seconds, FLOPs, bytes of the step of each, and each by the last one's."""
  task = random_task(ROWS.value, LENGTH.value)
  (batch,) = batches.Batches(
    task.train, batch_size=ROWS.value, seed=0, layout='pad', max_length=LENGTH.value
  ).epoch(0)
  variants = {name: make(task) for name, make in made.items()}
  timed = {name: functools.partial(variant.seconds, batch) for name, variant in variants.items()}
  seconds = in_turn(timed)
  rows = {
    name: {'seconds': seconds[name], **variant.size(batch), 'trained': variant.trainable}
    for name, variant in variants.items()
  }
  base = rows[list(rows)[-1]]
  return {
    name: row | {f'{key}_ratio': row[key] / base[key] for key in ('seconds', 'flops', 'peak_bytes')}
    for name, row in rows.items()
  }


def one_run(method: str, dtype: str) -> Callable[[tasks.Task], Variant]:
  """A single run of a method, for `compare`."""
  return lambda task: Variant(configured(MODEL.value, method, dtype), task)


def together(shared: bool) -> Callable[[tasks.Task], Variant]:
  """Runs of LoRA in one program, for `compare`."""
  return lambda task: Lanes(configured(MODEL.value, 'lora', DTYPE.value), task, shared)


def epochs_of(name: str) -> dict[str, dict[str, float]]:
  """Seconds of an epoch of a task in each layout, and by that of packing."""
  config = configured('minilm', 'lora', DTYPE.value)
  tokenizer = tokenizers.load_tokenizer(TOKENIZER.value)
  task = tasks.load_task(name, tokenizer, data_dir=DATA_DIR.value, max_length=128)
  variant = Variant(config, task)
  rows = {}
  for layout in ('pack', 'pad', 'pad_max'):
    training = batches.Batches(
      task.train, batch_size=config.train.batch_size, seed=0, layout=layout, max_length=128
    )
    count, example = collections.Counter(), {}
    for batch in training.epoch(0):
      shape = batch['input_ids'].shape, batch['prediction_positions'].shape
      count[shape] += 1
      example[shape] = batch
    seconds = in_turn(
      {str(shape): functools.partial(variant.seconds, batch) for shape, batch in example.items()}
    )
    rows[layout] = {
      'seconds': sum(count[shape] * seconds[str(shape)] for shape in count),
      'shapes': len(count),
      'padding': training.padding,
    }
  return {
    layout: row | {'seconds_ratio': row['seconds'] / rows['pack']['seconds']}
    for layout, row in rows.items()
  }


def decoding() -> dict[str, dict[str, float]]:
  """Seconds and bytes of decoding by the width of the beam."""
  shape = dict(hidden_size=384, num_layers=6, num_heads=6, max_positions=512)
  model, params = huggingface.fresh_model(
    dict(family='gpt2', vocab_size=50257, intermediate_size=1536, **shape),
    task='lm', dtype=DTYPE.value,
  )  # fmt: skip
  params = {}, params
  random = np.random.default_rng(0)
  lengths = random.integers(25, 62, CONTEXTS.value)  # As E2E's.
  prompts = [random.integers(0, 50000, length).astype(np.int32) for length in lengths]
  slots, rows = min(32, CONTEXTS.value), {}
  for beams in (10, 5, 1):
    settings = generation.Settings(beams=beams)
    language_model = generate.language_model(methods.bind(model.apply, methods.full()), settings)
    decode = generation.make_decoder(language_model, settings, batch_size=slots)
    times = []
    for _ in range(2):
      began = time.perf_counter()
      decode(params, prompts)
      times.append(time.perf_counter() - began)
    _, run = generation.decode.functions(language_model, settings)
    state = generation.decode.empty_slots(language_model, params, settings, slots, 64)
    memory = run.lower(params, state, 0).compile().memory_analysis()
    itemsize = np.dtype(DTYPE.value).itemsize
    columns = beams * settings.max_tokens
    rows[f'beam {beams}'] = {
      'seconds': times[1],
      'compiling': times[0] - times[1],
      'peak_bytes': memory.argument_size_in_bytes + memory.temp_size_in_bytes,
      'cache_of_beams': slots * columns * 2 * shape['num_layers'] * shape['hidden_size'] * itemsize,
      'logits': slots * beams * 50257 * 4,
    }
  return rows


def mixing(adapters: int = 8) -> dict[str, dict[str, float]]:
  """Seconds of a batch of several adapters, of one, and of none."""
  model, params, options, made = lora_adapters(adapters)
  bank = serving.Bank(model, params, capacity=adapters, rank=options['rank'])
  for i, one in enumerate(made):
    bank.add(f'adapter {i}', one)
  random = np.random.default_rng(0)
  ids = random.integers(1000, 20000, (ROWS.value, LENGTH.value)).astype(np.int32)
  inputs = {'input_ids': ids, 'segment_ids': np.ones_like(ids)}
  method, *parts = adapter.attach(made[0], model, params)
  parts = jax.device_put(parts)
  single = functools.partial(jax.jit(methods.bind(model.apply, method)), *parts, **inputs)
  plain = functools.partial(jax.jit(model.apply), {'params': jax.device_put(params)}, **inputs)
  names = [f'adapter {i % adapters}' for i in range(ROWS.value)]

  def seconds(run: Callable[[], jax.Array]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - began

  runs = {
    f'{adapters} adapters': lambda: bank(names, **inputs),
    'base': plain,
    '1 adapter': single,
  }
  times = in_turn({name: functools.partial(seconds, run) for name, run in runs.items()})
  return {
    name: {'seconds': value, 'seconds_ratio': value / times['1 adapter']}
    for name, value in times.items()
  }


def filling(adapters: int = 1000) -> dict[str, dict[str, float]]:
  """Bytes of a full bank of factors, what heads would add, and seconds to put an adapter in."""
  model, params, options, (one,) = lora_adapters(1)
  heads = tree.nbytes(tree.split(one.trainable, model.head)[1])
  factors = one._replace(
    method={**one.method, 'train': ()}, trainable=tree.split(one.trainable, model.head)[0]
  )
  bank = serving.Bank(model, params, capacity=adapters, rank=options['rank'], train=())
  began = time.perf_counter()
  for i in range(adapters):
    bank.add(str(i), factors)
  jax.block_until_ready(bank.arrays)
  return {
    f'{adapters} adapters': {
      'bytes': bank.nbytes,
      'bytes_of_heads': heads * (adapters + 1),
      'seconds_each': (time.perf_counter() - began) / adapters,
      'compilations': bank.compilations,
    }
  }


def lora_adapters(count: int) -> tuple[nn.Module, tree.Params, dict[str, Any], list[Any]]:
  """A fresh RoBERTa of the shape, and adapters of it: r=8, query and value, all values random."""
  config = dict(family='roberta', max_positions=512, **SHAPES[MODEL.value])
  model, params = huggingface.fresh_model(
    config, task='classification', num_labels=2, dtype=DTYPE.value, param_dtype=DTYPE.value
  )
  options = dict(name='lora', rank=8, alpha=16.0, train=model.head)
  init = methods.make(**options).init
  shapes = jax.eval_shape(lambda: init(jax.random.key(0), model, params, presets.TOKENS)[1])
  random = np.random.default_rng(0)
  draw = lambda leaf: random.normal(0, 0.02, leaf.shape).astype(np.float32)
  made = [
    adapter.Adapter(options, jax.tree.map(draw, shapes), model.config, 'classification', 2)
    for _ in range(count)
  ]
  return model, params, options, made


def table(title: str, rows: dict[str, dict[str, float]]) -> str:
  """The rows as aligned text."""
  names = list(next(iter(rows.values())))
  lines = [f'{title:24}' + ''.join(f'{name:>18}' for name in names)]
  for row, values in rows.items():
    lines.append(f'{row:24}' + ''.join(f'{values[name]:18.4g}' for name in names))
  return '\n'.join(lines) + '\n'


def main() -> None:
  measured = {}
  shape = f'{MODEL.value} {ROWS.value}x{LENGTH.value}'
  if 'method' in PARTS.value:
    measured[f'method, {shape}'] = compare(
      {'lora': one_run('lora', DTYPE.value), 'full': one_run('full', DTYPE.value)}
    )
  if 'dtype' in PARTS.value:
    measured[f'dtype, {shape}'] = compare(
      {'bfloat16': one_run('lora', 'bfloat16'), 'float32': one_run('lora', 'float32')}
    )
  if 'sweep' in PARTS.value:
    measured[f'sweep of {LANES.value} runs, {shape}'] = compare(
      {
        'the same batches': together(shared=True),
        'own batches': together(shared=False),
        'one run': one_run('lora', DTYPE.value),
      }
    )
  if 'layout' in PARTS.value:
    for name in TASKS.value:
      measured[f'epoch of {name}'] = epochs_of(name)
  if 'decode' in PARTS.value:
    measured[f'decode {CONTEXTS.value} contexts'] = decoding()
  if 'serving' in PARTS.value:
    measured[f'serving, {shape}'] = mixing()
    measured[f'bank, {MODEL.value}'] = filling()
  for title, rows in measured.items():
    print(table(title, rows), flush=True)
  if OUT.value:
    about = {**result.about(mesh.make_mesh(1)), 'rounds': ROUNDS.value}
    writers.write_json(OUT.value, {'experiment': 'bench', **about, 'measured': measured})


if __name__ == '__main__':
  _cli.run(main)
