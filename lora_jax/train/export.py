"""What a run trained, or an adapter, written in any of the formats; with a card, if a run ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from lora_jax import files, tree
from lora_jax.adapters import adapter as adapters
from lora_jax.adapters import formats, loralib, model_card, native, peft
from lora_jax.adapters.adapter import Adapter
from lora_jax.adapters.fingerprint import fingerprint
from lora_jax.data import tokenizer_files
from lora_jax.models import presets
from lora_jax.pretrained import huggingface
from lora_jax.train import job, paths, rundir
from lora_jax.train import run_adapter as runs

FORMATS = ('adapter', 'peft', 'loralib', 'merged')


class Base(NamedTuple):
  """What an adapter goes on; where it is not needed, its name and nothing more."""

  name: str
  model: Any = None
  params: Mapping[str, Any] | None = None
  tokenizer: Path | None = None


def export_run(
  workdir: str | Path,
  out: str | Path,
  *,
  format: str = 'adapter',
  which: str = 'best',
  name: str = '',
  base_name: str = '',
) -> dict[str, Any]:
  """Writes what a run trained as a new folder, whole or not at all. The run's data is not needed.

  Args:
    workdir: the run directory. If the run has ended, a model card is written from its result.
    out: the folder.
    format: `adapter` (this project's), `peft`, `loralib`, or `merged`: a Hugging Face model.
    which: `best` or `last` checkpoint.
    name: of the model in its card; '' is that of the folder.
    base_name: the base's name on the hub, for other tools; '' is a preset's, or as the run has it.

  Returns:
    What was written, for a report.

  Raises:
    FileExistsError: if there is something at `out`.
    ValueError: as `adapters.from_run`, or if the format cannot hold what was trained.
  """
  out = files.check_new(out)
  work, trained = runs.load_run(workdir, which)
  adapter = runs.of_job(work, trained)
  tokenizer = job.tokenizer_path(work.config) if format == 'merged' else None
  base = Base(work.config.model.name, work.model, runs.base_of(work), tokenizer)
  result = paths.path_of(workdir) / 'result.json'
  text = ''
  if result.exists():
    text = model_card.card(
      json.loads(result.read_text()),
      task=adapter.task,
      num_labels=adapter.num_labels,
      name=name or out.name,
      format=format,
      which=which,
      base=base_name,
    )
  else:
    logging.warning('no %s: the run has not ended, so no model card is written', result)
  return _write(out, format, adapter, base, base_name, text)


def export_adapter(
  source: str | Path,
  out: str | Path,
  *,
  format: str = 'adapter',
  base: str = '',
  alpha: float | None = None,
  other_base: bool = False,
  base_name: str = '',
) -> dict[str, Any]:
  """Writes an adapter in another format, as a new folder, whole or not at all.

  Args:
    source: an adapter in any format, as `formats.read_adapter` takes it.
    base: its base, a preset or a folder: needed to merge, and to read formats that do not say its
      architecture. A folder is checked to be the adapter's own base; a preset is fetched only to be
      merged into.
    alpha: of a loralib file.
    other_base: take a base that is not the adapter's own.
    out, format, base_name: as for `export_run`.

  Raises:
    FileExistsError: if there is something at `out`.
    FileNotFoundError, ValueError: as `formats.read_adapter` and `huggingface.load_model`; if the
      base is another, or the format cannot hold the adapter.
  """
  out = files.check_new(out)
  if base and rundir.is_run(base):
    raise ValueError(
      f'the base {base} is a run directory. Export that run as merged (--workdir={base} '
      '--format=merged), and name the folder that this writes.'
    )
  known = base in presets.PRESETS and format != 'merged'
  folder = huggingface.locate(base) if base and not known else None
  config = presets.PRESETS[base].config if known else None
  adapter = formats.read_adapter(
    source, config=huggingface.read_config(folder) if folder else config, alpha=alpha
  )
  if adapters.does_nothing(adapter):
    logging.warning('%s: every factor B is zero: it does nothing to its base.', source)
  if folder is None:
    if format == 'merged':
      raise ValueError(f'{source} is merged into its base, which is not named (--base)')
    return _write(out, format, adapter, Base(base or adapter.base), base_name)
  labels = {} if adapter.task == 'lm' else {'num_labels': adapter.num_labels}
  model, params = huggingface.load_model(folder, task=adapter.task, fresh_head=True, **labels)
  if not other_base:
    adapters.check_base(adapter, model, params)
  adapter = adapter._replace(base=base, fingerprint=fingerprint(params, model.config))
  return _write(out, format, adapter, Base(base, model, params, folder), base_name)


def _write(
  out: Path, format: str, adapter: Adapter, base: Base, base_name: str, text: str = ''
) -> dict[str, Any]:
  if format not in FORMATS:
    raise ValueError(f'format={format!r}: {presets.near(format, FORMATS)}')
  noted = {}
  with files.new_folder(out) as part:
    if format == 'adapter':
      native.save_adapter(part, adapter)
    elif format == 'peft':
      peft.write(adapter, part, base_name=base_name or _repository(base.name))
    elif format == 'loralib':
      file = 'lora.pt' if adapter.task == 'lm' else 'lora.bin'
      noted['alpha'] = loralib.write(adapter, part / file)  # The file does not store it.
    else:
      method, frozen, trainable = adapters.attach(adapter, base.model, base.params, other_base=True)
      huggingface.save_model(part, base.model, method.merge(frozen, trainable))
      for name, content in tokenizer_files.read_files(base.tokenizer).items():
        if name != 'config.json':  # The model's, which is written.
          (part / name).write_bytes(content)
    if text:
      (part / 'README.md').write_text(text, encoding='utf-8')
  return {
    'out': str(out),
    'format': format,
    'files': sorted(path.name for path in out.iterdir()),
    'base': base.name,
    'task': adapter.task,
    'method': dict(adapter.method),
    **noted,
    'parameters': tree.count(adapter.trainable),
  }


def _repository(name: str) -> str:
  """What other tools know a base by: a preset's repository, or the folder as it is named here."""
  return presets.PRESETS[name].repository if name in presets.PRESETS else name
