"""The README's Python runs as it stands, and its commands name files that exist."""

import re
from pathlib import Path

import numpy as np

from lora_jax.adapters import peft, save_adapter
from lora_jax.pretrained import huggingface

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / 'tests' / 'golden'
TEXT = (ROOT / 'README.md').read_text()
CODE = re.findall(r'```python\n(.*?)```', TEXT, re.S)


def test_the_code_adapts_a_model(capsys):
  code, names = CODE[0], {}
  exec(compile(code, 'README.md', 'exec'), names)
  assert float(names['loss']) < 0.1
  assert 'trained' in capsys.readouterr().out
  merged = names['model'].apply({'params': names['merged']}, names['x'])
  adapted = names['apply'](names['frozen'], names['trainable'], names['x'])
  assert abs(merged - adapted).max() < 1e-4


def test_the_code_uses_an_adapter(tmp_path):
  base, case = GOLDEN / 'models' / 'roberta', GOLDEN / 'adapters' / 'peft.roberta.rslora'
  adapter = peft.read(case, huggingface.read_config(base))
  save_adapter(tmp_path / 'mnli', adapter)
  code = CODE[1].replace('roberta-base', str(base)).replace('out/mnli', str(tmp_path / 'mnli'))
  code = code.replace('num_labels=3', f'num_labels={adapter.num_labels}')
  inputs = np.load(base / 'expected.npz')
  names = {'input_ids': inputs['input_ids'][inputs['mask'].all(-1)]}
  exec(compile(code, 'README.md', 'exec'), names)
  wanted = np.load(case / 'expected.npz')['logits'][inputs['mask'].all(-1)]
  np.testing.assert_allclose(names['logits'], wanted, atol=1e-5)


def test_what_it_names_exists():
  for name in re.findall(r'(?:configs|lora_jax)/[\w/]*\.py', TEXT):
    assert (ROOT / name).is_file(), name
  for name in re.findall(r'-m (experiments\.\w+)', TEXT):
    assert (ROOT / (name.replace('.', '/') + '.py')).is_file(), name
