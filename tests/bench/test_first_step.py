"""Processes that are measured with an empty cache and with a warm one."""

import os
import sys
from pathlib import Path

import pytest

from lora_jax.bench import first_step


def test_each_variant_has_a_cache_of_its_own_first_empty_then_warm():
  seen = []

  def variant(name):
    def measure(cache):
      seen.append((name, cache, os.listdir(cache)))
      Path(cache, name).touch()
      return {'seconds': float(len(seen))}

    return measure

  found = first_step.cold_and_warm({'a': variant('a'), 'b': variant('b')})
  assert list(found.rows) == ['a, cold', 'a, warm', 'b, cold', 'b, warm']
  assert [(name, files) for name, _, files in seen] == [
    ('a', []), ('a', ['a']), ('b', []), ('b', ['b']),
  ]  # fmt: skip
  assert seen[0][1] == seen[1][1] != seen[2][1]
  assert not Path(seen[0][1]).exists()


def test_a_process_compiles_into_the_folder_and_keeps_every_program(tmp_path):
  code = (
    'import os, pathlib; pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"], "made").write_text('
    'os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"])'
  )
  assert first_step.run_child(['-c', code], tmp_path) > 0
  assert (tmp_path / 'made').read_text() == '0'
  with pytest.raises(RuntimeError, match='ended with 1: no device'):
    first_step.run_child(['-c', 'import sys; sys.exit("no device")'], tmp_path)


def test_the_processes_are_of_this_python(tmp_path):
  code = f'import sys; assert sys.executable == {sys.executable!r}'
  first_step.run_child(['-c', code], tmp_path)
