"""The overrides that a config file yields, with the argument of the command or without one."""

import pytest

from lora_jax.sweep.overrides import parse_shard, read_overrides


def test_a_sweep_is_given_the_argument_if_it_takes_one(tmp_path):
  plain, with_arg, none = (tmp_path / name for name in ('plain.py', 'arg.py', 'none.py'))
  plain.write_text("RATES = (1, 2)\ndef sweep():\n  yield from ({'optim.lr': r} for r in RATES)\n")
  with_arg.write_text("def sweep(arg=None):\n  yield {'task': arg}\n")
  none.write_text('x = 1\n')
  assert list(read_overrides(str(plain), 'x')) == [{'optim.lr': 1}, {'optim.lr': 2}]
  assert list(read_overrides(str(with_arg), 'mrpc')) == [{'task': 'mrpc'}]
  assert list(read_overrides(str(with_arg), '')) == [{'task': None}]
  with pytest.raises(ValueError, match=r'none.py has no sweep\(\)'):
    read_overrides(str(none), '')


def test_the_seeds_of_a_cell():
  runs = list(read_overrides('configs/glue.py', 'task=mrpc'))
  assert [run['seed'] for run in runs] == list(range(5))


@pytest.mark.parametrize('text', ['2/2', '1', 'a/b', '-1/2', '1/0'])
def test_a_shard_is_one_of_n(text):
  with pytest.raises(ValueError, match='expected i/n'):
    parse_shard(text)
  assert parse_shard('1/2') == (1, 2)
