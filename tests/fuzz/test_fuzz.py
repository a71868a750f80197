"""A few changed files of each reader; `python -m tests.fuzz` reads as many as one has time for."""

import json
import os
import random
import struct

import numpy as np
import pytest
from safetensors.numpy import save

from tests.fuzz import mutations, run
from tests.fuzz.readers import READERS, Reader

COUNT = 60


@pytest.mark.parametrize('name', READERS)
def test_changed_files_are_read_or_refused_by_name(name):
  report = run.fuzz(READERS[name], COUNT, seed=1)
  assert report.wrong == []
  assert report.read + report.refused == COUNT
  assert report.refused or name in ('pickle', 'vocab.txt')


@pytest.mark.parametrize(
  'read, problem',
  [
    (lambda folder: (folder / 'a').read_text(), None),
    (lambda folder: int((folder / 'a').read_text()), 'unnamed: ValueError'),
    (lambda folder: {}[(folder / 'a').read_text()], 'unnamed: KeyError'),
    (lambda folder: os.system('true'), 'executed'),
    (lambda folder: (folder / 'b').write_text(''), 'executed'),
    (lambda folder: [os.getpid() for _ in iter(int, 1)], 'hang'),
    (lambda folder: np.ones(3 << 27).sum(), 'memory'),
  ],
)
def test_what_is_wrong_with_a_reader_is_seen(read, problem, tmp_path, monkeypatch):
  monkeypatch.setattr(run, 'SECONDS', 1)
  (tmp_path / 'a').write_text('text')
  found = run.watched(lambda: read(tmp_path), ('a.txt',))
  assert found is None if problem is None else problem in found


def test_mutations_keep_a_format_and_repeat_with_their_seed():
  content = save({'x': np.ones(3, np.float32)})
  changed = [mutations.mutated(content, random.Random(seed)) for seed in range(200)]
  assert changed == [mutations.mutated(content, random.Random(seed)) for seed in range(200)]
  assert len(set(changed)) > 150
  headers = []
  for one in changed:
    length = struct.unpack('<Q', one[:8].ljust(8, b'\0'))[0]
    try:
      headers.append(json.loads(one[8 : 8 + length]))
    except (ValueError, OverflowError):
      continue
  assert 20 < len(headers) < 180


def test_a_reader_that_refuses_its_own_file_is_an_error():
  broken = Reader(lambda folder: (folder / 'a').write_text('x'), lambda _: int('x'), ('a',))
  with pytest.raises(ValueError, match='invalid literal'):
    run.fuzz(broken, 1, seed=0)
