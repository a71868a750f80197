r"""Whether a job fits, and how long it takes, before its devices are rented; nothing is run.

  python -m experiments.plan --config=configs/gpt3.py:task=samsum,model=gpt3-175b,method=lora \
      --topology=v5e:8x8 --batch=8 --length=2048 --dtype=bfloat16

With libtpu installed (`pip install 'lora_jax[tpu-plan]'`) the TPU's own compiler plans for a slice.
Without it XLA:CPU stands in, and the plan says that it is an estimate.
"""

from collections.abc import Mapping

import jax
from absl import flags
from ml_collections import config_dict, config_flags

from configs import gpt3
from experiments import _cli
from lora_jax import cost
from lora_jax.cost import configure, measure, memory, practical_claims, search, text, topology
from lora_jax.train import mesh, result, writers

CONFIG = config_flags.DEFINE_config_file('config', None, _cli.CONFIG_HELP)
TOPOLOGY = flags.DEFINE_string(
  'topology', 'this', 'Devices to plan for: `this` machine, or a TPU slice (v4:2x2x1, v5e:8x8).'
)
BATCH = flags.DEFINE_integer('batch', 0, "Global batch size; 0 for the config's.", lower_bound=0)
LENGTH = flags.DEFINE_integer('length', 0, "Tokens of a row; 0 for the config's.", lower_bound=0)
DTYPE = flags.DEFINE_string('dtype', '', "Dtype of computation and base; empty for the config's.")
EXAMPLES = flags.DEFINE_integer('examples', 0, "Number of training examples; 0 for the task's.")
UTILIZATION = flags.DEFINE_float(
  'utilization', memory.UTILIZATION, "Share of the devices' peak FLOPs that a step is to reach."
)
AS_CONFIGURED = flags.DEFINE_bool('as_configured', False, "Keep the config's scan and remat.")
LARGEST = flags.DEFINE_bool('largest_batch', False, 'Find the largest batch that fits.')
SMALLEST = flags.DEFINE_bool('smallest_slice', False, 'Find the smallest TPU slice that fits.')
REMAT = flags.DEFINE_bool('remat', False, 'Compare the policies of rematerialization.')
MEASURE = flags.DEFINE_bool('measure', False, 'Also run steps on this machine, and measure them.')
PAPER = flags.DEFINE_bool('paper', False, "Plan the paper's claims of section 4.2, for GPT-3 175B.")
SLICED = flags.DEFINE_list(
  'sliced', ['full', 'lora r=4'], 'Rows of --paper to find slices for, which takes minutes each.'
)
OUT = flags.DEFINE_string('out', '', 'JSON file to write the plan to.')
for dashed in ('largest-batch', 'smallest-slice'):
  flags.DEFINE_alias(dashed, dashed.replace('-', '_'))


def of_paper(method: str, sizes: Mapping[str, int]) -> config_dict.ConfigDict:
  """The config of GPT-3 175B with one of table 12's methods."""
  arg = f'task=samsum,model=gpt3-175b,method={method}'
  return configure.for_claims(gpt3.get_config(arg), sizes)


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
  config = configure.with_sizes(
    CONFIG.value,
    batch_size=BATCH.value,
    length=LENGTH.value,
    dtype=DTYPE.value,
    examples=EXAMPLES.value,
    as_configured=AS_CONFIGURED.value,
  )
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
  asked = [f'--{flag.name}' for flag in (LARGEST, SMALLEST, REMAT, PAPER) if flag.value]
  if len(asked) > 1:
    raise ValueError(f'{" and ".join(asked)} are plans of their own: give one of them')
  if LARGEST.value and BATCH.value:
    raise ValueError(f'--largest_batch finds the batch: give it without --batch={BATCH.value}')
  if MEASURE.value and (name != topology.THIS or PAPER.value or SMALLEST.value or REMAT.value):
    other = '--paper, --smallest_slice or --remat'
    raise ValueError(f'--measure runs one plan: give it with --topology=this, without {other}')
  prepare(name)
  found = report(name)
  if OUT.value:
    about = result.about(mesh.make_mesh() if name == topology.THIS else None)
    writers.write_json(OUT.value, {'experiment': 'plan', **about, **found})


if __name__ == '__main__':
  _cli.run(main, keep_memory=False)  # --measure says how much a step takes.
