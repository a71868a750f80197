"""No number that is distinctive of the paper stands as a literal outside of lora_jax/paper."""

import ast
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from lora_jax.paper import entries, printed, scripts, settings

ROOT = Path(__file__).resolve().parents[2]
SCANNED = ('lora_jax', 'configs', 'experiments')


def printed_entries() -> set[str]:
  """What is recognizable on its own: scores with a spread, counts, numbers of many digits."""
  texts = {text for table in printed.TABLES.values() for row in table.rows for text in row.values()}
  tokens = {token for text in texts for token in re.split(r'[ /|]', text)}
  distinctive = r'\d*\.?\d+±\.?\d+|[\d,]+\.\d+M|\d+\.\d{4}|\d{4}\.\d|\d\d\.\d\d'
  return {token for token in tokens if re.fullmatch(distinctive, token)}


def rows_of_settings() -> set[tuple]:
  """Rows and columns of hyperparameters, and the grids of the ablations."""
  tables = [
    value
    for module in (settings, scripts)
    for value in vars(module).values()
    if isinstance(value, dict)
  ]
  tables += [
    rows for sizes in settings.ADAPTERS_OF_ROBERTA_LARGE.values() for rows in sizes.values()
  ]
  found = set()
  for table in tables:
    rows = [row for row in table.values() if isinstance(row, tuple)]
    if rows:
      # All fields; those that the tables print, batch and epochs without the rest; and the columns.
      plain = [tuple(x for x in row if not isinstance(x, dict)) for row in rows]
      found |= {row[:n] for row in plain for n in (3, 4, len(row))}
      found |= {column for column in zip(*plain) if len(set(column)) > 2}
  found |= {entries.RANKS_OF_TABLE_6, entries.RANKS_OF_TABLE_18, tuple(entries.TABLE_5.values())}
  return {row for row in found if len(row) > 2 and len(set(row)) > 1}


PRINTED = printed_entries()
ROWS = rows_of_settings()
PAIRS = (
  set(settings.GPT3_LENGTHS.items()),
  set(settings.GPT3_RATES.items()),
  set(settings.GPT2_TRAINING.items()),
)


def second_homes(source: str) -> Iterator[tuple[int, str]]:
  """(line, what) of the literals of a file that are the paper's."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
      tokens = re.findall(r'[\d.,]*\d(?:±[\d.]*\d|M\b)?', node.value)
      yield from ((node.lineno, token) for token in PRINTED & set(tokens))
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
      yield from ((node.lineno, text) for text in {str(node.value)} & PRINTED)
    elif isinstance(node, ast.Tuple | ast.List):
      yield from [(node.lineno, ast.unparse(node))] * (numbers(node.elts) in ROWS)
    elif isinstance(node, ast.Call | ast.Dict):
      same = any(len(named(node) & pairs) > 1 for pairs in PAIRS)
      yield from [(node.lineno, ast.unparse(node))] * same


def numbers(nodes: Iterable[ast.expr]) -> tuple:
  values = [node.value for node in nodes if isinstance(node, ast.Constant)]
  return tuple(value for value in values if isinstance(value, int | float))


def named(node: ast.Call | ast.Dict) -> set[tuple[str, object]]:
  """Keys and constants of a dict, as a literal or a call."""
  if isinstance(node, ast.Call):
    pairs = [(keyword.arg, keyword.value) for keyword in node.keywords]
  else:
    pairs = [(getattr(key, 'value', None), value) for key, value in zip(node.keys, node.values)]
  return {(key, value.value) for key, value in pairs if isinstance(value, ast.Constant)}


def test_the_papers_numbers_have_one_home():
  assert len(PRINTED) > 150 and len(ROWS) > 60
  files = itertools.chain.from_iterable((ROOT / folder).rglob('*.py') for folder in SCANNED)
  found = [
    f'{path.relative_to(ROOT)}:{line}: {what}'
    for path in files
    if 'paper' not in path.relative_to(ROOT).parts
    for line, what in second_homes(path.read_text())
  ]
  assert not found, '\n'.join(['read these from lora_jax.paper:', *found])


@pytest.mark.parametrize(
  'source',
  [
    "TABLE = {'mrpc': '89.7±.7'}",
    '"""LoRA reaches 70.4±.1 BLEU."""',
    "COUNTS = {'lora': '37.7M'}",
    "f'{x} of 175,255.8M'",
    'NIST = 8.8439',
    "ROWS = {'cola': (2e-4, 4, 20, 128)}",
    'EPOCHS = (30, 60, 30, 80, 25, 25, 80, 40)',
    'RANKS = [1, 2, 4, 8, 64]',
    "FEW = {'1k': (1_000, 20, 40)}",
    "LENGTHS = {'wikisql': 384, 'samsum': 2048}",
    'dict(lr=2e-4, warmup_steps=500)',
  ],
)
def test_a_second_home_is_found(source):
  assert list(second_homes(source))


@pytest.mark.parametrize('source', ["'3.5M'", "'37.7 MB'", 'x = (1e-3, 32, 5, 128)', 'y = 91.7'])
def test_other_numbers_are_not(source):
  assert not list(second_homes(source))
