"""metrics.jsonl survives kills and resumes, files are whole or untouched, the display fits."""

import io
import json
import math
import os
import struct

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from lora_jax.train import writers


class Terminal(io.StringIO):
  def isatty(self):
    return True


def records(folder):
  def refuse(text):
    raise ValueError(f'{text} is not JSON')

  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line, parse_constant=refuse) for line in lines]


def events(folder):
  """(step, tag or 'start', value) of all events, files by name as TensorBoard reads them."""
  found = []
  for path in sorted((folder / 'tensorboard').iterdir()):
    data, at = path.read_bytes(), 0
    while at < len(data):  # TFRecord: length, its CRC, the event, its CRC.
      (length,) = struct.unpack_from('<Q', data, at)
      event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
      at += 16 + length
      if event.HasField('session_log'):
        found.append((event.step, 'start', None))
      found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
  return found


def write_run(folder, steps, **options):
  with writers.Writer(folder, total_steps=10, stream=io.StringIO(), **options) as writer:
    for step in steps:
      writer.write(step, {'loss': step / 8})


def history(last):
  """The records of a run up to a step."""
  return [{'step': step, 'loss': step / 8} for step in range(1, last + 1)]


def test_a_record_is_in_the_file_when_write_returns(tmp_path):
  with writers.Writer(tmp_path / 'new/run', total_steps=9, stream=io.StringIO()) as writer:
    writer.write(3, {'train/loss': 0.5, 'lr': np.float32(0.25)})
    assert records(tmp_path / 'new/run') == [{'step': 3, 'train/loss': 0.5, 'lr': 0.25}]


def test_a_resumed_run_takes_back_the_steps_that_come_again(tmp_path):
  write_run(tmp_path, range(1, 7))
  write_run(tmp_path, range(5, 9), resume_step=4, entries=history(4))
  assert records(tmp_path) == [{'step': step, 'loss': step / 8} for step in range(1, 9)]
  shown = {}  # As TensorBoard reads it: a start drops its own step and later ones.
  for step, tag, value in events(tmp_path):
    if tag == 'start':
      shown = {s: v for s, v in shown.items() if s < step}
    else:
      assert step not in shown
      shown[step] = value
  assert shown == {step: step / 8 for step in range(1, 9)}


def test_a_run_from_the_start_leaves_nothing_of_an_older_one(tmp_path):
  write_run(tmp_path, range(0, 4))
  write_run(tmp_path, range(0, 2))
  assert [record['step'] for record in records(tmp_path)] == [0, 1]
  assert events(tmp_path)[-3][:2] == (0, 'start')


@pytest.mark.parametrize(
  'found', [None, '', '[]', '{"step": 1}\n{"step": 2, "lo', '7\n{"loss": 1}\n']
)
def test_the_records_of_a_resumed_run_are_those_of_its_history(tmp_path, found):
  if found is not None:
    (tmp_path / 'metrics.jsonl').write_text(found)
  write_run(tmp_path, [5], resume_step=4, entries=history(4))
  assert records(tmp_path) == history(5)


def test_json_holds_what_is_not_finite_and_float_reads_it_back(tmp_path):
  values = {'a': math.nan, 'b': [math.inf, np.float32(-np.inf)], 'c': (np.arange(2), None, True)}
  writers.write_json(tmp_path / 'x.json', values)
  text = (tmp_path / 'x.json').read_text()
  read = json.loads(text, parse_constant=lambda name: pytest.fail(f'{name} is not JSON'))
  assert read == {'a': 'nan', 'b': ['inf', '-inf'], 'c': [[0, 1], None, True]}
  assert [float(read['b'][0]), float(read['b'][1])] == [math.inf, -math.inf]
  assert math.isnan(float(read['a']))


def test_json_has_a_list_of_numbers_on_one_line(tmp_path):
  values = {
    'map': [[0.5, -1e-9, 2], [3]],
    'empty': [],
    'mixed': [1, 'a[\n 1,\n 2\n]'],
    'n': [{'m': 1}],
  }
  path = tmp_path / 'new' / 'folder' / 'x.json'  # Is made.
  writers.write_json(path, values)
  text = path.read_text()
  assert json.loads(text) == values
  assert '    [0.5, -1e-09, 2],\n    [3]\n' in text


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
  path = tmp_path / 'result.json'
  writers.write_json(path, {'score': 1})
  with pytest.raises(TypeError):
    writers.write_json(path, {'score': object()})

  def full(*_):
    raise OSError('No space left on device')

  monkeypatch.setattr(os, 'fsync', full)
  with pytest.raises(OSError, match='No space'):
    writers.write_json(path, {'score': 2})
  assert json.loads(path.read_text()) == {'score': 1}
  assert [file.name for file in tmp_path.iterdir()] == ['result.json']


def test_without_a_terminal_there_is_one_line_for_each_evaluation(tmp_path, monkeypatch):
  now = [0.0]
  monkeypatch.setattr(writers.time, 'monotonic', lambda: now[0])
  stream = io.StringIO()
  with writers.Writer(tmp_path, total_steps=10, stream=stream) as writer:
    for step in range(1, 6):
      now[0] += 1e-4  # Updates that were waited for together have no rate.
      writer.progress(step, 0.5, 8 * step)
    writer.show(4, {'dev/accuracy': 0.5})
    assert 'examples/s' not in stream.getvalue()
    stream.truncate(stream.seek(0))
    now[0] += 1
    writer.progress(5, 0.5, 40)
    writer.show(5, {'dev/accuracy': 0.75})
    writer.show(10, {'dev/accuracy': 0.8})
  first, last = stream.getvalue().splitlines()
  assert first.startswith('step 5/10, dev/accuracy 0.7500, loss 0.5000, ')
  assert 'examples/s, ' in first and first.endswith(' left')
  assert last.startswith('step 10/10, dev/accuracy 0.8000') and 'left' not in last


def test_without_a_terminal_a_long_epoch_is_not_silent(tmp_path, monkeypatch):
  now = [0.0]
  monkeypatch.setattr(writers.time, 'monotonic', lambda: now[0])
  stream = io.StringIO()
  with writers.Writer(tmp_path, total_steps=100, stream=stream) as writer:
    for step in range(1, 10):
      now[0] = 20.0 * step
      writer.progress(step, 2.5, 32 * step)
  assert stream.getvalue().splitlines() == [
    f'step {step}/100, loss 2.5000, 1.6 examples/s, {left} left'
    for step, left in ((3, '32:20'), (6, '31:20'), (9, '30:20'))
  ]


def test_a_terminal_shows_loss_rate_and_time_left(tmp_path, monkeypatch):
  now = iter(range(1000))
  monkeypatch.setattr(writers.time, 'monotonic', lambda: float(next(now)))
  stream = Terminal()
  with writers.Writer(tmp_path, total_steps=10, resume_step=4, stream=stream) as writer:
    writer.progress(5, 0.5, 1000)  # Of which the steps before the resumption saw 900 or so.
    writer.progress(6, 0.25, 1048)
    writer.show(6, {'dev/loss': 1.5})
  text = stream.getvalue()
  assert '6/10' in text and ' 60% ' in text
  assert 'loss 0.2500, 48.0 examples/s' in text
  assert 'step 6/10, dev/loss 1.5000\n' in text


def test_other_hosts_write_nothing(tmp_path):
  stream = io.StringIO()
  with writers.Writer(tmp_path / 'run', total_steps=3, active=False, stream=stream) as writer:
    writer.write(1, {'loss': 1.0})
    writer.progress(1, 1.0, 8)
    writer.show(1, {'loss': 1.0})
  assert list(tmp_path.iterdir()) == [] and stream.getvalue() == ''
