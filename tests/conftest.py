"""Strict numerics, eight fake devices, no accelerator, no network."""

import os
import pathlib
from collections.abc import Iterator

os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # JAX_PLATFORMS=cuda runs the tests on a GPU.
os.environ['HF_HUB_OFFLINE'] = '1'

import jax
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')


@pytest.fixture(scope='session')
def shared_data() -> pathlib.Path:
  """The folder of the benchmarks' official archives; skips where there is none."""
  folder = ROOT.parent / 'shared' / 'data'
  if not folder.is_dir():
    pytest.skip(f'needs the official files of the benchmarks in {folder}')
  return folder


@pytest.fixture
def strict_dtypes() -> Iterator[None]:
  """No implicit promotion of dtypes (not around the optimizer: optax's Adam fails under it)."""
  with jax.numpy_dtype_promotion('strict'):
    yield
