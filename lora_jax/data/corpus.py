"""Plain text to pretrain a small GPT-2 on: WikiText-2 and WebNLG, never E2E or DART.

All of it is in one form, that of E2E's references: spaces round punctuation, `family - friendly`,
`10,000`, `do n't`, `£ 30`. WikiText-2 is nearly so already; its ` @-@ ` becomes ` - `, ` @,@ ` and
` @.@ ` are closed, and `<unk>` becomes `_`, one token in place of three. A small model has too
little text to learn two forms, and the one it will write in is this.

A text begins with a space, as a reference does after its context, and so does each paragraph of an
article: the blank line between them is then one token, as in GPT-2's vocabulary. Texts are strung
together with the end token between them and cut into sequences of one length.

An entry of WebNLG is one text: its triples are the first paragraph and each lexicalisation is a
further one, since that names of a list are copied into sentences is what GPT-2 has from the web and
prose alone does not teach. One epoch is too little to learn it: on such a base LoRA stays far
behind full fine-tuning on E2E (results/README.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from lora_jax.data import e2e, sources, tokenizers, webnlg
from lora_jax.data.dataset import Dataset, Task
from lora_jax.data.tokenizers import Tokenizer

SPLITS = {
  'train': 'wikitext-2/train.txt',
  'dev': 'wikitext-2/valid.txt',
  'test': 'wikitext-2/test.txt',
}


def load(
  tokenizer: Tokenizer,
  source: str,
  data_dir: str,
  max_length: int,
  limit: int = 0,
  seed: int = 0,
  evals: Sequence[str] = (),
) -> Task:
  """The corpus as a task of sequences of `max_length` tokens, without prompts; see `load_task`."""
  train = chunks(read('train', source, data_dir), tokenizer, max_length)
  if 0 < limit < len(train):
    train = train.take(np.random.default_rng(seed).permutation(len(train))[:limit])
  return Task(
    name='corpus',
    kind='lm',
    num_labels=0,
    train=train,
    evals={
      split: chunks(read(split, source, data_dir), tokenizer, max_length)
      for split in evals or ('dev',)
    },
    metric='loss',
    higher_is_better=False,
    score=None,
  )


def chunks(texts: Iterable[str], tokenizer: Tokenizer, max_length: int) -> Dataset:
  """Sequences of `max_length` tokens, each an end token and what follows: every token a target.

  Texts are joined, an end token after each, and cut wherever a sequence is full; the last one may
  be shorter. Tokens see those of earlier texts in their sequence.

  Raises:
    ValueError: if there is no room for a token after the first one.
  """
  if max_length < 2:
    raise ValueError(f'max_length must be at least 2 for a corpus, found {max_length}')
  eos = np.array([tokenizer.eos_id], np.int32)
  stream = [part for ids in tokenizer.encode(list(texts)) for part in (ids, eos)]
  tokens = np.concatenate(stream) if stream else eos[:0]
  ids = [
    np.concatenate([eos, tokens[begin : begin + max_length - 1]])
    for begin in range(0, len(tokens), max_length - 1)
  ]
  return Dataset(ids=ids, target_starts=np.ones(len(ids), np.int32))


def read(split: str, source: str, data_dir: str) -> list[str]:
  """The texts of a split: the articles of WikiText-2, then the entries of WebNLG with a good text.

  Raises:
    ValueError: for an unknown split, or files that are not as expected, naming file and line.
    FileNotFoundError: if the files are not there, naming the places looked at.
  """
  sources.check_files('corpus', source, 'wikitext-2.zip and webnlg-2017.zip')
  sources.check_split('corpus', split, SPLITS)
  found = articles(sources.find_text(data_dir, ('wikitext-2.zip',), SPLITS[split]))
  entries = webnlg.read(split, source, data_dir)
  return found + [_entry(entry) for entry in entries if entry.references]


def articles(file: sources.Text) -> list[str]:
  """The articles of a file of WikiText-2, a blank line between paragraphs and headings.

  Raises:
    ValueError: if the file does not begin with the title of an article.
  """
  lines = file.text.split('\n')
  found: list[list[str]] = []
  for i, line in enumerate(lines):
    if not line.strip():
      continue
    # A title stands alone; ` = Played , W = ` inside a table's legend does not.
    alone = not ''.join(lines[max(i - 1, 0) : i] + lines[i + 1 : i + 2]).strip()
    if alone and re.fullmatch(r' = [^=].* = ', line):
      found.append([])
    if not found:
      raise ValueError(
        f'{file.name}, line {i + 1}: expected the title of an article ( = Title = ) between blank '
        f'lines, found {line[:60]!r}. Is it WikiText-2 as its makers tokenised it?'
      )
    found[-1].append(_paragraph(line))
  return ['\n\n'.join(paragraphs) for paragraphs in found]


def train_tokenizer(data_dir: str, vocab_size: int = 8192) -> Tokenizer:
  """A byte-level BPE trained on the training split alone: E2E's words are as rare as they are."""
  return tokenizers.train_byte_level(read('train', 'files', data_dir), vocab_size, 'corpus')


def _entry(entry: webnlg.Entry) -> str:
  """An entry of WebNLG: its triples, `_` for a space no more, and its texts, as paragraphs."""
  paragraphs = (entry.context.replace('_', ' '), *entry.references)
  return '\n\n'.join(' ' + e2e.tokenize(paragraph) for paragraph in paragraphs)


def _paragraph(line: str) -> str:
  """A line of WikiText-2 in the form of E2E, beginning with a space."""
  if heading := re.fullmatch(r'(?: =)+ (.*?)(?: =)+ ', line):
    line = heading.group(1)
  line = line.replace(' @-@ ', ' - ').replace(' @,@ ', ',').replace(' @.@ ', '.')
  line = line.replace('<unk>', '_')
  return ' ' + re.sub(r"(?<=\w)n 't\b", " n't", line.strip())
