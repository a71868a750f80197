"""Adapters in any format, this project's, PEFT's or loralib's, from the disk or the hub."""

from __future__ import annotations

from pathlib import Path

from lora_jax.adapters import hub, loralib, native, peft
from lora_jax.adapters.adapter import Adapter
from lora_jax.errors import listed
from lora_jax.models import presets

HUB = 'hub:'
LORALIB = ('.bin', '.pt', '.pth')


def read_adapter(
  source: str | Path, *, config: presets.Config | None = None, alpha: float | None = None
) -> Adapter:
  """Reads an adapter, whose files show its format.

  Args:
    source: a folder (this project's format or PEFT's), a file of loralib, or `hub:user/name`, which
      `@revision` may follow.
    config: the base's architecture, which files of loralib and PEFT do not store (files that this
      package wrote in PEFT's format do).
    alpha: alpha of a loralib file, which stores no scale; None takes that of the release's file of
      this name.

  Raises:
    ValueError: if the format is unknown, or as the format's reader does.
    FileNotFoundError: if there is nothing at `source`.
  """
  name = str(source)
  if name.startswith(HUB):
    repository, _, revision = name.removeprefix(HUB).partition('@')
    path = hub.pull(repository, revision=revision or None)
  else:
    path = Path(source).expanduser()
  kind, path = _format_of(path)
  if kind != 'loralib' and alpha is not None:
    raise ValueError(f'{source}: alpha={alpha} is for loralib files; this format stores its scale')
  if kind == 'adapter':
    return native.load_adapter(path)
  if kind == 'peft':
    return peft.read(path, config)
  if config is None:
    raise ValueError(f'{source}: loralib does not store its base: name the base (--base)')
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
