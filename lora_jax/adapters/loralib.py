"""Adapters as loralib saves them, the files of the paper's release among them.

    adapter = loralib.read('roberta_base_lora_mnli.bin', config)     # alpha by the file's name
    adapter = loralib.read('mine.bin', config, alpha=16)

A file is a PyTorch state dict of factors and all other trained parameters, by the names of the
authors' models. It does not store the scale. In GPT-2, `c_attn` holds the factors of its adapted
thirds one above the other: rows 0 to r - 1 of A and 0 to d - 1 of B are those of the first third.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lora_jax.adapters.adapter import Adapter, check_values
from lora_jax.adapters.parts import (
  BaseLayout,
  Pair,
  Parts,
  base_layout,
  check,
  factor_shapes,
  from_parts,
  plain_names,
  task_of,
  to_parts,
  whole_modules,
)
from lora_jax.errors import listed
from lora_jax.models import presets
from lora_jax.pretrained import names, pytorch, pytorch_writer


class Release(NamedTuple):
  """Facts about the release's files that are not stored in them."""

  base: str
  rank: int
  alpha: float


RELEASES = {  # By file name. The alphas are those of the scripts; the paper's table has others.
  r'roberta_base_lora_\w+\.bin': Release('roberta-base', 8, 16),
  r'roberta_large_lora_\w+\.bin': Release('roberta-large', 8, 16),
  r'deberta_v2_xxlarge_lora_\w+\.bin': Release('deberta-v2-xxlarge', 16, 32),
  r'gpt2_md_lora_\w+\.pt': Release('gpt2-medium', 4, 32),
  r'gpt2_lg_lora_\w+\.pt': Release('gpt2-large', 4, 32),
}
STATE, ROOT = 'model_state_dict', 'module.'  # The outer key and the prefix in GPT-2's files.
PARTS = ('query', 'key', 'value')
# In the authors' snapshot of September 2021 GPT-2's q and v are separate: 1 is A, 2 is B.
SNAPSHOT = re.compile(r'(h\.\d+\.attn)\.([qv])_proj_adapter([12])\.weight')


def read(
  path: str | Path,
  config: presets.Config,
  *,
  alpha: float | None = None,
  fused: Sequence[str] | None = None,
  base_name: str = '',
) -> Adapter:
  """Reads a file of loralib's `lora_state_dict`, or of the release.

  Args:
    path: path of the file; nothing in it is executed (`pytorch.Tensors`).
    config: the base's architecture.
    alpha: the scale is alpha / r; None takes that of `RELEASES` for the file's name.
    fused: the adapted ones of query, key and value in GPT-2's `c_attn`, in this order. None means
      query and value if there are two, as in the release.
    base_name: the base's name; '' takes that of `RELEASES`.

  Raises:
    ValueError: if the scale is not known; if the file is damaged or holds anything but tensors; for
      all tensors that are missing, unexpected or misshapen, in one message.
  """
  path = Path(path).expanduser()
  release = _release(path.name)
  family, where = config.family, str(path)
  stored = pytorch.Tensors(path, STATE if family == 'gpt2' else None, or_whole=True)
  check_values(stored, where)
  named = ((name.removeprefix(ROOT), x) for name, x in stored.items())
  tensors = plain_names(where, named, family)
  if family == 'gpt2':
    tensors = _from_snapshot(tensors)
  task, labels = task_of(where, config, tensors, getattr(config, 'num_labels', 0))
  base = base_layout(config, task, labels)
  sites = _sites(where, base, tensors, fused)
  ranks = {module: _rows(tensors[f'{module}.lora_A']) // len(sites[module]) for module in sites}
  if empty := [module for module, rank in ranks.items() if not rank]:
    raise ValueError(f'{where}: factors without a rank: {listed(empty)}')
  sources = {p: names.source(config, p, shape) for p, shape in base.shapes.items()}
  leaves = {p: source for p, source in sources.items() if source.name in tensors}
  whole = {p.rsplit('/', 1)[0] for p in leaves if not p.endswith('/bias')}
  leaves |= {p: source for p, source in sources.items() if p.rsplit('/', 1)[0] in whole}
  expected = {source.name: source.shape for source in leaves.values()}
  for module, paths in sites.items():
    shapes = factor_shapes(base, paths, (len(paths) * ranks[module], ranks[module]))
    expected |= dict(zip((f'{module}.lora_A', f'{module}.lora_B'), shapes))
  check(where, expected, tensors)
  if both := [module for module in sites if f'{module}.weight' in expected]:
    raise ValueError(
      f'{path}: both factors and the whole weight of {listed(both)}. Is this a state dict of the '
      'full model? Save only what loralib.lora_state_dict returns, and the head.'
    )
  alpha = _alpha(path, alpha, release, ranks)
  pairs = {}
  for module, paths in sites.items():
    stacked = (np.split(tensors[f'{module}.lora_{x}'], len(paths)) for x in 'AB')
    for p, a, b in zip(paths, *stacked):
      pairs[p] = Pair(np.asarray(a, np.float32).T, np.asarray(b, np.float32).T, alpha)
  parts = Parts(pairs, {p: source.extract(tensors[source.name]) for p, source in leaves.items()})
  name = base_name or (release.base if release else '')
  return from_parts(parts, base, task=task, name=name)


def write(adapter: Adapter, path: str | Path, *, snapshot: bool = False) -> float:
  """Writes an adapter by the names of the authors' models, GPT-2's with their outer key.

  Args:
    adapter: an adapter of the method `lora`.
    path: path of the file.
    snapshot: use the names of GPT-2's factors in the authors' snapshot of September 2021.

  Returns:
    Alpha, which the file does not store: a reader needs it.

  Raises:
    ValueError: if loralib cannot hold the adapter: another method than LoRA (see `to_parts`),
      DoRA, modules whose alphas differ, thirds of a `c_attn` whose ranks differ; for a snapshot of
      anything but factors of GPT-2's query and value.
  """
  path = Path(path).expanduser()
  parts, base = to_parts(adapter, 'loralib')
  if any(pair.magnitude is not None for pair in parts.pairs.values()):
    raise ValueError(
      "loralib has no DoRA: without the lengths of the weights' columns the factors are another "
      'adapter. Export to PEFT, a plain LoRA (--as_lora), or a merged model.'
    )
  whole_modules(base, parts.leaves)
  family = adapter.config.family
  alphas = {round(pair.scale * pair.rank, 9) for pair in parts.pairs.values()}
  if len(alphas) > 1:
    raise ValueError(
      f'loralib stores no scale, so all modules need one alpha; the adapter has {sorted(alphas)}. '
      'Export to PEFT, or a merged model.'
    )
  tensors = {}
  for module, paths in base.modules.items():
    pairs = [parts.pairs[p] for p in paths if p in parts.pairs]
    if len({pair.rank for pair in pairs}) > 1:
      ranks = [pair.rank for pair in pairs]
      raise ValueError(f'{module}: loralib has one rank for all of it; the adapter has {ranks}')
    if pairs:
      name = names.full_name(module, family)
      tensors[f'{name}.lora_A'] = np.concatenate([pair.a.T for pair in pairs])
      tensors[f'{name}.lora_B'] = np.concatenate([pair.b.T for pair in pairs])
  if snapshot:
    tensors = _to_snapshot(tensors, parts, base)
  tensors |= names.to_tensors(adapter.config, parts.leaves)
  tensors = {name: np.asarray(x, np.float32) for name, x in tensors.items()}
  if family == 'gpt2':
    pytorch_writer.write(path, {ROOT + name: x for name, x in tensors.items()}, STATE)
  else:
    pytorch_writer.write(path, tensors)
  return alphas.pop()


def _sites(
  where: str, base: BaseLayout, tensors: Mapping[str, np.ndarray], fused: Sequence[str] | None
) -> dict[str, list[str]]:
  """The adapted paths of each module with factors."""
  if fused is not None and (not fused or [p for p in PARTS if p in fused] != list(fused)):
    raise ValueError(f'fused={tuple(fused)}: expected some of {PARTS}, in this order')
  sites = {}
  for module, paths in base.modules.items():
    if f'{module}.lora_A' not in tensors:
      continue
    sites[module] = paths
    if len(paths) > 1:
      rows = _rows(tensors.get(f'{module}.lora_B', np.empty(0)))
      count = rows // base.shapes[f'{paths[0]}/kernel'][1]
      adapted = fused or {2: ('query', 'value'), 3: PARTS}.get(count)
      if adapted is None:
        raise ValueError(
          f'{where}: {module} has factors for {count} of {", ".join(PARTS)}, and the file does not '
          "store for which: give fused=('value',), for example."
        )
      sites[module] = [path for path in paths if path.rsplit('/', 1)[1] in adapted]
  if not sites:
    raise ValueError(
      f'{where}: no factors of a {base.model.config.family} model. It holds {listed([*tensors])}'
    )
  return sites


def _rows(x: np.ndarray) -> int:
  return x.shape[0] if x.ndim == 2 else 0


def _from_snapshot(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The tensors with those of a snapshot stacked as in the release, query above value."""
  stacked = dict(tensors)
  for name in tensors:
    found = SNAPSHOT.fullmatch(name)
    if found and found[2] == 'q' and (other := name.replace('.q_proj', '.v_proj')) in stacked:
      both = [stacked.pop(name), stacked.pop(other)]
      stacked[f'{found[1]}.c_attn.lora_{"AB"[int(found[3]) - 1]}'] = np.concatenate(both)
  return stacked


def _to_snapshot(
  tensors: Mapping[str, np.ndarray], parts: Parts, base: BaseLayout
) -> dict[str, np.ndarray]:
  """The factors of `c_attn` by the names of the snapshot."""
  sides = {site.rsplit('/', 1)[1] for site in parts.pairs}
  if base.model.config.family != 'gpt2' or sides != {'query', 'value'}:
    raise ValueError(
      f"snapshot=True needs factors of GPT-2's query and value alone, found those of a "
      f'{base.model.config.family} model on {", ".join(sorted(sides))}'
    )
  apart = {}
  for name, x in tensors.items():
    module, side = name.split('.c_attn.lora_')
    for third, half in zip('qv', np.split(x, 2)):
      apart[f'{module}.{third}_proj_adapter{"AB".index(side) + 1}.weight'] = half
  return apart


def _release(name: str) -> Release | None:
  found = (release for pattern, release in RELEASES.items() if re.fullmatch(pattern, name))
  return next(found, None)


def _alpha(
  path: Path, alpha: float | None, release: Release | None, ranks: Mapping[str, int]
) -> float:
  if alpha is not None:
    if not alpha > 0:
      raise ValueError(f'alpha={alpha}: expected a positive number; the scale is alpha / r')
    return float(alpha)
  if release is None:
    raise ValueError(
      f'{path} stores no scale, and by its name it is not a file of the release: give alpha (scale '
      '= alpha / r). In the release it is 16 for RoBERTa, and 32 for DeBERTa and GPT-2.'
    )
  if set(ranks.values()) != {release.rank}:
    raise ValueError(
      f'{path}: ranks {sorted(set(ranks.values()))}; the release has {release.rank}. If this is '
      'another file of that name, give alpha.'
    )
  return float(release.alpha)
