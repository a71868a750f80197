"""Makes the goldens of quantized kernels by two other implementations, in `quantized/`.

python tests/golden/make_quantized.py bitsandbytes   # 0.50.2, with torch 2.13; writes weights too
python tests/golden/make_quantized.py qwix           # 0.1.8, of the same weights
"""

import pathlib
import sys

import numpy as np

FOLDER = pathlib.Path(__file__).parent / 'quantized'
OUTPUTS, INPUTS, BLOCK = 20, 1024, 64  # 320 blocks: two groups of them, the second not whole.


def make_bitsandbytes():
  """nf4 with double quantization, and int8 by output; weights [outputs, inputs] as torch has."""
  import torch
  from bitsandbytes import functional

  rng = np.random.default_rng(0)
  weights = (0.02 * rng.standard_normal((OUTPUTS, INPUTS))).astype(np.float16)
  weights[3, 64:128] = 0
  weight = torch.tensor(weights, dtype=torch.float32)
  codes, state = functional.quantize_4bit(
    weight, blocksize=BLOCK, quant_type='nf4', compress_statistics=True
  )
  int8, absmax, _ = functional.int8_vectorwise_quant(torch.tensor(weights))
  np.savez_compressed(
    FOLDER / 'bitsandbytes.npz',
    weights=weights,
    values=state.code,
    dynamic_values=state.state2.code,
    codes=codes.reshape(-1),
    scales=state.absmax,
    group_scales=state.state2.absmax,
    offset=state.offset,
    dequantized=functional.dequantize_4bit(codes, state),
    int8=int8,
    absmax=absmax,
  )


def make_qwix():
  """nf4 without double quantization, of kernels [inputs, outputs] as Flax has."""
  from qwix._src.core import qarray

  kernel = np.load(FOLDER / 'bitsandbytes.npz')['weights'].T.astype(np.float32)
  how = qarray.HowToQuantize(qtype='nf4', channelwise_axes=[1], tiled_axes={0: BLOCK})
  found = qarray.quantize(kernel, how)
  codes, scales = np.asarray(found.qvalue, np.uint8), np.asarray(found.scale)
  np.savez_compressed(FOLDER / 'qwix.npz', codes=codes, scales=scales)


if __name__ == '__main__':
  FOLDER.mkdir(exist_ok=True)
  {'bitsandbytes': make_bitsandbytes, 'qwix': make_qwix}[sys.argv[1]]()
