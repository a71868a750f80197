"""The page of benchmarks asks for an accelerator until a sweep was timed on one."""

from lora_jax.report import document
from lora_jax.report.pages import speed


def test_the_page_of_speed_asks_for_an_accelerator_until_a_sweep_was_timed_on_one():
  rows = {
    'own batches': {'seconds': 2.0, 'seconds_ratio': 4.0},
    'one run': {'seconds': 0.5, 'seconds_ratio': 1},
  }
  found = {
    'experiment': 'bench',
    'device': '1 x cpu',
    'cpu': '2',
    'commit': 'b' * 40,
    'rounds': 3,
    'measured': {'sweep of 16 runs, roberta-base 16x64': rows},
  }
  text = lambda found: document.markdown(speed.pages({'bench.json': found})[0])
  assert '--parts=sweep --model=roberta-base' in text(found)
  on_gpu = text(found | {'device': '1 x NVIDIA H200'})
  assert '--parts=sweep' not in on_gpu and '| own batches | 2 | 4 |' in on_gpu
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
