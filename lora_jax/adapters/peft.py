"""Adapters in PEFT's format: a folder with adapter_config.json and adapter_model.safetensors.

    peft.write(adapter, 'out/mrpc', base_name='FacebookAI/roberta-base')
    adapter = peft.read('out/mrpc')

What PEFT has no field for (the method's patterns, the base's fingerprint) is noted in the header of
the safetensors file, which PEFT does not read, so that an adapter comes back to the last bit.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import numpy as writer

from lora_jax import methods
from lora_jax.adapters import fused, peft_config
from lora_jax.adapters.adapter import Adapter, tuples
from lora_jax.adapters.parts import (
  Base,
  Pair,
  Parts,
  all_biases,
  base_of,
  biases,
  check,
  factor_shapes,
  plain_names,
  put_together,
  take_apart,
  task_of,
  whole_modules,
)
from lora_jax.methods.lora import rule
from lora_jax.models import presets
from lora_jax.pretrained import names, pytorch, safetensors

CONFIG, TENSORS, PICKLED = 'adapter_config.json', 'adapter_model.safetensors', 'adapter_model.bin'
PREFIX = 'base_model.model.'
NOTE = 'lora_jax'  # In the safetensors header.
# What PEFT saves twice where biases and whole modules are trained: copies from inside its wrappers.
COPIES = ('.original_module.', '.modules_to_save.')


def write(adapter: Adapter, folder: str | Path, *, base_name: str = '') -> None:
  """Writes an adapter as PEFT's `save_pretrained` does.

  GPT-2's query, key and value are one module there: their factors become the blocks of one pair of
  the summed rank, exactly.

  Args:
    adapter: of the method `lora`.
    folder: made if it is not there; PEFT's two files in it are replaced.
    base_name: of the base on the hub; '': as the adapter names it.

  Raises:
    ValueError: for what PEFT's format cannot hold (see `take_apart`), before anything is written.
  """
  parts, base = take_apart(adapter, 'PEFT')
  family = adapter.config.family
  pairs = {
    names.full(module, family): _joined({path: parts.pairs[path] for path in adapted}, base)
    for module, paths in base.modules.items()
    if (adapted := [path for path in paths if path in parts.pairs])
  }
  tensors = {}
  for module, pair in pairs.items():
    for key, factor in zip(_keys(module, base), (pair.a, pair.b)):
      tensors[PREFIX + key] = np.ascontiguousarray(factor.T, np.float32)
  for name, x in names.give(adapter.config, parts.leaves).items():
    module, leaf = name.rsplit('.', 1)
    inside = '.base_layer' if module in pairs else ''
    tensors[f'{PREFIX}{module}{inside}.{leaf}'] = np.asarray(x, np.float32)
  values = peft_config.make(
    pairs,
    everything=[names.full(plain, family) for plain in base.modules],
    modules_to_save=_modules_to_save(parts, base),
    method=adapter.method,
    task_type=_task_type(adapter, parts, base),
    base_name=base_name or adapter.base,
    family=family,
  )
  note = {
    'method': dict(adapter.method),
    'ranks': {path: pair.rank for path, pair in parts.pairs.items()},
    'architecture': dataclasses.asdict(adapter.config),
    'task': adapter.task,
    'num_labels': adapter.num_labels,
    'fingerprint': dict(adapter.fingerprint),
  }
  folder = Path(folder).expanduser()
  folder.mkdir(parents=True, exist_ok=True)
  files = {
    TENSORS: writer.save(tensors, metadata={'format': 'pt', NOTE: json.dumps(note)}),
    CONFIG: (json.dumps(values, indent=2) + '\n').encode(),
  }
  for name, data in files.items():
    part = folder / f'.{name}.part'
    part.write_bytes(data)
    os.replace(part, folder / name)


def read(folder: str | Path, config: presets.Config | None = None) -> Adapter:
  """Reads an adapter that PEFT or `write` wrote.

  A pair on GPT-2's `c_attn` becomes pairs of query, key and value that have the same a.

  Args:
    folder: with PEFT's files; adapter_model.bin is read where there is no safetensors file.
    config: the base's architecture, which PEFT does not store; not needed for what `write` wrote.

  Raises:
    FileNotFoundError: if the folder lacks a file.
    ValueError: for a corrupt file, features of PEFT that are not computed here (by name), and all
      tensors that are missing, unexpected or misshapen, in one message.
  """
  folder = Path(folder).expanduser()
  values = peft_config.read(folder / CONFIG)
  tensors, note = _read_tensors(folder)
  if config is None:
    if 'architecture' not in note:
      raise ValueError(f"{folder}: PEFT does not store what its base is: give the base's config")
    config = presets.architecture(**note['architecture'])
  family = config.family
  inside = lambda name: name.removeprefix(PREFIX).replace('.base_layer.', '.')
  kept = ((inside(name), x) for name, x in tensors.items() if not any(x in name for x in COPIES))
  plain = plain_names(str(folder), kept, family)
  _check_task(values, family, folder)
  labels = note.get('num_labels', getattr(config, 'num_labels', 0))
  task, labels = task_of(str(folder), config, plain, labels)
  base = base_of(config, task, labels)
  sites = [module for module in base.modules if peft_config.targets(values, module, family)]
  if values['target_modules'] in (None, 'all-linear'):
    sites = [module for module in base.modules if _keys(module, base)[0] in plain]
  sources = {
    path: names.source(config, path, base.shapes[path]) for path in _saved(values, base, sites)
  }
  expected = {source.name: source.shape for source in sources.values()}
  for module in sites:
    rank = peft_config.rank(values, module, family)
    shapes = factor_shapes(base, module, base.modules[module], (rank, rank))
    expected |= dict(zip(_keys(module, base), shapes))
  check(str(folder), expected, plain, _hint(plain, sites))
  pairs = {
    module: Pair(
      *(np.asarray(plain[key], np.float32).T for key in _keys(module, base)),
      alpha=peft_config.alpha(values, module, family),
      rslora=bool(values.get('use_rslora')),
    )
    for module in sites
  }
  parts = Parts(
    _separated(pairs, base, note, folder),
    {path: source.take(plain[source.name]) for path, source in sources.items()},
  )
  adapter = put_together(
    parts,
    base,
    task=task,
    dropout=values.get('lora_dropout') or 0.0,
    name=values.get('base_model_name_or_path') or '',
    method=tuples(note['method']) if note else None,
  )
  return adapter._replace(fingerprint=note.get('fingerprint', {}))


def _joined(pairs: Mapping[str, Pair], base: Base) -> Pair:
  """One module's pair, from those of the paths that it is here."""
  thirds = {names.third(base.model.config, path): pair for path, pair in pairs.items()}
  return thirds[None] if None in thirds else fused.fuse(thirds)


def _separated(
  pairs: Mapping[str, Pair], base: Base, note: Mapping[str, Any], folder: Path
) -> dict[str, Pair]:
  """Pairs by path, those of fused modules apart; as they were exported, if the note says so."""
  ranks = note.get('ranks', {})
  apart = {}
  for module, pair in pairs.items():
    paths = base.modules[module]
    if not note:
      thirds = fused.separate(pair) if len(paths) == 3 else {0: pair}
      apart |= {path: thirds[i] for i, path in enumerate(paths)}
      continue
    mine = {i: path for i, path in enumerate(paths) if path in ranks}
    try:
      alphas = {i: float(rule('alpha', note['method']['alpha'], p)) for i, p in mine.items()}
      if len(paths) == 3:
        thirds = fused.unfuse(pair, alphas, {i: ranks[path] for i, path in mine.items()})
      else:
        thirds = {i: pair._replace(alpha=alpha) for i, alpha in alphas.items()}
    except ValueError as error:
      raise ValueError(f'{folder / TENSORS}: {module}: {error}') from error
    scale = max((part.scale for part in thirds.values()), default=0.0)
    if not math.isclose(scale, pair.scale, rel_tol=1e-9):
      raise ValueError(
        f'{folder}: {module} has the scale {pair.scale} by {CONFIG}, and {scale} by the header of '
        f'{TENSORS}: one was changed after the export. Export it again, or save it by PEFT.'
      )
    apart |= {mine[i]: part for i, part in thirds.items()}
  return apart


def _keys(module: str, base: Base) -> tuple[str, str]:
  """Names of a module's two factors; of a plain or whole name."""
  plain = names.plain(module, base.model.config.family)
  if base.modules[plain][0].startswith('embeddings/'):
    return f'{module}.lora_embedding_A', f'{module}.lora_embedding_B'
  return f'{module}.lora_A.weight', f'{module}.lora_B.weight'


def _saved(values: Mapping[str, Any], base: Base, sites: Iterable[str]) -> list[str]:
  """Paths of the leaves that a config says are trained and saved besides factors."""
  config = base.model.config
  name = lambda path: names.full(names.module(config, path.rsplit('/', 1)[0]), config.family)
  saved = [path for path in base.shapes if peft_config.saves(values, name(path))]
  if values['bias'] == 'all':
    saved += all_biases(base)
  elif values['bias'] == 'lora_only':
    saved += biases(base, [path for module in sites for path in base.modules[module]])
  return list(dict.fromkeys(saved))


def _modules_to_save(parts: Parts, base: Base) -> list[str]:
  """Names for PEFT's field: the head's by its parts, any other module's in full."""
  config = base.model.config
  whole = whole_modules(base, parts.leaves)
  head = [pattern.removesuffix('/.*') for pattern in base.model.head]
  inside = lambda module, part: f'{module}/'.startswith(f'{part}/')
  complete = [
    part
    for part in head
    if all(m in whole for m in {path.rsplit('/', 1)[0] for path in base.shapes} if inside(m, part))
  ]
  others = [module for module in whole if not any(inside(module, part) for part in complete)]
  named = [names.full(names.module(config, module), config.family) for module in others]
  return [*complete, *dict.fromkeys(named)]


def _task_type(adapter: Adapter, parts: Parts, base: Base) -> str | None:
  """PEFT's name of the task; it adds the classifier to what is saved, so only where it is."""
  if adapter.task == 'lm':
    return 'CAUSAL_LM'
  return 'SEQ_CLS' if 'classifier' in _modules_to_save(parts, base) else None


def _check_task(values: Mapping[str, Any], family: str, folder: Path) -> None:
  fitting = 'CAUSAL_LM' if presets.TASKS[family] == ('lm',) else 'SEQ_CLS'
  if values.get('task_type') not in (None, fitting):
    raise ValueError(
      f'{folder}: task_type={values["task_type"]!r}; of a {family} model only {fitting} is read'
    )


def _read_tensors(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """The tensors, and what `write` noted."""
  path = folder / TENSORS
  if not path.is_file():
    if (folder / PICKLED).is_file():
      return dict(pytorch.Tensors(folder / PICKLED)), {}
    raise FileNotFoundError(f'{folder}: neither {TENSORS} nor {PICKLED}')
  tensors = safetensors.Tensors(path)
  note = tensors.metadata.get(NOTE)
  if note is None:
    return dict(tensors), {}
  try:
    note = json.loads(note)
    methods.make(**note['method'])
    presets.architecture(**note['architecture'])
    if not all(isinstance(rank, int) and rank > 0 for rank in note['ranks'].values()):
      raise ValueError(f'ranks {note["ranks"]}')
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise ValueError(f'{path}: what lora_jax noted in its header is damaged ({error!r})') from error
  return dict(tensors), note


def _hint(plain: Mapping[str, np.ndarray], sites: list[str]) -> str:
  if any('lora_magnitude' in name for name in plain):
    return '. It is a DoRA adapter, which is not computed here.'
  if any(name.startswith('wte.lora_') for name in plain):
    return ". Factors on GPT-2's wte are not read: in PEFT its tied output layer is without them."
  return '' if sites else '. target_modules matches no module of this base: is it the right one?'
