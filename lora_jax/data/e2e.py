"""The E2E NLG challenge (Novikova et al., 2017): a meaning representation in, a sentence out.

The official files hold `name[Blue Spice], eatType[coffee shop], ...` and plain sentences; the
authors' files hold `name : Blue Spice | Type : coffee shop | ...` and sentences with spaces around
punctuation (`family - friendly`, `£ 30`, `who 's`), in values as well. `read` brings both sides
into the authors' form: the losses and BLEU of the paper are over such text (mteval's tokens of
`family-friendly` and of `family - friendly` differ), and their released adapters expect it. The
authors do not publish their tokenizer; its output is that of the challenge's baseline (TGen), whose
rules `tokenize` states. Pass `raw=True` to `read` for sentences as they were written.
"""

from __future__ import annotations

import re

from lora_jax.data import sources
from lora_jax.data.data_to_text import Example
from lora_jax.errors import nearest

SPLITS = {'train': 'trainset.csv', 'dev': 'devset.csv', 'test': 'testset_w_refs.csv'}

# The authors' names of the slots. A context keeps the order of its row.
SLOTS = {
  'name': 'name',
  'eatType': 'Type',
  'food': 'food',
  'priceRange': 'price',
  'customer rating': 'customer rating',
  'area': 'area',
  'familyFriendly': 'family friendly',
  'near': 'near',
}
_MEANING = re.compile(r'\s*([^\[\],]+)\[([^\]]*)\]\s*(?:,|$)')


def read(split: str, source: str, data_dir: str, raw: bool = False) -> list[Example]:
  """Rows of a split, in the order of its file.

  Args:
    raw: whether references stay as written, without spaces around punctuation. Contexts are in
      the authors' form in any case.

  Raises:
    ValueError: for an unknown split or a malformed row, naming file and line.
    FileNotFoundError: if the files are not there, naming the places looked at.
  """
  if source != 'files':
    raise ValueError(
      "TFDS has only the cleaned E2E set, whose rows differ from the paper's: use "
      "config.data.source='files' with the official e2e-dataset.zip"
    )
  sources.check_split('e2e', split, SPLITS)
  file = sources.find_text(data_dir, ('e2e-dataset.zip',), SPLITS[split])
  table = sources.read_csv(file, ('mr', 'ref'))
  contexts: dict[str, str] = {}  # Nine references share a meaning on average.
  rows = []
  if not table.rows:
    raise ValueError(f'{file.name}: expected rows below the header, found none')
  for i, (meaning, reference) in enumerate(table.rows):
    if not reference.strip():
      raise ValueError(f'{table.where(i)}: expected a sentence as ref, found none')
    if meaning not in contexts:
      contexts[meaning] = linearize(meaning, table.where(i))
    rows.append(Example(contexts[meaning], reference.strip() if raw else tokenize(reference)))
  return rows


def linearize(meaning: str, where: str = 'meaning representation') -> str:
  """`name[Blue Spice], eatType[coffee shop]` as `name : Blue Spice | Type : coffee shop`.

  Raises:
    ValueError: beginning with `where`, for an unknown slot or text of another form.
  """
  slots, end = [], 0
  for match in _MEANING.finditer(meaning):
    if match.start() != end:
      break
    name, value = match.group(1).strip(), match.group(2)
    if name not in SLOTS:
      raise ValueError(f'{where}: unknown slot {name!r}. {nearest(name, SLOTS)}')
    slots.append(f'{SLOTS[name]} : {tokenize(value)}')
    end = match.end()
  if not slots or end != len(meaning):
    raise ValueError(
      f'{where}: expected slot[value], slot[value], ...; found {meaning[end:].strip()!r}'
    )
  return ' | '.join(slots)


def tokenize(text: str) -> str:
  """The text with spaces around punctuation and one space between tokens.

  `.` and `,` inside numbers stay (`10.50`), hyphens always stand alone (`family - friendly`,
  `20 - 25`), and contractions keep their apostrophe (`who 's`, `do n't`).
  """
  text = text.replace('\u2019', "'")
  text = re.sub(r"([^\w\s.,'])", r' \1 ', text)
  text = re.sub(r'(?<!\d)([.,])|([.,])(?!\d)', r' \1\2 ', text)
  text = re.sub(r"(?<=\w)(n't|'(?:s|m|d|ll|re|ve))\b", r' \1', text, flags=re.IGNORECASE)
  # Any other apostrophe at the edge of a word is a quotation mark.
  text = re.sub(r"(?<!\w)'(?!(?:s|m|d|ll|re|ve)\b)|(?<=\w)'(?!\w)", " ' ", text)
  return ' '.join(text.split())
