"""Plain text to pretrain a small GPT-2 on: WikiText-2 and WebNLG, never E2E or DART.

All of it is in the form of E2E's references: spaces around punctuation, `family - friendly`,
`10,000`, `do n't`, `£ 30`. WikiText-2 is nearly so already; its ` @-@ ` becomes ` - `, ` @,@ ` and
` @.@ ` are closed, and `<unk>` becomes `_`, one token in place of three. A small model has too
little text to learn two forms, and this is the form that it will have to write.

A text begins with a space, as a reference does after its context, and so does each paragraph of an
article: the blank line between them is then one token, as in GPT-2's vocabulary. Texts are
concatenated, with the end token between them, and cut into sequences of one length.

An entry of WebNLG is one text: its triples are the first paragraph and each lexicalization is a
further one. This teaches to copy the names of a list into sentences, which GPT-2 learned from the
web and which prose alone does not teach. One epoch is too little to learn it: on such a base LoRA
stays far behind full fine-tuning on E2E (results/weak-base.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from lora_jax.data import e2e, fast_tokenizer, sources, webnlg
from lora_jax.data.dataset import Dataset, Request, Task
from lora_jax.data.tokenizer import Tokenizer

GENERAL = 'general'  # The split of text that is of no task.
SPLITS = {
  'train': 'wikitext-2/train.txt',
  'dev': 'wikitext-2/valid.txt',
  'test': 'wikitext-2/test.txt',
}


def load(name: str, request: Request) -> Task:
  """The corpus as a task of sequences of `max_length` tokens, without prompts; see `load_task`."""

  def sequences(split: str) -> Dataset:
    texts = read(split, request.source, request.data_dir)
    return chunks(texts, request.tokenizer, request.max_length)

  train = sequences('train')
  return Task(
    name=name,
    kind='lm',
    num_labels=0,
    train=train.take(request.training_indices(len(train))),
    evals={split: sequences(split) for split in request.evals or ('dev',)},
    metric='loss',
    higher_is_better=False,
    score=None,
  )


def with_general(task: Task, request: Request, count: int) -> Task:
  """A language model's task with a further held-out split: text to see what is forgotten by.

  Args:
    task: any of a language model.
    request: what it was read with; its folder of data holds WikiText-2, too.
    count: sequences of `max_length` tokens, from the start of the articles of WikiText-2's dev set.

  Raises:
    ValueError: for a task of another kind, and for a malformed file.
    FileNotFoundError: if the file is not there, naming the places looked at.
  """
  if task.kind != 'lm':
    raise ValueError(
      f'{task.name} is a {task.kind}: config.eval.general_text is of language models. Set it to 0.'
    )
  found: list[str] = []
  missing = count * (request.max_length - 1)
  for text in articles(sources.find_text(request.data_dir, ('wikitext-2.zip',), SPLITS['dev'])):
    if missing <= 0:
      break
    found.append(text)
    missing -= len(request.tokenizer.encode([text])[0]) + 1
  general = chunks(found, request.tokenizer, request.max_length)
  return task._replace(evals={**task.evals, GENERAL: general.take(range(min(count, len(general))))})


def chunks(texts: Iterable[str], tokenizer: Tokenizer, max_length: int) -> Dataset:
  """Sequences of `max_length` tokens that begin with an end token; all others are targets.

  Texts are joined, an end token after each, and cut wherever a sequence is full; the last sequence
  may be shorter. Tokens attend to those of earlier texts in their sequence.

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
    ValueError: for an unknown split or a malformed file, naming file and line.
    FileNotFoundError: if the files are not there, naming the places looked at.
  """
  sources.check_files('corpus', source, 'wikitext-2.zip and webnlg-2017.zip')
  sources.check_split('corpus', split, SPLITS)
  found = articles(sources.find_text(data_dir, ('wikitext-2.zip',), SPLITS[split]))
  entries = webnlg.read(split, source, data_dir)
  return found + [_entry(entry) for entry in entries if entry.references]


def articles(file: sources.Text) -> list[str]:
  """The articles of a file of WikiText-2, with a blank line between paragraphs and headings.

  Raises:
    ValueError: if the file does not begin with the title of an article.
  """
  lines = [line.removesuffix('\r') for line in file.text.split('\n')]
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
        f'lines, found {line[:60]!r}. Is it WikiText-2 as its makers tokenized it?'
      )
    found[-1].append(_paragraph(line))
  if not found:
    raise ValueError(f'{file.name}: expected articles, found an empty file')
  return ['\n\n'.join(paragraphs) for paragraphs in found]


def train_tokenizer(data_dir: str, vocab_size: int = 8192) -> Tokenizer:
  """Trains a byte-level BPE on the training split alone, so E2E's words stay as rare as there."""
  return fast_tokenizer.train_byte_level(read('train', 'files', data_dir), vocab_size, 'corpus')


def _entry(entry: webnlg.Entry) -> str:
  """An entry of WebNLG as paragraphs: its triples, with spaces in place of `_`, and its texts."""
  paragraphs = (entry.context.replace('_', ' '), *entry.references)
  return '\n\n'.join(' ' + e2e.tokenize(paragraph) for paragraph in paragraphs)


def _paragraph(line: str) -> str:
  """A line of WikiText-2 in the form of E2E, beginning with a space."""
  if heading := re.fullmatch(r'(?: =)+ (.*?)(?: =)+ ', line):
    line = heading.group(1)
  line = line.replace(' @-@ ', ' - ').replace(' @,@ ', ',').replace(' @.@ ', '.')
  line = line.replace('<unk>', '_')
  return ' ' + re.sub(r"(?<=\w)n 't\b", " n't", line.strip())
