"""Adapters in any format, this project's, PEFT's or loralib's, from the disk or the hub."""

from __future__ import annotations

from pathlib import Path

import flax.linen as nn

from lora_jax import files, tree
from lora_jax.adapters import hub, loralib, native, peft
from lora_jax.adapters.adapter import Adapter, check_base
from lora_jax.errors import listed
from lora_jax.models import presets

HUB = 'hub:'
LORALIB = ('.bin', '.pt', '.pth')


def load_adapter(
  source: str | Path,
  *,
  model: nn.Module | None = None,
  params: tree.Params | None = None,
  config: presets.Config | None = None,
  alpha: float | None = None,
  other_base: bool = False,
) -> Adapter:
  """Reads an adapter, whose files show its format.

  Args:
    source: a folder (this project's format or PEFT's), a file of loralib, or `hub:user/name`, which
      `@revision` may follow.
    model, params: the base. With `params` it is checked to be the one that the adapter was trained
      on, as `attach` checks it.
    config: the base's architecture, which files of loralib and PEFT do not store (files that this
      package wrote in PEFT's format do); None takes that of `model`.
    alpha: alpha of a loralib file, which stores no scale; None takes that of the release's file of
      this name.
    other_base: accept another base of the same shape.

  Raises:
    ValueError: if the format is unknown; for another base, with the differences; or as the format's
      reader does.
    FileNotFoundError: if there is nothing at `source`.
  """
  name = str(source)
  if name.startswith(HUB):
    repository, _, revision = name.removeprefix(HUB).partition('@')
    path = hub.pull(repository, revision=revision or None)
  else:
    path = files.on_disk(source)
  kind, path = _format_of(path)
  if kind != 'loralib' and alpha is not None:
    raise ValueError(f'{source}: alpha={alpha} is for loralib files; this format stores its scale')
  config = getattr(model, 'config', None) if config is None else config
  adapter = _read(kind, path, config, alpha)
  if model is not None and params is not None and not other_base:
    check_base(adapter, model, params)
  return adapter


def _read(kind: str, path: Path, config: presets.Config | None, alpha: float | None) -> Adapter:
  if kind == 'adapter':
    return native.read(path)
  if kind == 'peft':
    return peft.read(path, config)
  if config is None:
    raise ValueError(
      f'{path}: loralib does not store its base: name the base (load_adapter(..., model=model), or '
      '--base)'
    )
  return loralib.read(path, config, alpha=alpha)


def _format_of(path: Path) -> tuple[str, Path]:
  """`adapter`, `peft` or `loralib`, and the folder or file to read."""
  if path.is_file():
    if path.suffix in LORALIB:
      return 'loralib', path
    hint = ' Name its folder instead.' if path.suffix in ('.json', '.safetensors') else ''
    raise ValueError(f'{path}: a loralib file ends in {" or ".join(LORALIB)}.{hint}')
  if not path.is_dir():
    raise FileNotFoundError(f'{path}: there is no such folder or file')
  if (path / native.DESCRIPTION).is_file():
    return 'adapter', path
  if (path / peft.CONFIG).is_file():
    return 'peft', path
  files = [file for file in sorted(path.iterdir()) if file.suffix in LORALIB]
  if len(files) == 1 and not (path / 'config.json').exists():
    return 'loralib', files[0]
  if (path / 'checkpoints').is_dir():
    raise ValueError(f'{path} is a run directory, not an adapter (--workdir={path})')
  names = sorted(file.name for file in path.iterdir())
  raise ValueError(
    f'{path} is not an adapter: expected {native.DESCRIPTION} (this project), {peft.CONFIG} (PEFT) '
    f'or one {" or ".join(LORALIB)} file (loralib). It holds: {listed(names) or "nothing"}.'
  )
