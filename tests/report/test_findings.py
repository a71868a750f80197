"""A finding is checked against its numbers: a text that they contradict is named in an error."""

import pytest

from lora_jax.report import findings
from lora_jax.report.runs import Recorded
from tests.report.toys import run

TEXT = """
weak_bases = ["tiny"]
names = { small = "Small-1B" }
[[finding]]
page = "table-2"
paper = "LoRA reaches {paper}."
text = "LoRA reaches {lora} on GPT-2 at r=8 of table 2, {full - lora:.0f} below."
holds = ["below(lora, full)"]
agrees = "not below(lora, full)"
values.paper = { paper = "2", model = "RoB-base", method = "LoRA", column = "MRPC" }
values.lora = { method = "lora" }
values.full = { method = "full" }
"""


def read(path, text, lora=0.8):
  path.write_text(text)
  made = [run(seed, lora + seed / 50) for seed in (0, 1)]
  made += [run(seed, 0.9, method='full') for seed in (0, 1)]
  return findings.read(path, Recorded(runs={str(i): one for i, one in enumerate(made)}))


def test_a_finding_has_its_numbers_and_a_verdict(tmp_path):
  found = read(tmp_path / 'f.toml', TEXT)
  assert found.weak_bases == ['tiny'] and found.of_page('table-3') == []
  assert found.names == {'small': 'Small-1B'}
  (one,) = found.of_page('table-2')
  assert one.text == 'LoRA reaches 81.0 ± 1.4 on GPT-2 at r=8 of table 2, 9 below.'
  assert (one.paper, one.verdict) == ('LoRA reaches 89.7 ± 0.7.', 'does not hold')
  agreed = read(tmp_path / 'f.toml', TEXT.replace('"not below(lora, full)"', '"lora > 50"'))
  assert agreed.all[0].verdict == 'holds'
  without = read(tmp_path / 'f.toml', TEXT.replace('agrees = "not below(lora, full)"', ''))
  assert without.all[0].verdict == ''
  assert findings.read(tmp_path / 'none.toml', Recorded()) is None


def test_a_run_that_contradicts_a_text_names_it(tmp_path):
  with pytest.raises(ValueError) as error:
    read(tmp_path / 'f.toml', TEXT, lora=0.95)
  message = str(error.value)
  assert 'f.toml:\nfinding 1, of table-2: below(lora, full) is not true: ' in message
  assert 'lora 96.0 ± 1.4, full 90.0' in message
  assert "Rewrite this text and its holds: 'LoRA reaches 96.0 ± 1.4" in message


@pytest.mark.parametrize(
  'old, new, message',
  [
    ('LoRA reaches {lora}', 'LoRA reaches 81.0', r'81\.0 typed by hand in .* Write a slot'),
    ('LoRA reaches {lora}', 'LoRA with 3 seeds', '3 typed by hand'),
    ('{lora} on', '{lroa} on', r"unknown value 'lroa'\. Did you mean 'lora'"),
    ('holds =', 'hold =', 'unknown key hold. Known: agrees, command, holds'),
    ('holds = ["below(lora, full)"]', 'holds = "below"', r'expected values\.NAME'),
    ('page = "table-2"', '', 'finding 1, of no page: no page'),
    ('method = "full"', 'method = "ful"', r'values\.full: no run of'),
    ('[[finding]]', '[[finding]', 'not valid TOML'),
  ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path, old, new, message):
  with pytest.raises(ValueError, match=message):
    read(tmp_path / 'f.toml', TEXT.replace(old, new))
