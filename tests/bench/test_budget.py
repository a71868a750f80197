"""A measurement in sections: errors, kills, and the end of the time."""

import json
import sys

import pytest

from lora_jax.bench import budget
from lora_jax.bench.budget import Section


class Time:
  """A clock that sections move."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


def test_an_error_ends_one_section_and_the_time_ends_the_rest():
  clock, saved, begun = Time(), [], []

  def section(name, seconds, error=None):
    def run(left):
      begun.append((name, left))
      clock.now += seconds
      yield {'device': 'gpu', 'measured': {name: {'row': {'seconds': seconds}}}}
      if error:
        raise error

    return Section(name, run, least=20)

  sections = [section('a', 30), section('b', 40, RuntimeError('lost')), section('c', 15)]
  sections += [section('d', 1), section('e', 1)._replace(least=5, most=10)]
  report = budget.run(sections, 100, lambda found: saved.append(json.dumps(found)), clock)
  assert begun == [('a', 100), ('b', 70), ('c', 30), ('e', 10)]
  assert report['measured']['b'] == {'row': {'seconds': 40}}  # What it had found before.
  assert report['sections']['b'] == {'seconds': 40, 'error': 'RuntimeError: lost'}
  assert report['sections']['d'] == {'seconds': 0, 'not_begun': '15 s were left, it needs 20'}
  assert list(report['measured']) == ['a', 'b', 'c', 'e'] and report['device'] == 'gpu'
  assert list(json.loads(saved[0])['measured']) == ['a']  # Saved as soon as it was found.
  assert json.loads(saved[-1]) == report


def test_a_child_that_fails_or_takes_too_long_keeps_its_output():
  code = (
    'import sys, time; print("{}", flush=True); time.sleep(float(sys.argv[1])); sys.exit("bad")'
  )
  with pytest.raises(budget.ChildError, match='ended with 1: bad') as failed:
    budget.child([sys.executable, '-c', code, '0'], 60)
  assert failed.value.output == '{}\n'
  with pytest.raises(budget.ChildError, match=r'was ended after 1 s') as late:
    budget.child([sys.executable, '-c', code, '60'], 1)
  assert late.value.output in ('{}\n', '')


def test_a_child_has_the_variables_that_it_is_given():
  code = 'import os; print(os.environ["LORA_JAX_BENCH"])'
  assert budget.child([sys.executable, '-c', code], 60, {'LORA_JAX_BENCH': 'x'}) == 'x\n'
