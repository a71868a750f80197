"""Adapters in PEFT's format: a folder with adapter_config.json and adapter_model.safetensors.

    peft.write(adapter, 'out/mrpc', base_name='FacebookAI/roberta-base')
    adapter = peft.read('out/mrpc')

The header of the safetensors file, which PEFT does not read, holds a note of everything that PEFT
has no field for (the method's patterns, the base's fingerprint). So `read` restores an adapter that
`write` wrote to the last bit.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import logging
from safetensors import numpy as writer

from lora_jax import errors, files
from lora_jax.adapters import fused, peft_config, peft_factors, peft_file, peft_matching
from lora_jax.adapters.adapter import Adapter, options_from_json
from lora_jax.adapters.parts import (
  BaseLayout,
  Pair,
  Parts,
  all_biases,
  alpha_of,
  base_layout,
  biases,
  check,
  from_parts,
  plain_names,
  task_of,
  to_parts,
  whole_modules,
)
from lora_jax.adapters.peft_config import PeftConfig
from lora_jax.adapters.peft_file import NOTE, PREFIX, TENSORS, Note
from lora_jax.errors import listed
from lora_jax.models import presets
from lora_jax.pretrained import names
from lora_jax.pretrained.architecture import to_hugging_face

CONFIG = 'adapter_config.json'
WORDS = 'embeddings/word/embedding'


def write(adapter: Adapter, folder: str | Path, *, base_name: str = '') -> None:
  """Writes an adapter as PEFT's `save_pretrained` does.

  GPT-2's query, key and value are one module in PEFT: their factors become the blocks of one pair
  of the summed rank, exactly.

  Args:
    adapter: an adapter of the method `lora` or `vera`.
    folder: made if it does not exist; PEFT's two files in it are replaced.
    base_name: name of the base on the hub; '' takes the adapter's name of it.

  Raises:
    ValueError: if PEFT's format cannot hold the adapter (see `to_parts`); nothing is written then.
  """
  parts, base = to_parts(adapter, 'PEFT', holds_vera=True)
  family = adapter.config.family
  pairs = {
    names.full_name(module, family): _fuse({path: parts.pairs[path] for path in adapted}, base)
    for module, paths in base.modules.items()
    if (adapted := [path for path in paths if path in parts.pairs])
  }
  tensors = {}
  for module, pair in pairs.items():
    for key, factor in zip(
      peft_factors.keys(module, base, parts.shared is not None), (pair.a, pair.b)
    ):
      tensors[PREFIX + key] = np.ascontiguousarray(factor.T, np.float32)
    if pair.magnitude is not None:
      tensors[f'{PREFIX}{module}.{peft_factors.LENGTHS}'] = np.asarray(pair.magnitude, np.float32)
  for key, factor in zip(peft_factors.SHARED, parts.shared or ()):
    tensors[key] = np.ascontiguousarray(factor.T, np.float32)
  for name, x in names.to_tensors(adapter.config, parts.leaves).items():
    module, leaf = name.rsplit('.', 1)
    inside = '.base_layer' if module in pairs else ''
    tensors[f'{PREFIX}{module}{inside}.{leaf}'] = np.asarray(x, np.float32)
  values = peft_config.make(
    pairs,
    everything=[names.full_name(plain, family) for plain in base.modules],
    modules_to_save=_modules_to_save(parts, base),
    method=adapter.method,
    task_type=_task_type(adapter, parts, base),
    base_name=base_name or adapter.base,
    family=family,
  )
  note = Note(
    method=dict(adapter.method),
    ranks={path: pair.rank for path, pair in parts.pairs.items()},
    architecture=dataclasses.asdict(adapter.config),
    task=adapter.task,
    num_labels=adapter.num_labels,
    fingerprint=dict(adapter.fingerprint),
    label_names=adapter.label_names,
  )
  folder = Path(folder).expanduser()
  metadata = {'format': 'pt', NOTE: json.dumps(note._asdict())}
  files.write_atomic(folder / TENSORS, writer.save(tensors, metadata=metadata))
  files.write_json(folder / CONFIG, values)
  if adapter.label_names:  # PEFT has no field for these names; transformers reads them here.
    named = to_hugging_face(adapter.config, adapter.num_labels, adapter.label_names)
    files.write_json(folder / 'config.json', named)


def vllm_limits(folder: Path) -> list[str]:
  """What vLLM does not serve of an adapter in PEFT's format, a line each."""
  values = peft_config.read(folder / CONFIG)
  found = []
  if other := sorted({*(values['modules_to_save'] or ())} - set(peft_config.HEADS)):
    found.append(f'vLLM takes only classifier or score in modules_to_save, not {listed(other)}')
  if values['bias'] != 'none':
    found.append(f'vLLM takes no trained biases (bias={values["bias"]!r})')
  lines = [f'{line}; transformers and PEFT do. Export a merged model for vLLM.' for line in found]
  if variant := 'DoRA' if values['use_dora'] else 'VeRA' * (values['peft_type'] == 'VERA'):
    way = 'the nearest plain LoRA (--as_lora --rank=RANK)'
    lines.append(f'vLLM does not compute {variant}. Export a merged model for vLLM, or {way}.')
  return lines


def read(folder: str | Path, config: presets.Config | None = None) -> Adapter:
  """Reads an adapter that PEFT or `write` wrote.

  A pair on GPT-2's `c_attn` becomes pairs of query, key and value that have the same a.

  Args:
    folder: a folder with PEFT's files; adapter_model.bin is read if there is no safetensors file.
    config: the base's architecture, which PEFT does not store; files by `write` need none.

  Raises:
    FileNotFoundError: if the folder lacks a file.
    ValueError: for a corrupt file, for features of PEFT that this package does not compute (by
      name), and for all tensors that are missing, unexpected or misshapen, in one message.
  """
  folder = Path(folder).expanduser()
  values = peft_config.read(folder / CONFIG)
  tensors, note = peft_file.read(folder)
  if config is None:
    if note is None:
      raise ValueError(f"{folder}: PEFT does not store the base's architecture: give its config")
    config = presets.architecture(**note.architecture)
  family, file = config.family, str(folder)
  plain = plain_names(file, tensors.items(), family)
  _check_task(values, family, folder)
  labels = note.num_labels if note else getattr(config, 'num_labels', 0)
  classifies = values['task_type'] == 'SEQ_CLS' or any(x.startswith('score.lora_') for x in plain)
  task, labels = task_of(file, config, plain, labels, classifies)
  base = base_layout(config, task, labels)
  if note is None and base.is_tied:
    _check_words(values, base, plain, file)
  plain = _own_tensors(plain, base, file)
  inside = peft_matching.names_inside(base, tensors, file)
  sites = _sites(values, base, inside)
  saved = _saved_leaves(values, base, sites, inside, plain, file)
  sources = {path: names.source(config, path, base.shapes[path]) for path in saved}
  expected = {source.name: source.shape for source in sources.values()}
  expected |= peft_factors.shapes(values, base, sites, file)
  check(
    file,
    expected,
    plain,
    _hint(expected, plain, base, sites),
  )
  is_vera = values['peft_type'] == 'VERA'
  pairs = {
    module: Pair(
      *(np.asarray(plain[key], np.float32).T for key in peft_factors.keys(module, base, is_vera)),
      alpha=alpha,
      rslora=values['use_rslora'],
      magnitude=plain.get(f'{module}.{peft_factors.LENGTHS}'),
    )
    for module, (_, alpha) in sites.items()
  }
  parts = Parts(
    _pairs_by_path(pairs, base, note, folder),
    {path: source.extract(plain[source.name]) for path, source in sources.items()},
    peft_factors.shared(values, base, sites, plain) if is_vera else None,
  )
  adapter = from_parts(
    parts,
    base,
    task=task,
    name=values['base_model_name_or_path'],
    options=peft_factors.options(values),
    method=options_from_json(note.method) if note else None,
  )
  if note is None:
    return adapter
  return adapter._replace(fingerprint=note.fingerprint, label_names=tuple(note.label_names))


def _fuse(pairs: Mapping[str, Pair], base: BaseLayout) -> Pair:
  """One module's pair, from those of its paths."""
  thirds = {names.third(base.model.config, path): pair for path, pair in pairs.items()}
  fusable = {third: pair for third, pair in thirds.items() if third is not None}
  if any(pair.a.ndim == 1 for pair in fusable.values()):
    raise ValueError(
      f'{peft_factors.FUSED}, here each has its own. Export a merged model, or a plain LoRA.'
    )
  return fused.fuse(fusable) if fusable else thirds[None]


def _pairs_by_path(
  pairs: Mapping[str, Pair], base: BaseLayout, note: Note | None, folder: Path
) -> dict[str, Pair]:
  """Pairs by path from pairs by module: with a note, exactly those that were exported."""
  found: dict[str, Pair] = {}
  for module, pair in pairs.items():
    paths = base.modules[module]
    if note is None:
      thirds = fused.separate(pair) if len(paths) == 3 else {0: pair}
      found |= {path: thirds[i] for i, path in enumerate(paths)}
      continue
    try:
      noted = _noted_pairs(pair, paths, note)
    except ValueError as error:
      raise ValueError(f'{folder / TENSORS}: {module}: {error}') from error
    scale = max((part.scale for part in noted.values()), default=0.0)
    if not math.isclose(scale, pair.scale, rel_tol=1e-9):
      raise ValueError(
        f'{folder}: {module} has the scale {pair.scale} by {CONFIG}, and {scale} by the header of '
        f'{TENSORS}: one was changed after the export. Export it again, or save it by PEFT.'
      )
    found |= noted
  return found


def _noted_pairs(pair: Pair, paths: Sequence[str], note: Note) -> dict[str, Pair]:
  """The pairs by path that were exported as the pair of one module."""
  adapted = {i: path for i, path in enumerate(paths) if path in note.ranks}
  alphas = {i: alpha_of(note.method, path) for i, path in adapted.items()}
  if len(paths) == 3:
    ranks = {i: note.ranks[path] for i, path in adapted.items()}
    thirds = fused.unfuse(pair, alphas, ranks)
  else:
    thirds = {i: pair._replace(alpha=alpha) for i, alpha in alphas.items()}
  return {adapted[i]: part for i, part in thirds.items()}


def _sites(
  values: PeftConfig, base: BaseLayout, inside: Mapping[str, str]
) -> dict[str, peft_matching.Factors]:
  """Rank and alpha of the modules with factors, by plain name."""
  linear = {
    name
    for plain, name in inside.items()
    if any(f'{path}/kernel' in base.shapes for path in base.modules.get(plain, ()))
  }
  values = peft_matching.resolve(values, sorted(linear), base.model.config.family)
  found = {
    plain: peft_matching.factors(values, inside[plain]) for plain in base.modules if plain in inside
  }
  return {plain: factors for plain, factors in found.items() if factors is not None}


def _saved_leaves(
  values: PeftConfig,
  base: BaseLayout,
  sites: Iterable[str],
  inside: Mapping[str, str],
  plain: Mapping[str, np.ndarray],
  file: str,
) -> list[str]:
  """Paths of the leaves that are trained and saved besides factors, by a config and the tensors."""
  config = base.model.config
  module = lambda path: names.module_name(config, path.rsplit('/', 1)[0])
  source = lambda path: names.source(config, path, base.shapes[path]).name
  own = [path for path in base.shapes if module(path) in inside]
  saved = []
  for key in values['modules_to_save'] or ():
    covered = [path for path in own if peft_matching.saves(key, inside[module(path)])]
    if any(source(path) in plain for path in covered):
      saved += covered
    elif covered:  # So does PEFT, for example after a conversion of PiSSA to LoRA.
      logging.warning(
        '%s: modules_to_save lists %r, the tensors lack it: it stays as the base has it.', file, key
      )
  if values['bias'] == 'all':
    saved += [path for path in all_biases(base) if path in own]
  elif values['bias'] == 'lora_only':
    saved += biases(base, [path for name in sites for path in base.modules[name]])
  # PEFT loads all that a file holds. It saves the words, too, if their number was changed.
  saved += [path for path in own if source(path) in plain]
  return list(dict.fromkeys(saved))


def _modules_to_save(parts: Parts, base: BaseLayout) -> list[str]:
  """Names for PEFT's field: the head's modules by their own names, any others by full names."""
  config = base.model.config
  whole = [path for path in whole_modules(base, parts.leaves) if path not in parts.pairs]
  head = [pattern.removesuffix('/.*') for pattern in base.model.head]
  inside = lambda module, part: f'{module}/'.startswith(f'{part}/')
  complete = [
    part
    for part in head
    if all(m in whole for m in {path.rsplit('/', 1)[0] for path in base.shapes} if inside(m, part))
  ]
  others = [module for module in whole if not any(inside(module, part) for part in complete)]
  named = [names.full_name(names.module_name(config, m), config.family) for m in others]
  return [*complete, *dict.fromkeys(named)]


def _task_type(adapter: Adapter, parts: Parts, base: BaseLayout) -> str | None:
  """PEFT's name of the task; SEQ_CLS makes PEFT save the classifier, so only if it is trained."""
  if adapter.task == 'lm':
    return 'CAUSAL_LM'
  saved = _modules_to_save(parts, base)
  return 'SEQ_CLS' if any(head in saved for head in peft_config.HEADS) else None


def _check_task(values: PeftConfig, family: str, folder: Path) -> None:
  kinds = {'lm': 'CAUSAL_LM', 'classification': 'SEQ_CLS'}
  fitting = [kinds[task] for task in presets.TASKS[family] if task in kinds]
  if values['task_type'] not in (None, *fitting, 'FEATURE_EXTRACTION'):
    raise ValueError(
      f'{folder}: task_type={values["task_type"]!r}; of a {family} model only '
      f'{", ".join(fitting)} and FEATURE_EXTRACTION are read'
    )


def _own_tensors(
  plain: dict[str, np.ndarray], base: BaseLayout, file: str
) -> dict[str, np.ndarray]:
  """The tensors of modules that this package's model has, with a warning that names the others.

  Raises:
    ValueError: if an output layer that is tied to the table of words is not that table.
  """
  config = base.model.config
  table = f'{names.module_name(config, "embeddings/word")}.weight'
  output, words = plain.get('lm_head.weight'), plain.get(table)
  is_tied = 'lm_head/kernel' not in base.shapes
  if is_tied and output is not None and not (words is not None and np.array_equal(output, words)):
    raise ValueError(
      f'{file}: holds a lm_head.weight that is not {table}, to which the output layer of the base '
      'is tied'
    )
  known = tuple(f'{names.module_name(config, path.rsplit("/", 1)[0])}.' for path in base.shapes)
  unused = [
    name
    for name in plain
    if re.fullmatch(names.UNUSED[config.family], name) and not name.startswith(known)
  ]
  if unused:
    logging.warning('%s: tensors that this model does not use: %s', file, listed(unused))
  return {name: x for name, x in plain.items() if name not in unused}


def _check_words(
  values: PeftConfig, base: BaseLayout, plain: Mapping[str, np.ndarray], file: str
) -> None:
  """Refuses words that were trained as a copy, beside an output layer that kept the base's."""
  module = names.module_name(base.model.config, 'embeddings/word')
  full = names.full_name(module, base.model.config.family)
  saved = any(peft_matching.saves(key, full) for key in values['modules_to_save'] or ())
  if saved and f'{module}.weight' in plain and 'lm_head.weight' not in plain:
    raise ValueError(
      f'{file}: modules_to_save trained a copy of {module}, beside which PEFT keeps the tied '
      "output layer; this package's model has one table for both. Merge the adapter in PEFT "
      '(merge_and_unload), and load the merged model.'
    )


def _hint(
  expected: Mapping[str, errors.Shape],
  plain: Mapping[str, np.ndarray],
  base: BaseLayout,
  sites: object,
) -> str:
  words = names.source(base.model.config, WORDS, base.shapes[WORDS]).name
  table = words.removesuffix('.weight')
  if base.is_tied and any(name.startswith(f'{table}.lora_') for name in plain):
    return f'. Factors on {table} are not read: in PEFT the output layer, tied to it, lacks them.'
  if words in plain and words in expected and plain[words].shape != expected[words]:
    rows = len(plain[words])
    return (
      f'. The adapter was trained on {rows} word embeddings, the base has {expected[words][0]}: '
      f'resize the base (model.resize_token_embeddings({rows})), save it, and name that folder.'
    )
  return '' if sites else '. target_modules matches no module of this base: is it the right one?'
