"""DART v1.1.1 (Nan et al., 2021): triples of table cells in, a text out, in the authors' form.

A context is the triple set as `Mars Hill College : joined : 1973` joined by ` | `, with relations
in lower case and all else as written; every annotation is a row. Triple sets whose triples are the
same in the same order are one context with the references of all of them, as the authors group
them: 2721 contexts of 2768 development sets, 4159 of 5097 test sets. Scores over those 5097 (the
DART authors' own) weigh a repeated set as often as it occurs.
"""

from __future__ import annotations

from lora_jax.data import data_to_text, sources
from lora_jax.data.data_to_text import Example

SPLITS = {split: f'dart-v1.1.1-full-{split}.json' for split in ('train', 'dev', 'test')}


def read(split: str, source: str, data_dir: str) -> list[Example]:
  """Rows of a split, in the order of its file.

  Raises:
    ValueError: for an unknown split or a malformed triple set, naming the file and the set, counted
      from 1.
    FileNotFoundError: if the file is not there, saying where to get it.
  """
  sources.check_files('dart', source, 'dart-v1.1.1.zip and dart-v1.1.1-full-train.json')
  sources.check_split('dart', split, SPLITS)
  try:
    file = sources.find_text(data_dir, ('dart-v1.1.1.zip',), SPLITS[split])
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f'{error} DART is at https://github.com/Yale-LILY/dart, data/v1.1.1/{SPLITS[split]}: put '
      'that file into config.data.dir. A run needs the training file even for an evaluation.'
    ) from error
  sets = sources.expect(sources.read_json(file), list, file.name)
  rows = [row for i, entry in enumerate(sets) for row in _rows(entry, f'{file.name}, set {i + 1}')]
  if not rows:
    raise ValueError(f'{file.name}: expected annotations, found none in {len(sets)} triple sets')
  return rows


def _rows(entry: object, where: str) -> list[Example]:
  triples = []
  for triple in sources.get(entry, 'tripleset', list, where):
    if len(sources.expect(triple, list, where)) != 3:
      raise ValueError(f'{where}: expected [subject, relation, object], found {triple}')
    subject, relation, target = (sources.expect(part, str, where) for part in triple)
    triples.append((subject, relation.lower(), target))
  if not triples:
    raise ValueError(f'{where}: expected at least one triple, found none')
  context = data_to_text.linearize(triples)
  # One annotation of the test file (set 116) has null for its text.
  return [
    Example(context, sources.get_text(annotation, 'text', where))
    for annotation in sources.get(entry, 'annotations', list, where)
    if not (isinstance(annotation, dict) and annotation.get('text', '') is None)
  ]
