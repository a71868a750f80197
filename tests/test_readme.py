"""The README's Python runs as it stands, and it names files that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
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


def test_what_it_names_exists():
  for name in re.findall(r'(?:configs|lora_jax)/[\w/]*\.py', TEXT):
    assert (ROOT / name).is_file(), name
  for name in re.findall(r'\]\(([\w./-]+)\)', TEXT):
    assert (ROOT / name).exists(), name
