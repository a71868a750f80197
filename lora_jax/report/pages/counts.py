"""The page of parameter counts: what the paper prints against what its settings train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

from lora_jax.report.document import Page, Table
from lora_jax.result_schema import CountRow, Counts

ABOUT = """What each row of tables 2, 3, 4 and 15 trains, and a row of table 2 at the rank of table
10, without the task head, counted at full size by the shapes of the model's parameters. *: quoted
by the paper from earlier work. A size that the paper does not give is the one whose count is
nearest to the print. A print agrees if it is the count, rounded or truncated to its digits;
otherwise the difference is the print less the count."""


def pages(found: Mapping[str, Counts]) -> list[Page]:
  """The page; none where nothing was counted."""
  counted = [row for counts in found.values() for row in counts['counts']]
  if not counted:
    return []
  shown = rows(counted)
  same = sum(row['difference'] == 'agrees' for row in shown)
  head = f'{same} of the {len(shown)} printed counts are what the settings of their rows train.'
  blocks = [head, Table(shown, ABOUT), 'Made by `python -m experiments.counts`.']
  return [Page('counts', 'Parameter counts', f'{same} of {len(shown)} agree', blocks)]


def rows(counted: Sequence[CountRow]) -> list[dict[str, str]]:
  """A row of the page for each row of the JSON."""
  shown = []
  for row in counted:
    same = agrees(row['printed'], row['computed'])
    shown.append(
      {
        'table': row['table'],
        'model': row['model'],
        'method': row['method'] + ('*' if row['quoted'] else ''),
        'options': ', '.join(f'{name} {_plain(value)}' for name, value in row['options'].items()),
        'printed': row['printed'],
        'computed': f'{row["computed"]:,}',
        'difference': 'agrees' if same else f'{difference(row["printed"], row["computed"]):+,}',
        'note': '' if same else row['note'],
      }
    )
  return shown


def agrees(printed: str, computed: int) -> bool:
  """Whether a print, as `1.5M`, is a count, rounded or truncated to as many digits."""
  value = _millions(printed)
  exact = Decimal(computed) / 1_000_000
  return value in (exact.quantize(value, way) for way in (ROUND_HALF_UP, ROUND_DOWN))


def difference(printed: str, computed: int) -> int:
  """What is printed less what is computed, in parameters."""
  return int(_millions(printed) * 1_000_000) - computed


def _millions(printed: str) -> Decimal:
  """The printed count with its digits, for exact rounding."""
  if not printed.endswith('M'):
    raise ValueError(f'expected millions, as 1.5M, found {printed!r}')
  return Decimal(printed.removesuffix('M').replace(',', ''))


def _plain(value: object) -> str:
  patterns = value if isinstance(value, list | tuple) else [value]
  return ' '.join(str(item).rpartition('/')[2].strip('()').replace('|', ' ') for item in patterns)
