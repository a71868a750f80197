"""Toy runs whose numbers a refactoring must not move: records them, and compares to the last bit.

  python tests/reference_runs.py --out=FILE.json
  python tests/reference_runs.py --compare=FILE.json [--only=lora,sweep]

Kept of a run: every evaluation of its history, a SHA-256 of what it trained as its last checkpoint
has it, and one of the texts that it decoded. `--compare` runs all of it again, prints each value
that differs and exits with 1 if any does. The runs are started by configs, `loop.train` and
`sweep.train` and read back from their files, so the code between may change at will. Bits are those
of one machine and one set of libraries: a record is compared where it was made.
"""

import argparse
import contextlib
import functools
import hashlib
import io
import json
import os
import platform
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# One device and one thread of arithmetic, before JAX reads it.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = '--xla_cpu_multi_thread_eigen=false'
os.environ['OMP_NUM_THREADS'] = os.environ['OPENBLAS_NUM_THREADS'] = '1'
os.environ['TOKENIZERS_PARALLELISM'] = 'false'
os.environ['HF_HUB_OFFLINE'] = '1'
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # This checkout, not an installed one.

import jax
import numpy as np
import orbax.checkpoint as ocp
import tokenizers
from ml_collections import config_dict

import lora_jax
from configs import e2e, glue
from lora_jax import sweep
from lora_jax.train import loop

Record = dict[str, Any]

WORDS = ['good', 'bad', 'film', 'plot', 'the', 'a', 'was', 'is', 'very', 'not', 'cast', 'score']
# The task's own, for a vocabulary in which its examples are short.
RECIPES = """name : Lemon Pepper Honey Smoky Creamy Rustic Spiced Sweet Crispy Stew Tart Salad Soup
  Pie Curry Pancakes Noodles Bread | ingredient : chicken lentils mushrooms salmon potatoes spinach
  almonds plums | minutes : 10 15 25 40 55 75 100 | skill : beginner expert | heat : mild hot | diet
  : vegan gluten free none | portions : two four six eight ten . to cook , note that the dish our
  recipe for the cook says that it is made with calls for fresh gets its flavour from simmers for
  minutes is ready after takes to prepare cannot go wrong is easy suits a first - time asks for a
  trained hand is hard to get right needs experience tastes mild has no chilli in it burns the
  tongue comes with plenty of tastes fiery contains nothing from animals and wheat is safe without
  follows no is not for those on a feeds makes fills plates . It . The"""

SIZES = dict(hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, initializer_range=0.3)
ENCODER = dict(family='bert', vocab_size=64, max_positions=32, **SIZES)
DEBERTA = ENCODER | dict(family='deberta-v2', position_buckets=8, convolution=3)
GPT2 = dict(family='gpt2', vocab_size=512, max_positions=128, **SIZES)
ALL_OF_ATTENTION = ('.*/attention/(query|key|value|output)',)

SMALL = {'model.scan': True, 'data.max_shapes': 1, 'train.epochs': 2, 'mesh.data': 1}
QUIET = {'model.hidden_dropout': 0.0, 'model.attention_dropout': 0.0}
DROPOUT = {'model.hidden_dropout': 0.1, 'model.attention_dropout': 0.1}
ALL_DROPOUT = DROPOUT | {'model.classifier_dropout': 0.1, 'method.dropout': 0.1}


def write_data(folder: Path) -> None:
  """A toy SST-2 whose label is whether `good` or `bad` comes first, and both tokenizers."""
  random = np.random.default_rng(0)
  (folder / 'SST-2').mkdir()
  for split, size in (('train', 44), ('dev', 21)):
    lines = ['sentence\tlabel']
    for _ in range(size):
      label = int(random.integers(2))
      words = list(random.choice(WORDS[2:], random.integers(2, 12)))
      words.insert(int(random.integers(len(words))), WORDS[1 - label])
      lines.append(f'{" ".join(words)}\t{label}')
    (folder / 'SST-2' / f'{split}.tsv').write_text('\n'.join(lines) + '\n')
  (folder / 'words').mkdir()
  special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
  (folder / 'words' / 'vocab.txt').write_text('\n'.join(special + WORDS) + '\n')
  (folder / 'bytes').mkdir()
  backend = tokenizers.Tokenizer(tokenizers.models.BPE())
  backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=GPT2['vocab_size'],
    special_tokens=['<|endoftext|>'],
    initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
    show_progress=False,
  )
  backend.train_from_iterator([' '.join(RECIPES.split())], trainer)
  backend.save(str(folder / 'bytes' / 'tokenizer.json'))


def updated(
  config: config_dict.ConfigDict, fresh: Record, values: Record
) -> config_dict.ConfigDict:
  """The config with an architecture, and with fields by their path, which it has to have."""
  with config.unlocked():
    config.model.fresh = dict(fresh)
  config.update_from_flattened_dict(values)
  return config


def encoder(
  folder: Path, values: Record, method: str = 'lora', fresh: Record = ENCODER
) -> config_dict.ConfigDict:
  """The config of an encoder on the toy SST-2: six steps an epoch."""
  config = glue.get_config(f'task=sst2,tiny=true,preset=small,method={method}')
  own = {'data.dir': str(folder), 'data.tokenizer': str(folder / 'words'), 'optim.lr': 1e-2}
  own |= {'data.max_length': 32, 'data.row_length': 16, 'data.limit': 0, 'train.batch_size': 8}
  return updated(config, fresh, SMALL | QUIET | own | values)


def language_model(
  folder: Path, values: Record, arg: str = 'preset=paper'
) -> config_dict.ConfigDict:
  """The config of LoRA on a GPT-2 on the made-up recipes; the paper's has smoothing and dropout."""
  config = e2e.get_config(f'method=lora,tiny=true,{arg}')
  own = {'task': 'synthetic/recipes', 'data.tokenizer': str(folder / 'bytes'), 'optim.lr': 2e-2}
  own |= {'data.limit': 48, 'data.row_length': 128, 'decode.contexts': 0}
  return updated(config, GPT2, SMALL | QUIET | own | values)


def digest_of_trained(workdir: Path) -> str:
  """Of the arrays of the last checkpoint: paths, dtypes, shapes and bytes, in the paths' order."""
  step = max(int(path.name) for path in (workdir / 'checkpoints').iterdir() if path.name.isdigit())
  with ocp.StandardCheckpointer() as reader, warnings.catch_warnings():
    warnings.simplefilter('ignore')  # Shardings are those of the file: one device, as here.
    arrays = reader.restore((workdir / 'checkpoints' / str(step) / 'trainable').absolute())
  named = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
    named['/'.join(str(getattr(key, 'key', key)) for key in path)] = np.asarray(leaf)
  sha = hashlib.sha256()
  for path, leaf in sorted(named.items(), key=lambda item: item[0]):
    sha.update(f'{path} {leaf.dtype} {leaf.shape}\n'.encode())
    sha.update(leaf.tobytes())
  return sha.hexdigest()


def record_of(workdir: Path) -> Record:
  """What is kept of a finished run, from its files alone."""
  result = json.loads((workdir / 'result.json').read_text())
  found = {'history': result['history'], 'trained': digest_of_trained(workdir)}
  for path in sorted(workdir.glob('predictions-*.txt')):
    found[path.stem] = hashlib.sha256(path.read_bytes()).hexdigest()
  return found


def train(config: config_dict.ConfigDict, workdir: Path) -> dict[str, Record]:
  """One run, by the name ''."""
  loop.train(config, workdir)
  return {'': record_of(workdir)}


def train_sweep(
  config: config_dict.ConfigDict, overrides: list[Record], workdir: Path
) -> dict[str, Record]:
  """The runs of a sweep that is one program."""
  return {f'/{name}': record_of(workdir / name) for name in sweep.train(config, overrides, workdir)}


def train_interrupted(config: config_dict.ConfigDict, workdir: Path) -> dict[str, Record]:
  """The same run twice: whole, and ended by SIGTERM after its first checkpoint and resumed."""
  loop.train(config, workdir / 'whole')
  resumed, ended = workdir / 'resumed', threading.Event()

  def interrupt() -> None:
    while not list((resumed / 'checkpoints').glob('[0-9]*')):
      if ended.wait(0.01):
        return
    os.kill(os.getpid(), signal.SIGTERM)

  before = signal.signal(signal.SIGTERM, lambda *_: None)  # Of one that comes too late.
  thread = threading.Thread(target=interrupt)
  thread.start()
  try:
    loop.train(config, resumed)
  except SystemExit as stopped:
    if stopped.code != 143:
      raise
  finally:
    ended.set()
    thread.join()
    signal.signal(signal.SIGTERM, before)
  if (resumed / 'result.json').exists():
    raise RuntimeError('the run ended before it was interrupted')
  loop.train(config, resumed)
  found = {f'/{name}': record_of(workdir / name) for name in ('whole', 'resumed')}
  for key, whole, other in differences(found['/whole'], found['/resumed']):
    raise RuntimeError(f'interrupted: {key} is {whole} of the whole run, {other} of the resumed')
  return found


def runs(data: Path) -> dict[str, Callable[[Path], dict[str, Record]]]:
  """By name what makes a run in a directory of its own, and returns what is kept of it."""
  own = functools.partial(encoder, data)
  text = functools.partial(language_model, data)
  looped, bfloat16 = {'model.scan': False}, {'model.dtype': 'bfloat16'}
  wide = {'method.targets': ALL_OF_ATTENTION, 'method.bias': 'adapted'}
  tokens = {'method.prefix': 3, 'method.infix': 2, 'data.row_length': 24}
  decode = {'decode.beams': 4, 'decode.max_tokens': 24, 'decode.contexts': 4}
  decode |= {'decode.final': 'test', 'method.train': ('embeddings/.*',), 'data.limit': 192}
  plain = {
    'lora': lambda: own(ALL_DROPOUT),
    'lora_looped': lambda: own(looped | wide),
    'lora_accumulate': lambda: own({'train.accumulate': 2, 'method.dropout': 0.1}),
    'lora_bfloat16': lambda: own(ALL_DROPOUT | bfloat16 | {'model.param_dtype': 'bfloat16'}),
    'full': lambda: own(DROPOUT | {'train.steps_per_call': 2}, 'full'),
    'bitfit': lambda: own(looped, 'bitfit'),
    'adapter_h': lambda: own({}, 'adapter_h'),
    'prefix_layer': lambda: own(tokens, 'prefix_layer'),
    'deberta': lambda: own(ALL_DROPOUT, fresh=DEBERTA),
    'deberta_looped': lambda: own(looped, fresh=DEBERTA),
    'gpt2': lambda: text(DROPOUT | {'model.remat': 'full'}),
    'gpt2_looped': lambda: text(looped, 'preset=small,targets=all'),
    'gpt2_decode': lambda: text(decode, 'preset=small,targets=all'),
  }
  ranks = [
    {'method.rank': 2, 'optim.lr': 2e-2},
    {'method.rank': 4, 'optim.lr': 1e-2, 'train.epochs': 1},
    {'method.rank': 8, 'optim.lr': 5e-3, 'method.targets': ALL_OF_ATTENTION},
  ]
  long = {'train.epochs': 5, 'model.hidden_dropout': 0.1}
  seeds = [{'seed': 0}, {'seed': 1, 'optim.lr': 3e-2}]
  return {name: lambda to, make=make: train(make(), to) for name, make in plain.items()} | {
    'sweep': lambda to: train_sweep(own(ALL_DROPOUT), ranks, to),
    'sweep_seeds': lambda to: train_sweep(own(DROPOUT, 'full'), seeds, to),
    'interrupted': lambda to: train_interrupted(own(long), to),
  }


def differences(there: Any, here: Any, key: str = '') -> Iterator[tuple[str, Any, Any]]:
  """(key, there, here) of the leaves in which two nested values differ, numbers by their repr."""
  parts = [dict(enumerate(value)) if isinstance(value, list) else value for value in (there, here)]
  if all(isinstance(part, dict) for part in parts):
    for name in dict.fromkeys([*parts[0], *parts[1]]):
      own = f'{key}[{name!r}]' if key else str(name)
      yield from differences(*(part.get(name, 'nothing') for part in parts), own)
  elif repr(there) != repr(here):
    yield key, there, here


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  target = parser.add_mutually_exclusive_group(required=True)
  target.add_argument('--out', type=Path, help='the record to write')
  target.add_argument('--compare', type=Path, help='the record to compare with')
  parser.add_argument('--only', default='', help='names of runs, separated by commas')
  args = parser.parse_args()
  expected = json.loads(args.compare.read_text()) if args.compare else None
  about = {'cpu': platform.processor() or platform.machine(), 'python': platform.python_version()}
  about |= {module.__name__: module.__version__ for module in (jax, np, ocp, tokenizers)}

  print(f'code: {Path(lora_jax.__file__).parent}', flush=True)
  found: dict[str, Record] = {}
  with tempfile.TemporaryDirectory() as folder:
    data = Path(folder) / 'data'
    data.mkdir()
    write_data(data)
    every = runs(data)
    chosen = [name for name in args.only.split(',') if name] or list(every)
    if unknown := [name for name in chosen if name not in every]:
      parser.error(f'no run {unknown[0]!r}. There are: {", ".join(every)}')
    for name in chosen:
      began = time.monotonic()
      with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        made = every[name](Path(folder) / name)
      found |= {name + suffix: record for suffix, record in made.items()}
      print(f'{name}: {time.monotonic() - began:.1f} s', flush=True)
  if args.out:
    args.out.write_text(json.dumps({'about': about, 'runs': found}, indent=1) + '\n')
    return
  for key, there, here in differences(expected['about'], about):
    print(f'not the same machine or libraries: {key}: {there} there, {here} here')
  there = {k: v for k, v in expected['runs'].items() if k.partition('/')[0] in chosen}
  differing = list(differences(there, json.loads(json.dumps(found))))
  for key, old, new in differing:
    print(f'{key}: {old} there, {new} here')
  print(f'{len(differing)} differences in {len(found)} runs')
  sys.exit(bool(differing))


if __name__ == '__main__':
  main()
