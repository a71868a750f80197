"""Speed and size of a train step, as ratios measured in one run: `python -m experiments.bench`.

method   LoRA (r=8, query and value) against full fine-tuning: seconds, FLOPs, bytes
dtype    bfloat16 with float32 accumulation against float32, LoRA
layout   an epoch of a task packed, padded to the batch's longest, and padded to `max_length`
         (needs --data_dir, a folder of GLUE's archives, and --tokenizer)
decode   64 tokens after each of --contexts prompts, by a GPT-2 of 6 layers and width 384 with
         GPT-2's vocabulary, by beam 1, 5 and 10: seconds with and without compiling; bytes of the
         compiled loop, and how many of them are the cache and the logits of the beams
sweep    --members runs of LoRA (r=8) in one program, on the same batches and on their own,
         against one run; a ratio below the number of members is the gain over single runs
serving  a batch in which 8 adapters are mixed (r=8, query and value, a head each) against one on
         a single adapter, unmerged, and against the base; and the bytes of 1,000 such adapters
"""

from collections.abc import Callable

from absl import flags
from ml_collections import config_dict

from configs import glue
from experiments import _cli
from lora_jax.bench import decoding, layouts, serving, steps, timing
from lora_jax.data import tasks, tokenizer_files
from lora_jax.train import mesh, result, writers

PARTS = flags.DEFINE_list(
  'parts', ['method', 'dtype', 'layout', 'decode', 'sweep', 'serving'], 'What is measured.'
)
MODEL = flags.DEFINE_string('model', 'roberta-base', 'Shape of the model of train steps.')
ROWS = flags.DEFINE_integer('rows', 16, 'Rows of the batch of train steps and of serving.')
LENGTH = flags.DEFINE_integer('length', 64, 'Tokens of a row of train steps and of serving.')
ROUNDS = flags.DEFINE_integer('rounds', 5, 'Timed rounds, after one that is not counted.')
DATA_DIR = flags.DEFINE_string('data_dir', '', "Folder of GLUE's archives, for the part layout.")
TOKENIZER = flags.DEFINE_string(
  'tokenizer', '', 'Folder or archive of a BERT vocabulary, for the part layout.'
)
TASKS = flags.DEFINE_list('tasks', ['rte', 'cola'], 'Tasks of the part layout.')
CONTEXTS = flags.DEFINE_integer('contexts', 64, 'Number of prompts of the part decode.')
DTYPE = flags.DEFINE_string('dtype', 'float32', 'Compute and base, but for the part dtype.')
MEMBERS = flags.DEFINE_integer('members', 16, 'Number of runs of the part sweep.')
OUT = flags.DEFINE_string('out', '', 'JSON file that the figures are written to.')
LONGEST = 128  # Tokens of an example in the part layout.


def configured(shape: str, method: str, dtype: str) -> config_dict.ConfigDict:
  """A fresh encoder of a shape, with the settings of the GLUE runs of small encoders."""
  with glue.get_config(f'model=fresh,preset=small,method={method}').unlocked() as config:
    config.model.fresh.update(max_positions=512, **timing.SHAPES[shape])
    config.model.update(dtype=dtype, param_dtype=dtype if method == 'lora' else 'float32')
  return config


def run(method: str, dtype: str) -> Callable[[tasks.Task], steps.Variant]:
  """Makes the step of a single run."""
  return lambda task: steps.Variant(configured(MODEL.value, method, dtype), task)


def sweep(*, shared: bool) -> Callable[[tasks.Task], steps.Variant]:
  """Makes the step of a sweep of LoRA."""
  config = configured(MODEL.value, 'lora', DTYPE.value)
  return lambda task: steps.Members(config, task, MEMBERS.value, shared=shared)


def compare(**makers: Callable[[tasks.Task], steps.Variant]) -> timing.Rows:
  """Compares steps on the batch of the flags."""
  named = {name.replace('_', ' '): make for name, make in makers.items()}
  return steps.compare(named, ROWS.value, LENGTH.value, ROUNDS.value)


def measure() -> dict[str, timing.Rows]:
  """The figures of all parts that the flags name, by title."""
  shape, dtype = f'{MODEL.value} {ROWS.value}x{LENGTH.value}', DTYPE.value
  measured: dict[str, timing.Rows] = {}
  if 'method' in PARTS.value:
    measured[f'method, {shape}'] = compare(lora=run('lora', dtype), full=run('full', dtype))
  if 'dtype' in PARTS.value:
    both = dict(bfloat16=run('lora', 'bfloat16'), float32=run('lora', 'float32'))
    measured[f'dtype, {shape}'] = compare(**both)
  if 'sweep' in PARTS.value:
    measured[f'sweep of {MEMBERS.value} runs, {shape}'] = compare(
      the_same_batches=sweep(shared=True),
      own_batches=sweep(shared=False),
      one_run=run('lora', dtype),
    )
  for name in TASKS.value if 'layout' in PARTS.value else ():
    tokenizer = tokenizer_files.load_tokenizer(TOKENIZER.value)
    task = tasks.load_task(name, tokenizer, data_dir=DATA_DIR.value, max_length=LONGEST)
    config = configured('minilm', 'lora', dtype)
    measured[f'epoch of {name}'] = layouts.epochs(config, task, LONGEST, ROUNDS.value)
  if 'decode' in PARTS.value:
    measured[f'decode {CONTEXTS.value} contexts'] = decoding.beams(CONTEXTS.value, dtype)
  if 'serving' in PARTS.value:
    batch = ROWS.value, LENGTH.value, ROUNDS.value
    measured[f'serving, {shape}'] = serving.mixing(MODEL.value, dtype, *batch)
    measured[f'bank, {MODEL.value}'] = serving.filling(MODEL.value, dtype)
  return measured


def main() -> None:
  measured = measure()
  for title, rows in measured.items():
    print(timing.table(title, rows), flush=True)
  if OUT.value:
    about = {**result.about(mesh.make_mesh(1)), 'rounds': ROUNDS.value}
    writers.write_json(OUT.value, {'experiment': 'bench', **about, 'measured': measured})


if __name__ == '__main__':
  _cli.run(main)
