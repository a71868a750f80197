"""A config whose step compiles in a second, and a made-up plan."""

from configs import gpt3
from lora_jax.cost import memory


def config(method='lora', **values):
  """GPT-3's config at toy size."""
  toy = gpt3.get_config(f'method={method},tiny=true')
  fresh = {'model.fresh.vocab_size': 64, 'data.max_length': 16, 'model.scan': True}
  return memory.changed(toy, **fresh | values)


def plan(total, capacity=16 * 2**30, **more):
  """A plan of `total` bytes on a device, None where the compiler gave up; with other fields."""
  spare = None if total is None else capacity - total
  sizes = dict.fromkeys(('base', 'trainable', 'optimizer', 'gradients', 'batch'), 2**30)
  sizes |= {'activations': None if total is None else 2**29, 'program': 2**20}
  return {
    'model': 'gpt2',
    'method': 'lora',
    'topology': 'v5e:2x2',
    'mesh': {'data': 1, 'fsdp': 4, 'tensor': 1},
    'compiler': 'libtpu 0.0.42',
    'exact': True,
    'batch_size': 8,
    'length': 128,
    'dtype': 'bfloat16',
    'param_dtype': 'bfloat16',
    'quantize': 'none',
    'remat': 'none',
    'scan': True,
    'parameters': {'trained': 1000, 'head': 200, 'frozen': 99_000},
    'bytes': sizes | {'total': total, 'capacity': capacity, 'spare': spare},
    'fits': spare is not None and spare >= 0,
    'message': '' if total is not None else 'RESOURCE_EXHAUSTED: no room',
    'flops': 1.25e12,
    'utilization': 0.4,
    'step_seconds': 0.25,
    'tokens_per_second': 4096.0,
    'steps': 7200,
    'hours': 0.5,
    'checkpoint': {'trained': 4000, 'resumable': 12_004},
    'compile_seconds': 3.0,
  } | more
