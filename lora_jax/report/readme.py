"""The table of results in the README: questions with the paper's answer and ours, as they stand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lora_jax import files
from lora_jax.report import document
from lora_jax.report.findings import Finding, Findings

PAGE = 'front'  # The page that findings of the README name.
BEGIN = '<!-- results: written by `python -m experiments.report --folder=results` -->'
END = '<!-- /results -->'


def table(findings: Sequence[Finding]) -> str:
  """The Markdown table: a row for each finding."""
  rows = [
    {
      'question': finding.question,
      'the paper': finding.paper or '-',
      'here': finding.text,
      'by': f'`{finding.command}`',
    }
    for finding in findings
  ]
  return document.markdown_table(rows) if rows else ''


def filled(text: str, findings: Findings) -> str:
  """A README with the table between its two marks.

  Raises:
    ValueError: if it has not both marks.
  """
  before, begin, rest = text.partition(BEGIN)
  _, end, after = rest.partition(END)
  if not begin or not end:
    raise ValueError(f'README.md: expected the lines {BEGIN} and {END}')
  return f'{before}{BEGIN}\n\n{table(findings.of_page(PAGE))}\n{END}{after}'


def write(path: Path, findings: Findings) -> Path:
  """Writes the table into a README, and returns its path."""
  files.write_atomic(path, filled(path.read_text(encoding='utf-8'), findings))
  return path
