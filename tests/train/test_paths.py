"""Paths on the disk and on buckets."""

import re

import pytest

from lora_jax.train import paths


def test_paths_on_the_disk_are_absolute(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  assert paths.path_of('runs/a') == tmp_path / 'runs' / 'a'
  assert '~' not in str(paths.path_of('~/a'))
  assert not paths.on_bucket(tmp_path) and paths.on_bucket('gs://bucket/run')


@pytest.mark.parametrize('name', ['s3://bucket/run', 'az://bucket/run'])
def test_other_buckets_are_refused(name):
  with pytest.raises(ValueError, match=rf'{name}: .*gs://bucket/run'):
    paths.path_of(name)


@pytest.mark.parametrize('name', ['gs:/bucket/run', 's3:/bucket/run'])
def test_one_slash_is_no_folder(name, monkeypatch, tmp_path):
  """It was one, of the machine that trained, and the results were gone with it."""
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=rf'{name}: expected .*gs://bucket/run with two slashes'):
    paths.path_of(name)
  assert paths.path_of(f'./{name}') == tmp_path / name


def test_a_new_file_that_cannot_be_written_is_named_and_not_left(tmp_path, full_disk):
  with pytest.raises(OSError, match=f'while writing .*{re.escape(str(tmp_path))}/a'):
    paths.create(tmp_path / 'a', 'text')
  assert not list(tmp_path.iterdir())
