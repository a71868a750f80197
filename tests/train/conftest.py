"""A learnable toy of GLUE's SST-2 in its official files, and configs of runs on it."""

import numpy as np
import pytest

from configs import glue

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


@pytest.fixture(scope='session')
def make_config(folder):
  """`make_config('lora', **{'optim.lr': 1e-2})`: a run of seconds on one device."""

  def make(method='lora', **overrides):
    config = glue.get_config(f'task=sst2,tiny=true,preset=small,method={method}')
    fresh = dict(family='bert', vocab_size=64, hidden_size=16, num_layers=2, num_heads=2,
                 intermediate_size=32, max_positions=32)  # fmt: skip
    values = {
      'model.fresh': fresh,
      'model.scan': True,  # Compiles faster than two layers.
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
    with config.unlocked():
      for name, value in values.items():
        config.update_from_flattened_dict({name: value})
    return config

  return make
