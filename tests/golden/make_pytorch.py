"""Makes pytorch/: files as PyTorch writes them, and what is in them as NumPy arrays.

python tests/golden/make_pytorch.py        (torch 2.15.0)
"""

import collections
import pathlib
import shutil

import numpy as np
import torch

FOLDER = pathlib.Path(__file__).parent / 'pytorch'
DTYPES = ('float64', 'float32', 'float16', 'bfloat16', 'int64', 'int32', 'int16', 'int8', 'uint8')


def save(name, held, tensors=None):
  torch.save(held, FOLDER / f'{name}.bin')
  tensors = held if tensors is None else tensors
  plain = {
    key: (x.float() if x.dtype == torch.bfloat16 else x).detach().numpy()
    for key, x in tensors.items()
  }
  np.savez_compressed(FOLDER / f'{name}.npz', **plain)


def main():
  shutil.rmtree(FOLDER, ignore_errors=True)
  FOLDER.mkdir()
  torch.manual_seed(0)
  noise = 40 * torch.randn(3, 5)
  save('dtypes', {x: noise.to(getattr(torch, x)) for x in DTYPES} | {'bool': noise > 0})
  base = torch.randn(6, 8)
  views = {
    'whole': base,
    'tied': base,
    'transposed': base.T,
    'row': base[2],
    'column': base[:, 3],
    'steps': base[1::2, ::3],
    'permuted': torch.randn(2, 3, 4).permute(2, 0, 1),
    'scalar': torch.tensor(3.5),
    'empty': torch.zeros(0, 4),
    'parameter': torch.nn.Parameter(torch.randn(4)),
  }
  save('views', collections.OrderedDict(views))
  module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
  save('module', module.state_dict())  # With the attribute `_metadata`.
  nested = {'model_state_dict': {'weight': base}, 'step': 7, 'rate': 0.5, 'notes': ['a', None]}
  save('nested', nested, nested['model_state_dict'])
  torch.save(noise, FOLDER / 'tensor.bin')
  torch.save({'weight': noise}, FOLDER / 'old.bin', _use_new_zipfile_serialization=False)


if __name__ == '__main__':
  main()
