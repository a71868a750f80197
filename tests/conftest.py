"""Strict numerics, eight fake devices, no accelerator, no network; toy runs that tests share."""

import atexit
import os
import pathlib
import resource
import shutil
import tempfile
from collections.abc import Iterator

os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # JAX_PLATFORMS=cuda runs the tests on a GPU.
os.environ['HF_HUB_OFFLINE'] = '1'
if os.environ['JAX_PLATFORMS'] == 'cpu':
  # Toys run for milliseconds and compile for seconds: unoptimized code halves the latter. What is
  # given stands, and the processes that tests start inherit it.
  given = os.environ.get('XLA_FLAGS', '')
  os.environ['XLA_FLAGS'] = f'--xla_backend_optimization_level=0 {given}'
os.environ['LORA_JAX_COMPILATION_CACHE'] = 'off'  # Of the commands that tests start.
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  # Many tests compile the same toys. What one has compiled is read by the others, by the other
  # workers and by the commands that they start, and forgotten with the session.
  compiled = tempfile.mkdtemp(prefix='lora_jax-tests-compiled-')
  atexit.register(shutil.rmtree, compiled, ignore_errors=True)
  os.environ |= {
    'JAX_COMPILATION_CACHE_DIR': compiled,
    'JAX_COMPILATION_CACHE_MAX_SIZE': str(2**30),  # With a limit JAX locks what it writes.
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.1',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '0',
  }

import jax
import numpy as np
import pytest

from configs import demo, glue
from lora_jax.data import synthetic

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


WORDS = ['good', 'bad', 'film', 'plot', 'the', 'a', 'was', 'is', 'very', 'not', 'cast', 'score']


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
  """SST-2/{train,dev}.tsv of sentences whose label is whether `good` or `bad` comes first."""
  random = np.random.default_rng(0)
  folder = tmp_path_factory.mktemp('glue')
  (folder / 'SST-2').mkdir()
  for split, size in (('train', 44), ('dev', 21)):
    lines = ['sentence\tlabel']
    for _ in range(size):
      label = int(random.integers(2))
      words = list(random.choice(WORDS[2:], random.integers(2, 12)))
      words.insert(int(random.integers(len(words))), WORDS[1 - label])
      lines.append(f'{" ".join(words)}\t{label}')
    (folder / 'SST-2' / f'{split}.tsv').write_text('\n'.join(lines) + '\n')
  (folder / 'vocab').mkdir()
  special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
  (folder / 'vocab' / 'vocab.txt').write_text('\n'.join(special + WORDS) + '\n')
  return folder


def updated(config, values):
  """The config with fields set by their path."""
  with config.unlocked():
    for name, value in values.items():  # One by one: a whole section, then fields of it.
      config.update_from_flattened_dict({name: value})
  return config


@pytest.fixture(scope='session')
def make_config(folder):
  """`make_config('lora', **{'optim.lr': 1e-2})`: a run of seconds on one device."""

  def make(method='lora', **overrides):
    config = glue.get_config(f'task=sst2,tiny=true,preset=small,method={method}')
    fresh = dict(family='bert', vocab_size=64, hidden_size=16, num_layers=2, num_heads=2,
                 intermediate_size=32, max_positions=32,
                 initializer_range=0.3)  # fmt: skip
    values = {
      'model.fresh': fresh,
      'model.scan': True,  # Compiles faster than two layers.
      'model.hidden_dropout': 0.0,
      'model.attention_dropout': 0.0,
      'data.max_shapes': 1,
      'data.dir': str(folder),
      'data.tokenizer': str(folder / 'vocab'),
      'data.max_length': 32,
      'data.limit': 0,
      'data.row_length': 16,
      'train.batch_size': 8,
      'train.epochs': 2,
      'optim.lr': 1e-2,
      'mesh.data': 1,
      **overrides,
    }
    return updated(config, values)

  return make


@pytest.fixture(scope='session')
def make_language_model(tmp_path_factory):
  """As `make_config`, for a fresh GPT-2 on the demo's text."""
  folder = tmp_path_factory.mktemp('tokenizer')
  synthetic.train_tokenizer(512).save(folder)

  def make(**overrides):
    config = demo.get_config(f'method=full,tokenizer={folder}')
    values = {
      'task': 'synthetic/recipes',
      'model.fresh.vocab_size': 512,
      'model.fresh.hidden_size': 16,
      'model.fresh.intermediate_size': 32,
      'model.fresh.num_layers': 2,
      'model.scan': True,
      'data.limit': 48,
      'data.row_length': 128,
      'data.max_shapes': 1,
      'train.batch_size': 32,
      'train.epochs': 3,
      'decode.contexts': 0,
      'mesh.data': 1,
      **overrides,
    }
    return updated(config, values)

  return make


@pytest.fixture
def full_disk():
  """No file can grow, which is told as of a full disk: when the file is flushed or closed."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
  yield
  resource.setrlimit(resource.RLIMIT_FSIZE, before)
