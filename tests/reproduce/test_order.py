"""What comes next: in order, what fits the budget, is of the shard and has what it needs."""

from lora_jax.reproduce import order
from lora_jax.reproduce.units import Unit
from tests.reproduce.toys import entry

ALL = (0, 1)
FOREVER = float('inf')


def name(entries, shard=ALL, passed=(), left=FOREVER):
  found = order.following(entries, shard, passed, left)
  return found and found.unit.name


def test_the_first_that_is_left_comes_next():
  entries = [entry('a', finished=True), entry('b', why_not='x'), entry('c', waits='y'), entry('d')]
  assert name(entries) == 'd'
  assert name(entries, passed={'d'}) is None
  assert name([entry('a', finished=True)]) is None


def test_a_budget_starts_what_ends_in_time():
  entries = [entry('long', seconds=100.0), entry('short', seconds=20.0)]
  assert name(entries, left=200.0) == 'long'
  assert name(entries, left=50.0) == 'short'
  assert name(entries, left=10.0) is None
  assert name([entry('unknown', seconds=None)], left=1.0) == 'unknown'


def test_shards_share_the_parts_and_leave_none():
  entries = [entry('a1', part='a'), entry('b'), entry('c'), entry('a2', part='a', seed=1)]
  parts = [{x.unit.name for x in order.of_shard(entries, (i, 2))} for i in range(2)]
  assert parts == [{'a1', 'a2', 'c'}, {'b'}]
  assert name(entries, shard=(1, 2)) == 'b'
  finished = [one._replace(states={}) for one in entries]
  assert order.of_shard(finished, (1, 2))[0].unit.name == 'b'  # Whatever is finished.


def test_a_run_waits_for_the_one_that_it_starts_from():
  rte = entry('rte', starts_from='mnli')
  assert name([rte, entry('mnli')]) == 'mnli'
  assert name([rte, entry('mnli', finished=True)]) == 'rte'


def test_units_are_in_the_order_of_their_seeds():
  units = [Unit('a', 'a', seed=1), Unit('b', 'b'), Unit('c', 'c', seed=1), Unit('d', 'd')]
  assert ''.join(unit.name for unit in order.in_order(units)) == 'bdac'
