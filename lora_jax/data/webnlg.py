"""WebNLG 2017 (Gardent et al.): DBpedia triples in, a text out, in the authors' form.

A context is the modified triple set, as `Aarhus_Airport : cityServed : "Aarhus, Denmark"` joined by
` | `; a row is one lexicalization whose comment is `good`. Texts stay as they are written: their
scorers lower-case and tokenize. Some categories of the test set occur in training (`seen`), the
others do not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lora_jax.data import data_to_text, sources
from lora_jax.data.data_to_text import Example
from lora_jax.data.dataset import Request, Task

SPLITS = {'train': 'train.json', 'dev': 'dev.json', 'test': 'test.json'}

# The categories of train and dev, ten in the authors' list (appendix C counts nine).
_SEEN = 'Airport Astronaut Building City ComicsCharacter Food Monument SportsTeam University'
SEEN = (*_SEEN.split(), 'WrittenWork')


class Entry(NamedTuple):
  """A triple set, and the texts about it whose comment is `good`; there may be none."""

  category: str
  context: str
  references: list[str]


def load(name: str, request: Request) -> Task:
  """WebNLG as a task whose prompts have the parts `seen` and `unseen`; see `load_task`."""
  get = lambda split: read(split, request.source, request.data_dir)
  evals = {split: get(split) for split in request.evals or ('dev',)}
  parts = {
    split: {
      'seen': {entry.context for entry in entries if entry.category in SEEN},
      'unseen': {entry.context for entry in entries if entry.category not in SEEN},
    }
    for split, entries in evals.items()
  }
  held_out = {split: rows(entries) for split, entries in evals.items()}
  return data_to_text.task(name, rows(get('train')), held_out, request, parts=parts)


def rows(entries: Iterable[Entry]) -> list[Example]:
  """One row for each reference."""
  return [Example(entry.context, reference) for entry in entries for reference in entry.references]


def read(split: str, source: str, data_dir: str) -> list[Entry]:
  """Entries of a split, in the order of its file.

  Raises:
    ValueError: for an unknown split, a split without any good text, or a malformed entry, naming
      the file and the entry.
    FileNotFoundError: if the files are not there, naming the places looked at.
  """
  sources.check_files('webnlg', source, 'webnlg-2017.zip')
  sources.check_split('webnlg', split, SPLITS)
  file = sources.find_text(data_dir, ('webnlg-2017.zip',), SPLITS[split])
  listed = sources.get(sources.read_json(file), 'entries', list, file.name)
  entries = [
    _entry(value, f'{file.name}, entry {key}')
    for i, entry in enumerate(listed)
    for key, value in sources.expect(entry, dict, f'{file.name}, entry {i + 1}').items()
  ]
  if not any(entry.references for entry in entries):
    raise ValueError(
      f"{file.name}: expected lexicalisations with the comment 'good', found none in "
      f'{len(entries)} entries'
    )
  return entries


def _entry(entry: object, where: str) -> Entry:
  part = lambda triple, key: sources.get(triple, key, str, where)
  triples = [
    (part(triple, 'subject'), part(triple, 'property'), part(triple, 'object'))
    for triple in sources.get(entry, 'modifiedtripleset', list, where)
  ]
  if not triples:
    raise ValueError(f'{where}: expected at least one triple in modifiedtripleset, found none')
  references = [
    sources.get_text(text, 'lex', where)
    for text in sources.get(entry, 'lexicalisations', list, where)
    if sources.get(text, 'comment', str, where) == 'good'
  ]
  category = sources.get(entry, 'category', str, where)
  return Entry(category, data_to_text.linearize(triples), references)
