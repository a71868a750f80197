"""What every config has: its fields with their defaults, and the argument string that picks a cell.

A config file is `get_config(arg)`, where `arg` is what follows the colon of
`--config=configs/glue.py:task=mrpc,method=lora`; any field is then set by its own flag
(`--config.optim.lr=2e-4`, `--config.method.targets="('.*/(query|key|value)',)"`).
"""

import difflib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import config_dict

# The options of each method beside LoRA; every one but `full` has `train` as well. Sizes are for a
# small model: about as many parameters as LoRA of rank 8 on query and value of 6 layers of 384.
OPTIONS: dict[str, dict[str, Any]] = {
  'full': {},
  'bitfit': {},
  'top_layers': dict(layers=2),
  'adapter_h': dict(bottleneck=8, activation='silu'),  # silu, relu, gelu, tanh.
  'adapter_l': dict(bottleneck=15, activation='relu'),
  'adapter_p': dict(bottleneck=16, activation='relu'),
  'adapter_d': dict(bottleneck=16, activation='relu', drop=0),  # Lowest layers without one.
  'prefix_embed': dict(prefix=184, infix=8),  # Tokens before and after the input.
  'prefix_layer': dict(prefix=24, infix=8),
}
METHODS = ('lora', *OPTIONS, 'lora+prefix_embed', 'lora+prefix_layer')
QUERY_VALUE = ('.*/(query|value)',)


class Cell(NamedTuple):
  """A row of a table of the paper: a method on a model, and what the paper prints of it.

  Attributes:
    model: a preset's name.
    method: one of METHODS.
    options: those of the method that fix its count; sizes that the paper does not give are those
      whose count it prints.
    printed: the number of trained parameters, as printed.
    arg: what picks its settings in the config's argument. '': the paper quotes the row from earlier
      work (it marks it *) and has no settings of it, so neither has the config.
  """

  model: str
  method: str
  options: Mapping[str, Any]
  printed: str
  arg: str = ''


def base() -> config_dict.ConfigDict:
  """All sections but `method`, with the defaults of the fields that few cells change. Not locked.

  Batch sizes are global, in examples: the mesh splits them. Ratios are in [0, 1]; a placeholder
  that stays None leaves the choice to the checkpoint.
  """
  rate = config_dict.placeholder
  return config_dict.ConfigDict(
    dict(
      experiment='',
      cell='',  # The table of the paper that has this run's row, '' if none.
      task='',
      preset='paper',
      seed=0,
      # A run directory or an adapter (this project's, PEFT's, loralib's): its factors are the
      # start, its head too if it fits.
      init_adapter='',
      model=dict(
        name='',  # A preset, a folder in Hugging Face layout, a run directory, or 'fresh'.
        dtype='float32',  # Compute.
        param_dtype='float32',  # Frozen weights.
        scan=False,
        remat='none',  # none, full, dots.
        attention='xla',  # xla, cudnn.
        hidden_dropout=rate(float),
        attention_dropout=rate(float),
        classifier_dropout=rate(float),
      ),
      data=dict(
        source='files',  # files, tfds.
        dir='',
        tokenizer='',  # A folder or archive; '' is the model's own.
        max_length=512,
        batching='pack',  # pack, pad, pad_max.
        row_length=0,  # Tokens of a packed row; 0 chooses.
        max_shapes=7,  # Of batches: each is a compilation, fewer leave more padding.
        limit=0,  # Training examples, after a seeded shuffle; 0 is all.
      ),
      train=dict(
        batch_size=32,
        eval_batch_size=64,
        epochs=1,
        accumulate=1,  # Parts that a batch is computed in.
        steps_per_call=1,
        label_smoothing=0.0,
      ),
      optim=dict(
        lr=1e-3,
        schedule='linear',  # linear, constant.
        warmup_ratio=0.0,
        warmup_steps=0,  # 0: by the ratio.
        weight_decay=0.0,
        clip=0.0,  # Global norm of the trainable gradient; 0 is off.
        beta1=0.9,
        beta2=0.999,
        eps=1e-8,
      ),
      decode=dict(  # Of texts that are generated; language models only.
        strategy='beam',  # beam, greedy, sample.
        beams=10,
        length_penalty=0.9,  # A beam's log-probability is divided by its length to this power.
        no_repeat_ngram=4,  # No sequence of so many generated tokens twice; 0 is off.
        max_tokens=64,  # New ones.
        batch_size=32,  # Contexts at a time.
        temperature=1.0,  # This and the next two: sample only.
        top_k=0,  # 0 is all.
        top_p=1.0,
        stop=('<|endoftext|>', '\n\n'),  # End a text, if they are one token of the vocabulary.
        contexts=0,  # Of the first held-out split, decoded and scored at every evaluation.
        final='',  # The split decoded in whole with the best checkpoint at the end; '' is none.
      ),
      eval=dict(every_epochs=1, every_steps=0),  # Steps, if given, take the place of epochs.
      checkpoint=dict(every_steps=0, keep=2),  # 0 steps: at the end of each epoch.
      mesh=dict(data=-1, fsdp=1, tensor=1),  # Devices along each axis; -1: those that are left.
      sweep=dict(width=0),  # Runs trained as one program; 0 chooses by the device.
    )
  )


def lora(rank: int, alpha: float, dropout: float = 0.0) -> dict[str, Any]:
  """The `method` section of LoRA on the query and value kernels, as in most of the paper."""
  return dict(
    name='lora',
    rank=rank,
    alpha=float(alpha),
    targets=QUERY_VALUE,
    dropout=dropout,
    init='uniform',  # uniform (loralib's), normal.
    rslora=False,
    bias='none',  # none, adapted, all.
    train=(),  # Paths of further leaves; the task head is always trained.
  )


def method(name: str, lora: Mapping[str, Any]) -> dict[str, Any]:
  """The `method` section of any method; `lora` is that of LoRA, for where it is one of them."""
  section: dict[str, Any] = {}
  for part in name.split('+'):
    section |= lora if part == 'lora' else OPTIONS[part]
  return {**section, 'name': name} if name == 'full' else {**section, 'name': name, 'train': ()}


def fresh(
  family: str,
  vocab_size: int,
  hidden_size: int,
  num_layers: int,
  num_heads: int,
  max_positions: int,
) -> dict[str, Any]:
  """The `model.fresh` section: an untrained architecture, its MLP four times as wide as it is."""
  return dict(
    family=family,
    vocab_size=vocab_size,
    hidden_size=hidden_size,
    num_layers=num_layers,
    num_heads=num_heads,
    intermediate_size=4 * hidden_size,
    max_positions=max_positions,
  )


def parse_arg(arg: str | None, paths: Sequence[str] = (), **defaults: Any) -> dict[str, Any]:
  """Reads `key=value,key=value` over the defaults, whose keys and types are the allowed ones.

  A value of one of `paths` that holds a `/` may hold `=` and `,` as well: what follows a comma
  belongs to it unless it reads as one of the keys or nearly so (`model=/data/a,b=1/c,task=rte`).
  Where that guess is wrong, the field's own flag (`--config.model.name=...`) takes any text.

  Raises:
    ValueError: naming the part at fault and the nearest key, or the values of a switch.
  """
  values: dict[str, str] = {}
  key = ''
  for part in (arg or '').split(',') if arg else ():
    name, equals, value = part.partition('=')
    if equals and name in defaults:
      if name in values:
        raise ValueError(f'{name} is given twice in {arg!r}.')
      key, values[name] = name, value
    elif key in paths and '/' in values[key] and not (equals and _near(name, defaults)):
      values[key] += ',' + part
    elif equals:
      raise ValueError(f'Unknown key {name!r} in {arg!r}. {_offer(name, defaults)}')
    else:
      raise ValueError(f'Expected key=value, found {part!r} in {arg!r}. Keys: {_listed(defaults)}.')
  return defaults | {
    key: _switch(key, value) if isinstance(defaults[key], bool) else value
    for key, value in values.items()
  }


def check(kind: str, name: str, known: Iterable[str]) -> None:
  """Raises a ValueError that offers the nearest names if `name` is none of `known`."""
  if name not in (known := tuple(known)):
    raise ValueError(f'Unknown {kind} {name!r}. {_offer(name, known)}')


def check_model(name: str, known: Iterable[str]) -> None:
  """As `check`, but a name with a `/` is a folder or a repository: who loads it will judge it."""
  known = tuple(known)
  if '/' not in name and name not in known:
    offer = _offer(name, known)
    raise ValueError(f'Unknown model {name!r}. {offer} A folder is written with a slash: ./{name}')


def no_settings(
  table: str, cells: Iterable[Cell], model: str, method: str, preset: str, offer: str = ''
) -> ValueError:
  """The error of a preset that has no settings of a method: they are quoted, or not in a table."""
  quoted = [c for c in cells if (c.model, c.method, c.arg) == (model, method, '')]
  why = f'{table} has no such row of {model}.'
  if quoted:
    printed = ' and '.join(cell.printed for cell in quoted)
    why = (
      f'{table} quotes its row of {model} ({printed} parameters) from earlier work (such rows are '
      'marked * in tables 2 and 3), and the paper gives no settings of it.'
    )
  return ValueError(
    f'preset={preset} has no settings of method={method}: {why} preset=small has settings of our '
    f'own, for every method on any model.{offer}'
  )


def runs(seeds: Iterable[int], rates: Iterable[float] = ()) -> Iterator[Mapping[str, Any]]:
  """Overrides of one run after the other: each seed, at each rate if any are given."""
  for rate, seed in itertools.product(tuple(rates) or (None,), seeds):
    yield {'seed': seed} if rate is None else {'seed': seed, 'optim.lr': rate}


def _switch(key: str, value: str) -> bool:
  if value.lower() not in ('true', 'false', '1', '0'):
    raise ValueError(f'{key} is true or false, found {value!r}.')
  return value.lower() in ('true', '1')


def _near(name: str, known: Iterable[str]) -> list[str]:
  plain = {re.sub(r'[^a-z0-9]', '', key.lower()): key for key in known}
  wanted = re.sub(r'[^a-z0-9]', '', name.lower())
  return [plain[key] for key in difflib.get_close_matches(wanted, plain, n=3, cutoff=0.6)]


def _offer(name: str, known: Iterable[str]) -> str:
  known = tuple(known)
  near = _near(name, known)
  return (f'Did you mean {_listed(near)}? ' if near else '') + f'Known: {_listed(known)}.'


def _listed(names: Iterable[str]) -> str:
  return ', '.join(names)
