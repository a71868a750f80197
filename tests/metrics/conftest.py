"""A stand-in for Java."""

import psutil
import pytest


@pytest.fixture
def fake_java(tmp_path, monkeypatch):
  """Puts a shell script in Java's place; '' for none at all."""

  def install(script):
    monkeypatch.setenv('PATH', str(tmp_path))
    if script:
      (tmp_path / 'java').write_text(f'#!/bin/sh\n{script}\n')
      (tmp_path / 'java').chmod(0o755)

  before = psutil.Process().children()
  yield install
  assert psutil.Process().children() == before
