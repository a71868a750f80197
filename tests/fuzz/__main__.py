"""Reads damaged and hostile files: `python -m tests.fuzz --count=10000 [--reader=peft]`.

Each reader gets a valid file, changed at random: bytes flipped, cut, inserted or repeated; values
in JSON replaced; members of archives and headers changed and packed again, so that checksums and
lengths fit. It has to return a value, or raise a ValueError or an OSError that names the file,
within seconds and without executing anything or filling the memory.
"""

from __future__ import annotations

import argparse
import collections
import sys

from tests.fuzz.readers import READERS
from tests.fuzz.run import fuzz


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--count', type=int, default=10_000, help='files in all')
  parser.add_argument('--reader', choices=list(READERS), help='one reader; default: all')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--show', type=int, default=5, help='problems to print for each reader')
  given = parser.parse_args()
  chosen = [given.reader] if given.reader else list(READERS)
  total = collections.Counter()
  for name in chosen:
    report = fuzz(READERS[name], -(-given.count // len(chosen)), given.seed)
    total.update(read=report.read, refused=report.refused, wrong=len(report.wrong))
    print(f'{name:16} {report.read:6} read {report.refused:6} refused {len(report.wrong):4} wrong')
    for line in report.wrong[: given.show]:
      print(f'  {line}')
  print(f'{"all":16} {total["read"]:6} read {total["refused"]:6} refused {total["wrong"]:4} wrong')
  sys.exit(1 if total['wrong'] else 0)


if __name__ == '__main__':
  main()
