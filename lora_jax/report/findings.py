"""What was found: the sentences of `results/findings.toml`, checked against the numbers they state.

A finding belongs to a page, and its numbers are computed:

    [[finding]]
    page = "table-2"
    paper = "LoRA reaches what full fine-tuning does."
    text = "On {base}, LoRA reaches {lora} Matthews on CoLA, full fine-tuning {full}."
    holds = ["below(lora, full)"]
    agrees = "not below(lora, full)"
    values.lora = { task = "cola", model = "small", method = "lora" }
    values.full = { task = "cola", model = "small", method = "full" }

A slot is a formula (`formula.py`) over `values` (`quantities.py`), with a format if wanted:
`{full - lora:.1f}`. `holds` are formulas of what the text states in words. `agrees` is whether the
numbers bear out the paper's finding, which gives the verdict; without it there is none. A finding
of the page `front` is a row of the README's table (`readme.py`): it also has the `question` that it
answers and the `command` that measures it.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from lora_jax.analysis_schema import AnalyzedRun
from lora_jax.errors import listed
from lora_jax.report import formula, quantities, runs
from lora_jax.report.runs import Recorded
from lora_jax.result_schema import Trained

NAME = 'findings.toml'
SLOT = re.compile(r'{([^{}:]+)(?::([^{}]+))?}')
# A number by itself: not part of a name, as in GPT-2, r=8 or table 3.
NUMBER = re.compile(r'(?<![\w.=-])(?<!table )(?<!figure )(?<!figures )\d+(?:[.,]\d+)*(?![\w-])')
KEYS = {'page', 'question', 'paper', 'text', 'holds', 'agrees', 'values', 'command'}
HOLDS, FAILS = 'holds', 'does not hold'
Run = TypeVar('Run', bound=Trained | AnalyzedRun)


class Finding(NamedTuple):
  """A checked finding: its page, the paper's statement, what was found here, and the verdict.

  `question` and `command` are of a row of the README.
  """

  page: str
  paper: str
  text: str
  verdict: str
  question: str = ''
  command: str = ''


class Findings(NamedTuple):
  """The findings of a folder, and the names of models whose runs stand apart.

  `weak_bases` are models that were trained here from little text: their runs are on one page.
  `names` are the published names of models by the folders that they were read from.
  """

  all: Sequence[Finding] = ()
  weak_bases: Sequence[str] = ()
  names: Mapping[str, str] = MappingProxyType({})

  def of_page(self, name: str) -> list[Finding]:
    """The findings that a page begins with."""
    return [finding for finding in self.all if finding.page == name]

  def published_name(self, run: Run) -> Run:
    """A copy of a run that has its model's published name, if `names` has one, as pages show it."""
    named = copy.copy(run)
    named['model'] = self.names.get(runs.model_name(run), run['model'])
    return named


def read(path: Path, recorded: Recorded) -> Findings | None:
  """The findings of a file, with the numbers in their texts; None if there is no such file.

  Raises:
    ValueError: naming each finding whose statements are not true of the numbers (any more), whose
      text has a number typed by hand, or that names values that are not there.
  """
  if not path.exists():
    return None
  try:
    content = tomllib.loads(path.read_text(encoding='utf-8'))
  except tomllib.TOMLDecodeError as error:
    raise ValueError(f'{path}: not valid TOML: {error}') from error
  found, problems = [], []
  for number, entry in enumerate(content.get('finding', ()), 1):
    try:
      found.append(_check(entry, recorded))
    except ValueError as error:
      problems.append(f'finding {number}, of {entry.get("page", "no page")}: {error}')
  if problems:
    raise ValueError(f'{path}:\n' + '\n'.join(problems))
  return Findings(found, content.get('weak_bases', ()), content.get('names', {}))


def _check(entry: Mapping[str, object], recorded: Recorded) -> Finding:
  if unknown := entry.keys() - KEYS:
    raise ValueError(f'unknown key {listed(sorted(unknown))}. Known: {listed(sorted(KEYS))}')
  if missing := {'page', 'text'} - entry.keys():
    raise ValueError(f'no {listed(sorted(missing))}')
  paper, text = (' '.join(str(entry.get(key, '')).split()) for key in ('paper', 'text'))
  if typed := NUMBER.findall(SLOT.sub('', f'{paper} {text}')):
    raise ValueError(f'{listed(typed)} typed by hand in {text!r}. Write a slot: {{name}}')
  queries, holds = entry.get('values', {}), entry.get('holds', [])
  if not isinstance(queries, Mapping) or not isinstance(holds, list):
    raise ValueError('expected values.NAME = {...} and holds = ["...", ...]')
  values = {}
  for name, query in queries.items():
    try:
      values[name] = quantities.find(query, recorded)
    except (ValueError, KeyError) as error:
      raise ValueError(f'values.{name}: {error}') from error
  fill = lambda slot: formula.show(formula.evaluate(slot[1], values), slot[2] or '')
  shown = SLOT.sub(fill, text)
  untrue = [condition for condition in holds if not formula.evaluate(condition, values)]
  if untrue:
    numbers = ', '.join(f'{name} {formula.show(value)}' for name, value in values.items())
    raise ValueError(
      f'{listed(untrue)} is not true: {numbers}. Rewrite this text and its holds: {shown!r}'
    )
  agrees = entry.get('agrees')
  verdict = ''
  if agrees:
    verdict = HOLDS if formula.evaluate(str(agrees), values) else FAILS
  row = str(entry.get('question', '')), str(entry.get('command', ''))
  return Finding(str(entry['page']), SLOT.sub(fill, paper), shown, verdict, *row)
