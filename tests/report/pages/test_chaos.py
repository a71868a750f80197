"""The page of disturbed runs says how often what happened, and names each problem."""

from lora_jax.report import document
from lora_jax.report.pages import chaos

TRIAL = {
  'experiment': 'chaos', 'device': '1 x cpu', 'cpu': '2 x A', 'hosts': 1, 'versions': {},
  'commit': 'abc', 'seconds': 6.0, 'finished': 3, 'problems': ['differs after SIGKILL in history'],
  'rows': {'SIGKILL': {'times': 4, 'too_late': 1, 'unexpected': 0}},
}  # fmt: skip


def test_what_happened_and_what_came_of_it():
  (page,) = chaos.pages({'chaos.json': TRIAL})
  text = document.markdown(page)
  assert '| SIGKILL | 4 | 1 | 0 |' in text
  assert '3 runs finished in the end; 1 differ' in text
  assert 'differs after SIGKILL in history' in text
  assert page.ours == '1 problems in 4'
  assert chaos.pages({}) == []
