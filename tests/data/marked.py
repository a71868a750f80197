"""The texts of the goldens that name a special token, which Hugging Face reads as the token."""

import re

NAMES = re.compile(r'\[(PAD|UNK|CLS|SEP|MASK)\]|</?s>|<\|endoftext\|>|<(mask|pad|unk)>')


def unmarked(texts, rows):
  """The rows, one for each text or pair, of those that name no special token; some do."""
  joined = [text if isinstance(text, str) else ' '.join(text) for text in texts]
  return [row for text, row in zip(joined, rows, strict=True) if not NAMES.search(text)]


def assert_equal(texts, found, expected):
  """Ids or types of texts are those of the golden, except where a text names a special token."""
  found = [x.tolist() for x in found]
  assert unmarked(texts, found) == unmarked(texts, expected)
  assert unmarked(texts, found)
