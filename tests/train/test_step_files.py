"""The host's part of a checkpoint, and the digests of the rest."""

import json

import pytest

from lora_jax.train import step_files


@pytest.fixture
def folder(tmp_path):
  """A checkpoint's directory with `step.json`."""
  (tmp_path / 'trainable' / 'd').mkdir(parents=True)
  (tmp_path / 'trainable' / 'd' / 'data').write_bytes(bytes(3_000_000))
  (tmp_path / '_CHECKPOINT_METADATA').write_text('{}')
  step_files.write(tmp_path, json.dumps({'history': [{'loss': float('nan')}]}), 0.25, 7)
  return tmp_path


def test_what_is_written_is_read(folder):
  step = step_files.verify(folder)
  assert step == step_files.read(folder)._replace(progress=step.progress)
  assert (step.score, step.best, list(step.digests)) == (0.25, 7, ['trainable/d/data'])
  assert str(step.progress['history'][0]['loss']) == 'nan'


def test_every_byte_counts(folder):
  path = folder / 'step.json'
  text = path.read_text()
  for old, new in ((': 0.25', ': 0.75'), (': 7', ': 8'), ('NaN', '1.0'), ('d/data', 'd/date')):
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(step_files.Damaged, match=r'step\.json is not what was written'):
      step_files.read(folder)
  for damaged in ('', '[]', '{}', text[:-1], '{"content": 1, "sha256": 2}'):
    path.write_text(damaged)
    with pytest.raises(step_files.Damaged, match=r'step\.json'):
      step_files.read(folder)
  path.unlink()
  with pytest.raises(step_files.Damaged, match=r'step\.json cannot be read: No such file'):
    step_files.read(folder)


def test_a_disk_that_cannot_read_is_damage_and_a_missing_permission_is_none(folder, monkeypatch):
  path = folder / 'trainable' / 'd' / 'data'

  def fail(error):
    def digest(path):
      raise error

    monkeypatch.setattr(step_files, 'digest', digest)

  fail(OSError(5, 'Input/output error'))
  with pytest.raises(step_files.Damaged, match=f'{path} cannot be read: Input/output error'):
    step_files.verify(folder)
  fail(PermissionError(13, 'Permission denied'))
  with pytest.raises(PermissionError, match=f'{path} cannot be read'):
    step_files.verify(folder)
