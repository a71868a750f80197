"""Export of a run's adapter, or of an adapter, to any format; a finished run's has a model card."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
from absl import logging

from lora_jax import errors, files, methods, quantization, tree
from lora_jax.adapters import adapter as adapters
from lora_jax.adapters import formats, loralib, merging, native, peft, peft_config, plain_lora
from lora_jax.adapters.adapter import Adapter
from lora_jax.adapters.fingerprint import fingerprint
from lora_jax.data import tokenizer_files
from lora_jax.models import presets
from lora_jax.pretrained import huggingface
from lora_jax.train import check, job, model_card, paths, run_adapter, rundir

FORMATS = ('adapter', 'peft', 'loralib', 'merged')
LARGEST_ERROR = 0.1  # Of an update that a plain LoRA replaces, before a warning.
ROUNDED = """\
These files hold the plain LoRA of rank {rank} that is nearest to the update which the run trained.
It misses {error:.2g} of it (Frobenius norms); the scores above are those of the run.
"""


class LoadedBase(NamedTuple):
  """A base model with its parameters, and the path of its tokenizer."""

  model: nn.Module
  params: tree.Params
  tokenizer: Path


def export_run(
  workdir: str | Path,
  out: str | Path,
  *,
  format: str = 'adapter',
  which: str = 'best',
  name: str = '',
  base_name: str = '',
  dtype: str = '',
  rank: int = 0,
) -> dict[str, object]:
  """Writes the adapter of a run as a new folder, whole or not at all. It needs no data of the run.

  Args:
    workdir: the run directory. If the run has ended, a model card is written from its result.
    out: the new folder.
    format: `adapter` (this project's), `peft`, `loralib`, or `merged`: a Hugging Face model.
    which: the checkpoint, `best` or `last`.
    name: the model's name in its card; '' takes that of the folder.
    base_name: the base's name on the hub, for other tools; '' takes the preset's, or the run's.
    dtype: dtype of the weights of a merged model, and of no other format; '' is that of the run. In
      bfloat16 small updates are lost; the report's `merge_error` says how much.
    rank: if not 0, the plain LoRA of this rank that is nearest to the adapter is written instead
      (`plain_lora.nearest`); the report's `lora_error` says what it misses of the update.

  Returns:
    A report of what was written.

  Raises:
    FileExistsError: if there is something at `out`.
    ValueError: as `run_adapter.from_run`; if the format cannot hold the adapter, or the run's
      result is damaged; for a dtype of another format.
  """
  out = files.check_new(out)
  _check_format(format, dtype)
  result = _result(paths.path_of(workdir))  # Before the work.
  work, trained = run_adapter.load_run(workdir, which)
  adapter = run_adapter.from_job(work, trained)
  base = None
  if format == 'merged' or rank:
    tokenizer = job.tokenizer_path(work.config)
    base = LoadedBase(work.model, run_adapter.base_params(work), tokenizer)
  card = None
  if result:
    card = functools.partial(
      model_card.card,
      result,
      task=adapter.task,
      num_labels=adapter.num_labels,
      name=name or out.name,
      format=format,
      which=which,
      base=base_name,
    )
  else:
    logging.warning('%s has no result.json: the run has not ended, so no model card', workdir)
  written = _write(out, format, adapter, base, base_name, dtype, rank, card)
  return written | ({'changed_inputs': list(work.changed)} if work.changed else {})


def export_adapter(
  source: str | Path,
  out: str | Path,
  *,
  format: str = 'adapter',
  base: str = '',
  alpha: float | None = None,
  other_base: bool = False,
  base_name: str = '',
  dtype: str = '',
  rank: int = 0,
) -> dict[str, object]:
  """Writes an adapter in another format, as a new folder, whole or not at all.

  Args:
    source: an adapter in any format, as `formats.load_adapter` takes it.
    base: its base, a preset or a folder. Merging needs it, and so do formats that do not store the
      base's architecture. A folder is checked to be the adapter's own base; a preset is only
      fetched to merge into it.
    alpha: alpha of a loralib file.
    other_base: accept a base that is not the adapter's own.
    out, format, base_name, dtype, rank: as for `export_run`; the dtype '' is float32.

  Raises:
    FileExistsError: if there is something at `out`.
    FileNotFoundError, ValueError: as `formats.load_adapter` and `huggingface.load_model`; for
      another base than the adapter's; if the format cannot hold the adapter, or has no dtype.
  """
  out = files.check_new(out)
  _check_format(format, dtype)
  if base and rundir.is_run(base):
    raise ValueError(
      f'the base {base} is a run directory. Export that run as a merged model (--workdir={base} '
      '--format=merged), and name the new folder as the base.'
    )
  known = base in presets.PRESETS and format != 'merged'
  folder = huggingface.locate(base) if base and not known else None
  config = presets.PRESETS[base].config if known else None
  adapter = formats.load_adapter(
    source, config=huggingface.read_config(folder) if folder else config, alpha=alpha
  )
  if adapters.does_nothing(adapter):
    logging.warning('%s: every factor B is zero: the adapter does nothing to its base.', source)
  if folder is None:
    if format == 'merged':
      raise ValueError(f'merging {source} needs its base: name it (--base)')
    adapter = adapter._replace(base=base or adapter.base)
    return _write(out, format, adapter, None, base_name, '', rank)
  labels = None if adapter.task == 'lm' else adapter.num_labels
  # An adapter without a head of its own needs that of the base.
  head = tuple(f'{name}/' for name in peft_config.HEADS)
  brings = adapter.task == 'lm' or any(
    path.startswith(head) for path in tree.paths(adapter.trainable)
  )
  model, params = huggingface.load_model(
    folder,
    task=adapter.task,
    num_labels=labels,
    fresh_head=brings,
    label_names=None if brings else (),
  )
  if not brings:
    adapter = adapter._replace(label_names=huggingface.label_names_of(folder))
  if not other_base:
    adapters.check_base(adapter, model, params)
  adapter = adapter._replace(base=base, fingerprint=fingerprint(params, model.config))
  return _write(out, format, adapter, LoadedBase(model, params, folder), base_name, dtype, rank)


def _result(workdir: Path) -> model_card.Result | None:
  """What a model card shows of a run; None for a run that has not ended.

  Raises:
    ValueError: if the run's result is damaged or of an older version, naming it.
  """
  try:
    result = check.read_result(workdir)
    if result and (missing := [key for key in model_card.KEYS if key not in result]):
      raise ValueError(f'{workdir / "result.json"} has no {errors.listed(missing)}')
  except ValueError as error:
    raise ValueError(
      f'{error}. Remove the file: without it the export has no model card, and the command that '
      'trained the run writes it anew'
    ) from error
  return result


def _check_format(format: str, dtype: str) -> None:
  if format not in FORMATS:
    raise ValueError(f'unknown format {format!r}. {errors.nearest(format, FORMATS)}')
  if dtype and format != 'merged':
    raise ValueError(
      f'dtype={dtype} is that of a merged model, and format={format}: adapters are float32. Leave '
      "it out, or export with format='merged'."
    )


def _write(
  out: Path,
  format: str,
  adapter: Adapter,
  base: LoadedBase | None,
  base_name: str,
  dtype: str,
  rank: int,
  card: Callable[..., str] | None = None,
) -> dict[str, object]:
  """Writes the folder, merged if a base is needed, and returns the report."""
  noted: dict[str, object] = {}
  remark = ''
  if rank:
    found = plain_lora.nearest(adapter, rank, base.params if base else None)
    adapter = found.adapter
    worst = max(found.errors, key=lambda path: found.errors[path])
    noted['lora_error'] = {
      'overall': found.error,
      'worst': found.errors[worst],
      'worst_matrix': worst,
    }
    remark = '\n' + ROUNDED.format(rank=rank, error=found.error)
    if found.error > LARGEST_ERROR:
      logging.warning(
        '%s: a plain LoRA of rank %d misses %.2g of the update. Take a larger --rank, or export a '
        'merged model.',
        out,
        rank,
        found.error,
      )
  with files.new_folder(out) as part:
    if format == 'adapter':
      native.save_adapter(part, adapter)
    if format == 'peft':
      peft.write(adapter, part, base_name=base_name or _public_name(adapter.base))
      noted['warnings'] = peft.vllm_limits(part)
      for line in noted['warnings']:
        logging.warning('%s: %s', out, line)
    if format == 'loralib':
      file = 'lora.pt' if adapter.task == 'lm' else 'lora.bin'
      noted['alpha'] = loralib.write(adapter, part / file)  # The file does not store it.
    if format == 'merged' and base is not None:
      noted['merge_error'] = _write_merged(part, adapter, base, dtype, out)
    if card:
      text = card(alpha=noted.get('alpha')) + remark
      (part / 'README.md').write_text(text, encoding='utf-8')
  return {
    'out': str(out),
    'format': format,
    'files': sorted(path.name for path in out.iterdir()),
    'base': adapter.base,
    'task': adapter.task,
    'method': dict(adapter.method),
    **noted,
    'parameters': _count(adapter),
  }


def _count(adapter: Adapter) -> int:
  """The number of trained parameters: without those that a method only keeps."""
  fixed = methods.make(**adapter.method).fixed
  leaves = tree.flatten(adapter.trainable)
  return tree.count({path: x for path, x in leaves.items() if not fixed(path)})


def _write_merged(folder: Path, adapter: Adapter, base: LoadedBase, dtype: str, out: Path) -> float:
  """Writes the merged model and its base's tokenizer; returns the relative error of the update."""
  params = base.params
  if dtype:
    declared = tree.flatten(presets.abstract_params(base.model.clone(param_dtype=dtype)))
    leaves = tree.flatten(params)
    cast = lambda path, x: quantization.declared_as(x, declared[path].dtype)
    params = tree.unflatten({path: cast(path, x) for path, x in leaves.items()})
  method, frozen, trainable = adapters.attach(adapter, base.model, params, other_base=True)
  merged, error = merging.merge(method.merge, frozen, trainable, str(out))
  ids = tokenizer_files.special_ids(base.tokenizer) if presets.is_decoder(adapter.config) else {}
  huggingface.save_model(folder, base.model, merged, label_names=adapter.label_names, token_ids=ids)
  for name, content in tokenizer_files.read_files(base.tokenizer).items():
    if name != 'config.json':  # The model's own, which save_model has written.
      (folder / name).write_bytes(content)
  return error


def _public_name(name: str) -> str:
  """A base's name in other tools: a preset's repository, or the given name of a folder."""
  return presets.PRESETS[name].repository if name in presets.PRESETS else name
