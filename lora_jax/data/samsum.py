"""SAMSum (Gliwa et al., 2019): a chat in, its summary out (paper, section 5.5 and appendix C).

A context is the utterances, one a line, and a blank line, as appendix C describes it.
"""

from __future__ import annotations

from lora_jax.data import sources
from lora_jax.data.data_to_text import Example

SPLITS = {'train': 'train.json', 'dev': 'val.json', 'test': 'test.json'}


def read(split: str, source: str, data_dir: str) -> list[Example]:
  """Rows of a split, in the order of its file.

  Raises:
    ValueError: for an unknown split or a malformed chat, naming file and chat.
    FileNotFoundError: if the file is not there, naming the places looked at.
  """
  sources.check_files('samsum', source, 'what its corpus.7z unpacks to')
  sources.check_split('samsum', split, SPLITS)
  file = sources.find_text(data_dir, ('samsum.zip', 'corpus.zip'), SPLITS[split])
  chats = sources.expect(sources.read_json(file), list, file.name)
  rows = [_row(chat, f'{file.name}, chat {i + 1}') for i, chat in enumerate(chats)]
  rows = [row for row in rows if row is not None]
  if not rows:
    raise ValueError(f'{file.name}: expected chats, found none in {len(chats)}')
  return rows


def _row(chat: object, where: str) -> Example | None:
  """A chat as a row; None if it has no utterances (the training file has one such chat)."""
  lines = sources.get(chat, 'dialogue', str, where).splitlines()
  utterances = [' '.join(line.split()) for line in lines if line.strip()]
  if not utterances:
    return None
  summary = ' '.join(sources.get_text(chat, 'summary', where).split())
  return Example('\n'.join(utterances) + '\n\n', summary)
