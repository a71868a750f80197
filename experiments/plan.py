r"""Whether a job fits, and how long it takes, before its devices are rented; nothing is run.

  python -m experiments.plan --config=configs/gpt3.py:task=samsum,model=gpt3-175b,method=lora \
      --topology=v5e:8x8 --batch=8 --length=2048 --dtype=bfloat16

`--topology` is a TPU slice (v4, v5e, v5p, v6e, then its shape) or `this` machine. With libtpu
installed (`pip install 'lora_jax[tpu-plan]'`) the compiler is the TPU's own; without, XLA:CPU
stands in and the plan says that it is an estimate. `--largest-batch` finds the largest batch that
fits, `--smallest-slice` the smallest slice of the topology's generation (`--topology=v5p`),
`--remat` compares the policies, `--measure` runs a few steps on this machine and puts the peak of
its memory beside the plan's, `--paper` makes the table of the paper's section 4.2 in place of a
config.

Layers are scanned, and of language models rematerialized in full, unless `--as_configured`: looped
ones take as many times longer to compile as there are layers.
"""

import jax
from absl import flags
from ml_collections import config_dict, config_flags

from configs import gpt3
from experiments import _cli
from lora_jax import cost
from lora_jax.cost import measure, memory, practical_claims, search, text, topology
from lora_jax.data import glue
from lora_jax.train import mesh, result, writers

CONFIG = config_flags.DEFINE_config_file('config', None, 'Config file, and after a colon its cell.')
TOPOLOGY = flags.DEFINE_string('topology', 'this', 'this, or a slice: v4:2x2x1, v5e:8x8, ...')
BATCH = flags.DEFINE_integer('batch', 0, "Global batch size; 0 is the config's.", lower_bound=0)
LENGTH = flags.DEFINE_integer('length', 0, "Tokens of a row; 0 is the config's.", lower_bound=0)
DTYPE = flags.DEFINE_string('dtype', '', "Compute and base; empty is the config's.")
EXAMPLES = flags.DEFINE_integer('examples', 0, "Training examples; 0 is the task's.")
UTILIZATION = flags.DEFINE_float('utilization', memory.UTILIZATION, 'Expected share of the peak.')
AS_CONFIGURED = flags.DEFINE_bool('as_configured', False, "Keep the config's scan and remat.")
LARGEST = flags.DEFINE_bool('largest_batch', False, 'Find the largest batch that fits.')
SMALLEST = flags.DEFINE_bool('smallest_slice', False, 'Find the smallest slice that fits.')
REMAT = flags.DEFINE_bool('remat', False, 'Compare the policies of rematerialization.')
MEASURE = flags.DEFINE_bool('measure', False, 'Run steps here, to hold the plan against.')
PAPER = flags.DEFINE_bool('paper', False, "The claims of the paper's section 4.2, for GPT-3 175B.")
SLICED = flags.DEFINE_list(
  'sliced', ['full', 'lora r=4'], 'Rows of --paper whose slices are looked for: minutes each.'
)
OUT = flags.DEFINE_string('out', '', 'JSON file to write besides.')
for dashed in ('largest-batch', 'smallest-slice'):
  flags.DEFINE_alias(dashed, dashed.replace('-', '_'))


def configured() -> config_dict.ConfigDict:
  """The config with what the flags say of it."""
  config = CONFIG.value
  values = {}
  if BATCH.value:
    values['train.batch_size'] = BATCH.value
  if LENGTH.value:
    values['data.max_length'] = LENGTH.value
  if DTYPE.value:
    values |= {'model.dtype': DTYPE.value, 'model.param_dtype': DTYPE.value}
  if EXAMPLES.value:
    values['data.limit'] = EXAMPLES.value
  if not AS_CONFIGURED.value:
    values['model.scan'] = True
    if config.model.remat == 'none' and config.task not in glue.TASKS:
      values['model.remat'] = 'full'
  return memory.changed(config, **values)


def of_paper(method: str, options: dict[str, object]) -> config_dict.ConfigDict:
  """GPT-3 175B by one of table 12's methods, in bfloat16."""
  config = gpt3.get_config(f'task=samsum,model=gpt3-175b,method={method}')
  changes = {f'method.{name}': value for name, value in options.items()}
  changes |= {'model.dtype': 'bfloat16', 'model.param_dtype': 'bfloat16', 'model.scan': True}
  if sum(options.get(name, 0) for name in ('prefix', 'infix')):
    # The tokens of a prefix count among the positions.
    changes['data.max_length'] = practical_claims.LENGTH - options['prefix'] - options['infix']
  else:
    changes['data.max_length'] = practical_claims.LENGTH
  return memory.changed(
    config, **changes, **{'model.remat': 'full', 'train.batch_size': practical_claims.BATCH}
  )


def prepare(name: str) -> None:
  """Sets JAX up to plan for a topology.

  Planning for a slice needs no accelerator, and must not take one that is in use.
  """
  if name == topology.THIS:
    return
  jax.config.update('jax_platforms', 'cpu')
  if topology.libtpu() is None:
    kind = name.partition(':')[0]
    largest = topology.slices(kind)[-1] if SMALLEST.value or ':' not in name else name
    jax.config.update('jax_num_cpu_devices', min(topology.find(largest).count, 512))


def report(name: str) -> dict[str, object]:
  """Makes and prints the plans that the flags ask for."""
  options = {'utilization': UTILIZATION.value}
  if PAPER.value:
    say = lambda line: print(line, flush=True)
    return dict(practical_claims.measure(of_paper, say, tuple(SLICED.value), **options))
  config = configured()
  if SMALLEST.value:
    tried = []
    for one in cost.smallest_slice(config, name.partition(':')[0], **options):
      print(text.row(one), flush=True)
      tried.append(one)
    last = tried[-1]
    print('No slice fits.' if isinstance(last, search.Skipped) else cost.describe(last))
    return {'tried': [search.as_json(one) for one in tried]}
  where = cost.find(name)
  if REMAT.value:
    plans = cost.compare_remat(config, where, **options)
    print('\n'.join(text.row(one) for one in plans.values()))
    return {'remat': plans}
  plan = (cost.largest_batch if LARGEST.value else cost.plan)(config, where, **options)
  print(cost.describe(plan))
  if not MEASURE.value:
    return {'plan': plan}
  run = memory.changed(config, **{'train.batch_size': plan['batch_size']})
  measured = measure.measure(run, where, plan)
  print(text.measured(measured))
  return {'plan': plan, 'measured': measured}


def main() -> None:
  if not (CONFIG.value or PAPER.value):
    raise ValueError('give --config=FILE:ARGUMENT, or --paper')
  name = TOPOLOGY.value
  if MEASURE.value and (name != topology.THIS or PAPER.value or SMALLEST.value or REMAT.value):
    raise ValueError(
      '--measure runs one plan on this machine: give it with --topology=this, and without --paper, '
      '--smallest_slice or --remat'
    )
  prepare(name)
  found = report(name)
  if OUT.value:
    about = result.about(mesh.make_mesh() if name == topology.THIS else None)
    writers.write_json(OUT.value, {'experiment': 'plan', **about, **found})


if __name__ == '__main__':
  _cli.run(main)
