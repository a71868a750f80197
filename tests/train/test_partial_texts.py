"""Texts that a killed decoding has finished."""

import json

import numpy as np
import pytest

from lora_jax.generation import Generated, Settings
from lora_jax.train import partial_texts
from lora_jax.train.partial_texts import PartialTexts

SETTINGS = Settings(beams=2)
PARAMS = ({'layer': {'kernel': np.ones((2, 3), np.float32)}}, {'lora_a': np.zeros(4, np.float32)})
PROMPTS = [np.array([1, 2], np.int32), np.array([3], np.int32)]
TEXTS = {1: Generated(np.array([5, 6, 7], np.int32), float(np.float32(-0.1)))}


@pytest.fixture
def path(tmp_path, monkeypatch):
  """The file of all texts, beside which one of two texts is kept after 3 seconds."""
  now = [10.0]
  monkeypatch.setattr(partial_texts.time, 'monotonic', lambda: now[0])
  kept = PartialTexts(tmp_path / 'texts.txt')
  assert kept.read(SETTINGS, PARAMS, PROMPTS) == {}
  now[0] += 3
  kept.keep(TEXTS, 2)
  assert not list(tmp_path.iterdir())  # The last writing was not long ago.
  monkeypatch.setattr(partial_texts, 'SECONDS', 3)
  kept.keep(TEXTS, 2)
  return tmp_path / 'texts.txt'


def test_another_process_reads_the_same_texts(path):
  kept = PartialTexts(path)
  found = kept.read(SETTINGS, PARAMS, PROMPTS)
  assert found.keys() == TEXTS.keys() and kept.seconds == 3
  assert found[1].score == TEXTS[1].score and found[1].tokens.dtype == np.int32
  assert found[1].tokens.tolist() == [5, 6, 7]
  kept.remove()
  assert not list(path.parent.iterdir())


def test_the_last_text_is_kept_at_once_and_seconds_add_up(path, monkeypatch):
  kept = PartialTexts(path)
  kept.read(SETTINGS, PARAMS, PROMPTS)
  kept.keep(TEXTS | {0: TEXTS[1]}, 2)
  again = PartialTexts(path)
  assert sorted(again.read(SETTINGS, PARAMS, PROMPTS)) == [0, 1] and again.seconds == 3


@pytest.mark.parametrize('part', ['settings', 'frozen', 'trainable', 'prompts'])
def test_texts_of_another_decoding_are_not_read(path, part):
  settings, (frozen, trainable), prompts = SETTINGS, PARAMS, PROMPTS
  if part == 'settings':
    settings = Settings(beams=3)
  elif part == 'frozen':
    frozen = {'layer': {'kernel': np.full((2, 3), 1.5, np.float32)}}
  elif part == 'trainable':
    trainable = {'lora_a': np.full(4, 0.5, np.float32)}
  else:
    prompts = [PROMPTS[0], np.array([4], np.int32)]
  assert PartialTexts(path).read(settings, (frozen, trainable), prompts) == {}


@pytest.mark.parametrize('change', ['cut off', 'another form'])
def test_a_damaged_file_is_named_and_not_read(path, caplog, change):
  file = path.with_name('texts.txt.partial')
  text = file.read_text()
  other = json.dumps(json.loads(text) | {'texts': {'1': 'text'}})
  file.write_text(text[:-9] if change == 'cut off' else other)
  assert PartialTexts(path).read(SETTINGS, PARAMS, PROMPTS) == {}
  assert f'{file} is damaged' in caplog.text


def test_texts_that_are_there_are_new_only_while_they_are_scored(tmp_path):
  kept = PartialTexts(tmp_path / 'texts.txt')
  kept.check_new()
  (tmp_path / 'texts.txt').write_text('a\n')
  with pytest.raises(FileExistsError, match=r'texts\.txt exists already\. Name a new file'):
    kept.check_new()
  (tmp_path / 'texts.txt.partial').write_text('{}')  # A process was killed while it scored them.
  kept.check_new()


@pytest.mark.parametrize('process', [0, 1])
def test_several_processes_leave_no_file_of_a_single_one(path, monkeypatch, process):
  """Texts that they had finished were then replaced, as those whose scoring was cut off."""
  monkeypatch.setattr(partial_texts.jax, 'process_count', lambda: 2)
  monkeypatch.setattr(partial_texts.jax, 'process_index', lambda: process)
  path.write_text('a\n')
  kept = PartialTexts(path)
  assert kept.read(SETTINGS, PARAMS, PROMPTS) == {}
  kept.remove()
  assert path.with_name('texts.txt.partial').exists() == (process == 1)
  if process == 0:
    with pytest.raises(FileExistsError):
      kept.check_new()
