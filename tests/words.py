"""Phrases that the project's text does not use, and where they stand: a part of `make lint`.

  python -m tests.words        # prints `file:line: phrase -> better word`, exits with 1 if any

The list holds private words for which the field has its own, phrases that read as translated, and
British spellings; the project writes American English, as JAX and Flax do.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ('lora_jax', 'configs', 'experiments', 'tests', 'cloud', 'docs')
# Files that name the phrases, and the sentences of a made-up data set.
EXEMPT = ('tests/words.py', 'tests/test_words.py', 'lora_jax/data/domains.py')

BANNED = {  # Regular expressions -> what to write.
  r'read-?outs?\b': 'prediction position, label position',
  r'\blanes?\b': 'member (of a sweep)',
  r'\bartefacts?\b': 'native format, artifact',
  r'\bmenu of shapes\b': 'shapes',
  r'\bdear(er)?\b': 'expensive, costs more',
  r'\breckon(ed|s)?\b': 'count',
  r'\bmend(s|ed)?\b': 'fix',
  r'\bat hand\b': 'available',
  r'\b(gone|goes?|going) on (with|from)\b': 'resume',
  r'\bbegun with\b': 'initialized from',
  r'\bas ever\b': '(leave it out)',
  r"\banybody's?\b": 'a free choice, anyone',
  r'\bwhose one is\b': 'a full sentence',
  r'\bto be had\b': 'available',
  r'\bis none of\b': 'is not one of',
  r'\bis no (JSON|adapter|run directory|regular expression|layer|multiple)\b': 'is not a(n) ...',
  r'\bfor want of\b': 'since ... is missing',
  r'\btake_apart\b|\bput_together\b': 'a verb of the format',
  # American spelling.
  r'\b(re)?analys(e|ed|es|ing)\b': 'analyze',
  r'\w*(normal|initial|token|optim|summar|organ|recogn|serial|material|util|general|real|emphas|'
  r'minim|maxim|quant|vector|parallel|regular|final|local|custom|categor|penal|standard)is(e|ed|es|'
  r'er|ers|ing|ation|ations)\b': '-ize, -ization',
  r'\bcentred?\b|\bcentring\b': 'center',
  r'\bcolour(s|ed|ing)?\b': 'color',
  r'\b(behavi|fav|neighb|hon|lab)our(s|ed|ite|able)?\b': '-or',
  r'\b(un)?labell(ed|ing)\b|\bmodell(ed|ing)\b|\bcancell(ed|ing)\b': 'one l',
  r'\bcatalogues?\b|\bprogrammes?\b|\bgrey\b|\blicence\b': 'American spelling',
}
COMPILED = [(re.compile(pattern, re.IGNORECASE), advice) for pattern, advice in BANNED.items()]
# Words that only look like British ones, and quoted data: E2E's restaurants are in the city centre.
ALLOWED = re.compile(
  r'otherwise|likewise|precise|promise[ds]?|premises|exercises?|wise|realises', re.IGNORECASE
)
QUOTED = re.compile(r'(city|the) centre\b', re.IGNORECASE)


def found_in(text: str) -> Iterator[tuple[int, str, str]]:
  """(line, phrase, what to write) of each banned phrase in a text."""
  for number, line in enumerate(text.splitlines(), start=1):
    line = QUOTED.sub('', line)
    for pattern, advice in COMPILED:
      for match in pattern.finditer(line):
        if not ALLOWED.fullmatch(match[0]):
          yield number, match[0], advice


def files(root: Path = ROOT) -> Iterator[Path]:
  """The project's own text: source, and pages that people read."""
  yield from sorted(root.glob('*.md'))
  yield from sorted((root / 'results').glob('*.md'))
  for folder in FOLDERS:
    yield from sorted(p for p in (root / folder).rglob('*') if p.suffix in ('.py', '.md', '.sh'))


def problems(root: Path = ROOT) -> list[str]:
  """Every banned phrase below a folder, as `file:line: phrase -> what to write`."""
  return [
    f'{path.relative_to(root)}:{line}: {phrase!r} -> {advice}'
    for path in files(root)
    if path.relative_to(root).as_posix() not in EXEMPT
    for line, phrase, advice in found_in(path.read_text(encoding='utf-8'))
  ]


if __name__ == '__main__':
  listed = problems()
  print('\n'.join(listed))
  sys.exit(1 if listed else 0)
