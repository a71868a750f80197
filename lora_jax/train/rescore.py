"""The texts of a finished run, scored again: on a machine that has what the training one had not.

METEOR and the tokens of CIDEr and ROUGE-L need Java, which a machine with an accelerator often
lacks. The run is then finished without them, and its `result.json` says which are missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lora_jax import errors, provenance
from lora_jax.train import generate, job, paths, rundir, writers


def rescore(workdir: str | Path) -> dict[str, Any]:
  """Scores the texts that a run decoded at its end, and puts the scores into its `result.json`.

  The references are read from the run's data again, which must be as it was.

  Args:
    workdir: the run directory.

  Returns:
    what `result.json` has under `generated`: the scores, and how they were computed.

  Raises:
    ValueError: if the folder holds no finished run, or one that decoded no texts; if the file of
      its texts is missing or has not as many lines as the split has contexts; if the run has scores
      that this machine cannot compute, which would be lost.
  """
  folder = paths.path_of(workdir)
  config, found = rundir.read_config(folder), rundir.read_result(folder)
  if found is None or 'generated' not in found:
    reason = 'is not finished: train it to its end, by the command that began it'
    if found is not None:
      reason = 'decoded no texts at its end (config.decode.final): take experiments.generate'
    raise ValueError(f'{workdir} {reason}')
  split = found['generated']['split']
  with provenance.checked(folder):
    task = job.load_task(config, (split,), limit=1)
  prompts, path = task.prompts[split], rundir.predictions(folder, split)
  try:
    texts = path.read_text(encoding='utf-8').splitlines()
  except FileNotFoundError as error:
    raise ValueError(f'{path} is missing: decode again with experiments.generate') from error
  if len(texts) != len(prompts.ids):
    raise ValueError(
      f'{path}: {len(texts)} texts for the {len(prompts.ids)} contexts of {split}. Decode again: '
      'experiments.generate'
    )
  scored = generate.score(task, prompts, texts)
  if lost := [name for name in scored['unavailable'] if name in found['generated']['scores']]:
    raise ValueError(
      f'{folder / "result.json"} has {errors.listed(lost)}, which this machine cannot compute: '
      f'{scored["unavailable"][lost[0]]}. The file is left as it is'
    )
  generated = {**found['generated'], **scored}
  writers.write_json(folder / 'result.json', {**found, 'generated': generated})
  return generated
