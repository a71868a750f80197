"""The page of plans has the claims of section 4.2 beside what was worked out."""

from lora_jax.report import document
from lora_jax.report.pages import practical_claims

TRIED = [
  {'topology': 'v5e:4x4', 'bytes': {'spare': -(2**30)}, 'compiler': 'libtpu'},
  {'topology': 'v5e:4x8', 'bytes': {'spare': 2**30}, 'compiler': 'libtpu'},
]
CLAIM = {
  'trained': 1_000_000, 'total': 100_000_000, 'state_bytes': 10**12, 'gradient_bytes': 10**9,
  'checkpoint_bytes': 2 * 10**6, 'tasks_bytes': 10**11, 'paper_trained': '1.0M',
}  # fmt: skip
PLAN = {
  'experiment': 'plan',
  'commit': 'c' * 40,
  'batch_size': 8,
  'length': 2048,
  'tasks': 100,
  'claims': {'lora': CLAIM | {'v5e': {'fits': True, 'tried': TRIED}}, 'full': CLAIM},
}
MEASURED = {
  'experiment': 'plan',
  'device': '1 x cpu',
  'cpu': '2 x x',
  'commit': 'd' * 40,
  'plan': {'model': 'm', 'method': 'lora', 'batch_size': 4, 'length': 64, 'dtype': 'float32'},
  'measured': {'predicted': 2**30, 'measured': 2**31, 'ratio': 0.5},
}


def test_a_plan_says_what_is_trained_kept_and_stored():
  (page,) = practical_claims.pages({'p.json': PLAN}, {})
  text = document.markdown(page)
  assert '1.2 TB to 350 GB' in text.replace('\n', ' ') and 'compiled by libtpu' in text
  row = '1,000,000 | 1.0M | 1.0000% | 1,000.0 | 1.000 | 2.0 | 100.0 |'
  assert f'| lora | {row} v5e:4x8 (1.00) | - |' in text
  assert f'| full | {row} - | - |' in text
  none = PLAN | {'claims': {'lora': CLAIM | {'v5e': {'fits': False, 'tried': TRIED[:1]}}}}
  assert 'none up to v5e:4x4' in document.markdown(practical_claims.pages({'p.json': none}, {})[0])


def test_a_measured_plan_stands_beside_its_peak():
  (page,) = practical_claims.pages({}, {'m.json': MEASURED})
  line = '| m | lora | 4 x 64 | float32 | 1.000 | 2.000 | 0.500 | 1 x cpu (2 x x) | dddddddddd |'
  assert line in document.markdown(page)
  assert practical_claims.pages({}, {}) == []
