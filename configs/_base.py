"""What every config has: its sections, and the argument that picks an entry.

A config file is `get_config(arg)` and `sweep(arg)`, where `arg` is what follows the colon of
`--config=configs/glue.py:task=mrpc,method=lora`. Any field can then be set by its own flag
(`--config.optim.lr=2e-4`, `--config.method.targets="('.*/(query|key|value)',)"`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ml_collections import config_dict

from lora_jax import fields
from lora_jax.errors import listed, nearest
from lora_jax.paper import entries

Overrides = Mapping[str, object]

# The options of each method other than LoRA; every method but `full` also has `train`. Sizes are
# for a small model: about as many parameters as LoRA of rank 8 on query and value of 6 layers of
# width 384.
OPTIONS: dict[str, dict[str, object]] = {
  'full': {},
  'vera': dict(
    rank=256,
    targets=fields.METHOD['targets'].default,
    dropout=0.0,
    d_initial=0.1,
    projection_seed=0,
  ),
  'bitfit': {},
  'top_layers': dict(layers=2),
  'adapter_h': dict(bottleneck=8, activation='silu'),
  'adapter_l': dict(bottleneck=15, activation='relu'),
  'adapter_p': dict(bottleneck=16, activation='relu'),
  'adapter_d': dict(bottleneck=16, activation='relu', drop=0),
  'prefix_embed': dict(prefix=184, infix=8),
  'prefix_layer': dict(prefix=24, infix=8),
  'intrinsic': dict(dimension=1000, variant='did', head='subspace', subspace=0),
}
METHODS = ('lora', *OPTIONS, 'lora+prefix_embed', 'lora+prefix_layer')

# The methods of a comparison (configs/compare.py), each with the rates of which one is selected on
# a task; the second is the default. Where the largest did best, one more was added beyond it.
RATES = {
  'full': (2e-5, 6e-5, 2e-4, 6e-4),
  'bitfit': (3e-4, 1e-3, 3e-3, 1e-2),
  'adapter_h': (3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
  'adapter_l': (3e-4, 1e-3, 3e-3, 1e-2),
  'adapter_p': (3e-4, 1e-3, 3e-3, 1e-2),
  'prefix_embed': (1e-3, 3e-3, 1e-2),
  'prefix_layer': (1e-3, 3e-3, 1e-2, 3e-2),
  'lora': (3e-4, 1e-3, 3e-3, 1e-2),
}


def base() -> config_dict.ConfigDict:
  """All sections but `method`, with the defaults of `lora_jax/fields.py`; unlocked.

  A placeholder that stays None leaves the choice to the checkpoint.
  """
  config = config_dict.ConfigDict(fields.defaults())
  for path, field in fields.FIELDS.items():
    if field.default is None:
      section, _, name = path.rpartition('.')
      config[section][name] = config_dict.placeholder(field.kind)
  return config


def lora(rank: int, alpha: float, dropout: float = 0.0) -> dict[str, object]:
  """The `method` section of LoRA on the query and value kernels, as in most of the paper."""
  options = ('name', 'rank', 'alpha', 'targets', 'dropout', 'init', 'rslora', 'train_a', 'dora')
  options += ('bias', 'train')
  defaults = {name: fields.METHOD[name].default for name in options}
  return defaults | dict(rank=rank, alpha=float(alpha), dropout=dropout)


def method(name: str, lora: Mapping[str, object]) -> dict[str, object]:
  """The `method` section of any method or composition, where `lora` is the section of LoRA."""
  section: dict[str, object] = {}
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
) -> dict[str, object]:
  """The `model.fresh` section: an untrained architecture whose MLP is four times as wide."""
  return dict(
    family=family,
    vocab_size=vocab_size,
    hidden_size=hidden_size,
    num_layers=num_layers,
    num_heads=num_heads,
    intermediate_size=4 * hidden_size,
    max_positions=max_positions,
  )


def parse_arg(arg: str | None, paths: Sequence[str] = (), **defaults: str) -> dict[str, str]:
  """Reads `key=value,key=value` over the defaults, whose keys are the known ones.

  The value of a key of `paths` may hold `=` and `,` if it holds a `/`: what follows a comma belongs
  to it unless that reads as one of the keys or nearly so (`model=/data/a,b=1/c,task=rte`). Where
  this guess is wrong, the field's own flag (`--config.model.name=...`) takes any text.

  Raises:
    ValueError: naming the part at fault and the nearest key.
  """
  values: dict[str, str] = {}
  key = ''
  for part in (arg or '').split(',') if arg else ():
    name, equals, value = part.partition('=')
    # `nearest` begins with a guess if there is one.
    unlike = not equals or nearest(name, defaults).startswith('Known')
    if equals and name in defaults:
      if name in values:
        raise ValueError(f'{name} is given twice in {arg!r}.')
      key, values[name] = name, value
    elif key in paths and '/' in values[key] and unlike:
      values[key] += ',' + part
    elif equals:
      raise ValueError(f'unknown key {name!r} in {arg!r}. {nearest(name, defaults)}')
    else:
      keys = listed(list(defaults), limit=40)
      raise ValueError(f'expected key=value, found {part!r} in {arg!r}. Keys: {keys}.')
  return defaults | values


def switch(args: Mapping[str, str], key: str) -> bool:
  """The value of a key that is true or false."""
  value = args[key].lower()
  if value not in ('true', 'false', '1', '0'):
    raise ValueError(f'{key} is true or false, found {args[key]!r}.')
  return value in ('true', '1')


def numbers(key: str, text: str) -> list[float]:
  """The numbers of a list as `1e-3+3e-3`; none of ''.

  Raises:
    ValueError: for a part that is not a number, naming the key.
  """
  try:
    return list(map(float, filter(None, text.split('+'))))
  except ValueError:
    raise ValueError(f'{key}={text!r}: expected numbers, as 1e-3+3e-3') from None


def check(kind: str, name: str, known: Iterable[str]) -> None:
  """Raises a ValueError that offers the nearest names if `name` is not one of `known`."""
  known = tuple(known)
  if name not in known:
    raise ValueError(f'unknown {kind} {name!r}. {nearest(name, known)}')


def check_model(name: str, known: Iterable[str]) -> None:
  """As `check`; a name with a `/` is a folder or a repository and is judged when it is loaded."""
  known = tuple(known)
  if '/' not in name and name not in known:
    raise ValueError(
      f'unknown model {name!r}. {nearest(name, known)} A folder is written with a slash: ./{name}'
    )


def last_part(model: str) -> str:
  """The last part of a model's name, folder or repository: `/m/roberta-large/` -> roberta-large."""
  return model.rstrip('/').rpartition('/')[2]


def no_settings(
  rows: Iterable[entries.Entry], table: str, model: str, method: str, preset: str, offer: str = ''
) -> ValueError:
  """The error of a preset without settings of a method, which the table quotes or does not have."""
  quoted = [row for row in rows if (row.model, row.method) == (model, method) and row.quoted]
  why = f'{table} has no such row of {model}.'
  if quoted:
    printed = ' and '.join(row.printed for row in quoted)
    why = (
      f'{table} quotes its row of {model} ({printed} parameters) from earlier work (such rows are '
      'marked * in tables 2 and 3), and the paper gives no settings of it.'
    )
  return ValueError(
    f'preset={preset} has no settings of method={method}: {why} preset=small has settings of our '
    f'own, for every method on any model.{offer}'
  )


def seeded(count: int, runs: Sequence[Overrides] = ({},)) -> Iterator[Overrides]:
  """The overrides of each run with each of the seeds 0 to `count` - 1."""
  for seed in range(count):
    for run in runs:
      yield {**run, 'seed': seed}
