"""WebNLG 2017 (Gardent et al.): DBpedia triples in, a text out, in the authors' form.

A context is the modified triple set, as `Aarhus_Airport : cityServed : "Aarhus, Denmark"` joined by
` | `; a row is one lexicalisation whose comment is `good`. Texts are as written: their scorers
lower-case and tokenise. The test set has categories that training has, `seen`, and others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from lora_jax.data import data_to_text, sources
from lora_jax.data.data_to_text import Example
from lora_jax.data.dataset import Task
from lora_jax.data.tokenizers import Tokenizer

SPLITS = {'train': 'train.json', 'dev': 'dev.json', 'test': 'test.json'}

# The authors' list, ten: those of train and dev (appendix C counts nine).
SEEN = (
  'Airport',
  'Astronaut',
  'Building',
  'City',
  'ComicsCharacter',
  'Food',
  'Monument',
  'SportsTeam',
  'University',
  'WrittenWork',
)


class Entry(NamedTuple):
  category: str
  context: str
  references: list[str]  # those with the comment `good`, which may be none


def load(
  tokenizer: Tokenizer,
  source: str,
  data_dir: str,
  max_length: int,
  limit: int = 0,
  seed: int = 0,
  evals: Sequence[str] = (),
) -> Task:
  """WebNLG as a task whose prompts have the parts `seen` and `unseen`; see `load_task`."""
  entries = {split: read(split, source, data_dir) for split in ('train', *(evals or ('dev',)))}
  parts = {
    split: {
      'seen': {entry.context for entry in held_out if entry.category in SEEN},
      'unseen': {entry.context for entry in held_out if entry.category not in SEEN},
    }
    for split, held_out in entries.items()
  }
  return data_to_text.task(
    'webnlg',
    rows(entries['train']),
    {split: rows(entries[split]) for split in evals or ('dev',)},
    tokenizer,
    max_length=max_length,
    limit=limit,
    seed=seed,
    parts=parts,
  )


def rows(entries: Iterable[Entry]) -> list[Example]:
  """One row for each reference."""
  return [Example(entry.context, reference) for entry in entries for reference in entry.references]


def read(split: str, source: str, data_dir: str) -> list[Entry]:
  """Entries of a split, in the order of its file.

  Raises:
    ValueError: for an unknown split, a split without any good text, or entries that are not as
      expected, naming the file and the entry.
    FileNotFoundError: if the files are not there, naming the places looked at.
  """
  sources.check_files('webnlg', source, 'webnlg-2017.zip')
  sources.check_split('webnlg', split, SPLITS)
  file = sources.find_text(data_dir, ('webnlg-2017.zip',), SPLITS[split])
  found = sources.get(sources.read_json(file), 'entries', list, file.name)
  entries = [
    _entry(value, f'{file.name}, entry {key}')
    for i, entry in enumerate(found)
    for key, value in sources.expect(entry, dict, f'{file.name}, entry {i + 1}').items()
  ]
  if not any(entry.references for entry in entries):
    raise ValueError(
      f"{file.name}: expected lexicalisations with the comment 'good', found none in "
      f'{len(entries)} entries'
    )
  return entries


def _entry(entry: Any, where: str) -> Entry:
  triples = [
    tuple(sources.get(triple, key, str, where) for key in ('subject', 'property', 'object'))
    for triple in sources.get(entry, 'modifiedtripleset', list, where)
  ]
  if not triples:
    raise ValueError(f'{where}: expected at least one triple in modifiedtripleset, found none')
  references = [
    sources.get(text, 'lex', str, where).strip()
    for text in sources.get(entry, 'lexicalisations', list, where)
    if sources.get(text, 'comment', str, where) == 'good'
  ]
  category = sources.get(entry, 'category', str, where)
  return Entry(category, data_to_text.linearise(triples), references)
