"""The page of benchmarks has each table with its units, and says what was skipped."""

from lora_jax.report import document
from lora_jax.report.pages import speed


def test_figures_have_their_units():
  rows = {'full': {'seconds': 2.0, 'flops': 3e12, 'peak_bytes': 2**20, 'seconds_ratio': 4.0}}
  found = {
    'experiment': 'bench', 'device': '1 x cpu', 'cpu': '2', 'commit': 'b' * 40, 'rounds': 3,
    'measured': {'step': rows},
  }  # fmt: skip
  text = document.markdown(speed.pages({'bench.json': found})[0])
  assert '|  | seconds | TFLOP | peak memory, MiB | seconds, ratio |' in text
  assert '| full | 2 | 3 | 1 | 4 |' in text
  assert 'TFLOP is what XLA counts' in text
  assert speed.pages({}) == []


def test_a_table_says_what_it_means_and_what_was_skipped():
  found = {
    'experiment': 'bench', 'device': '1 x cpu', 'cpu': '2', 'commit': 'b' * 40, 'rounds': 3,
    'measured': {'mfu': {'xla': {'seconds': 2.0}, 'full': {'seconds': 3.0, 'share': 0.5}}},
    'notes': {'mfu': 'Higher is better.'}, 'skipped': {'mfu': {'cudnn': 'no GPU'}},
    'peers': {'peft': '0.21.0'},
  }  # fmt: skip
  text = ' '.join(document.markdown(speed.pages({'bench.json': found})[0]).split())
  assert '| xla | 2 | - |' in text and '| full | 3 | 0.5 |' in text
  assert 'Higher is better. cudnn was skipped: no GPU.' in text and 'Beside peft 0.21.0.' in text
