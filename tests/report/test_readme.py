"""The README's table of results is what the committed runs say."""

from pathlib import Path

import pytest

from experiments import report
from lora_jax.report import readme
from lora_jax.report.findings import Finding, Findings

ROOT = Path(__file__).resolve().parents[2]
FOUND = Findings([
  Finding('front', 'Yes.', '66.0 of 67.6', '', 'Does it match?', 'python -m experiments.x'),
  Finding('table-3', 'Yes.', 'Elsewhere.', 'holds'),
])  # fmt: skip


def test_a_row_has_the_question_both_answers_and_the_command():
  text = readme.filled(f'Above.\n{readme.BEGIN}\nstale row\n{readme.END}\nBelow.\n', FOUND)
  assert 'stale row' not in text and text.startswith('Above.\n') and text.endswith('\nBelow.\n')
  assert '| Does it match? | Yes. | 66.0 of 67.6 | `python -m experiments.x` |' in text
  assert 'Elsewhere' not in text and readme.filled(text, FOUND) == text
  with pytest.raises(ValueError, match=r'README\.md: expected the lines <!-- results'):
    readme.filled('Above.', FOUND)


def test_the_committed_table_is_of_the_committed_runs():
  _, found = report.read(ROOT / 'results')
  assert found and len(found.of_page(readme.PAGE)) >= 3
  text = (ROOT / 'README.md').read_text()
  assert readme.filled(text, found) == text, 'run python -m experiments.report --folder=results'


def test_a_readme_that_cannot_be_written_stays_as_it_was(tmp_path, request):
  path, text = tmp_path / 'README.md', f'{readme.BEGIN}\n{readme.END}\n'
  path.write_text(text)
  request.getfixturevalue('full_disk')
  with pytest.raises(OSError, match=r"bytes are free\): '.*/README\.md'"):
    readme.write(path, FOUND)
  assert path.read_text() == text
