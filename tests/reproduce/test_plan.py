"""The plan says of every run what it is, and of all what is left."""

from lora_jax.reproduce import plan, states, timing
from tests.reproduce.toys import MACHINE, entry


def test_the_plan_has_a_line_for_each_run():
  done = entry('done', finished=True)
  done = done._replace(states={'done': states.State(True, 'finished', 90.0)})
  left = entry('left', seconds=120.0)._replace(
    states={'left/rank=2,seed=0': states.State(False, 'interrupted at step 8')},
    estimates={'left/rank=2,seed=0': timing.Estimate(120.0, 'measured')},
  )
  others = [entry('never', why_not='no biases'), entry('later', waits='the best rate', seed=1)]
  never, later = (one._replace(states={}, estimates={}) for one in others)
  header, *lines, last = plan.lines([done, left, never, later], MACHINE)
  assert header.split() == ['row', 'seed', 'state', 'minutes', 'estimate']
  assert [line.split('  ')[0] for line in lines] == ['done', 'left: rank=2', 'never', 'later']
  assert lines[0].endswith('1.5      took') and lines[1].split()[-2:] == ['2.0', 'measured']
  assert 'interrupted at step 8' in lines[1] and 'not run: no biases' in lines[2]
  assert 'waits for the best rate' in lines[3]
  assert last == (
    '1 of 2 finished; 1 left, and 1 after them: about 2 minutes on 1 x toy. This is an estimate.'
  )


def test_an_unknown_length_is_said():
  lines = list(plan.lines([entry('a', seconds=None)], MACHINE))
  assert lines[1].split() == ['a', '0', 'to', 'run', '?', 'computed']
  assert '1 of unknown length' in lines[-1]
