"""Text for the demo: meaning representations and sentences, in the form of E2E, from no file.

A small GPT-2 is pretrained on all domains but one and adapted to that one. Of that one it has read
plain sentences, never a meaning representation, as GPT-2 had read about restaurants before E2E:
factors on query and value cannot teach a tied embedding a new vocabulary. What can be learned:
which phrases say which value, in which order, and how sentences are joined; what cannot: the choice
among phrases, which sets a floor on the loss.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from lora_jax.data import data_to_text, sources
from lora_jax.data.data_to_text import Example
from lora_jax.data.dataset import Task
from lora_jax.data.domains import DOMAINS as DOMAINS
from lora_jax.data.domains import HELD_OUT as HELD_OUT
from lora_jax.data.domains import Domain, Slot
from lora_jax.data.tokenizers import Tokenizer, train_byte_level

PRETRAIN = tuple(name for name in DOMAINS if name != HELD_OUT)
TRAIN_ROWS, DEV_ROWS = 2000, 300  # of each domain
SPLITS = ('train', 'dev', 'test')
_SEEDS = {'train': 0, 'dev': 1, 'test': 2, 'text': 3}


def load(
  name: str,
  tokenizer: Tokenizer,
  max_length: int,
  limit: int = 0,
  seed: int = 0,
  evals: Sequence[str] = (),
) -> Task:
  """A domain, or `pretrain` for all but the held-out one, as a task; see `load_task`.

  The rows are the same for every run's seed, which chooses only which of them `limit` keeps.
  """
  for split in evals:
    sources.check_split('synthetic', split, SPLITS)
  return data_to_text.task(
    f'synthetic/{name}',
    rows(name, 'train'),
    {split: rows(name, split) for split in evals or ('dev',)},
    tokenizer,
    scoring='synthetic',
    max_length=max_length,
    limit=limit,
    seed=seed,
  )


def rows(name: str, split: str) -> list[Example]:
  """The rows of a split. No context of `dev` or `test` occurs in `train`.

  `pretrain` trains on plain text of the held-out domain besides, and is not evaluated on it.
  """
  found = plain_text(HELD_OUT, TRAIN_ROWS) if (name, split) == ('pretrain', 'train') else []
  for domain in PRETRAIN if name == 'pretrain' else (name,):
    train = generate(_SEEDS['train'], domain, TRAIN_ROWS)
    if split == 'train':
      found += train
      continue
    seen = {row.context for row in train}
    more = generate(_SEEDS[split], domain, 2 * DEV_ROWS)
    found += [row for row in more if row.context not in seen][:DEV_ROWS]
  return found


def generate(seed: int, domain: str, n: int) -> list[Example]:
  """n rows of a domain: a pure function of its arguments, and of more rows the first ones."""
  rng = np.random.default_rng([seed, zlib.crc32(domain.encode())])
  return [_example(rng, DOMAINS[domain]) for _ in range(n)]


def plain_text(domain: str, n: int) -> list[Example]:
  """n sentences of a domain that say what no row of `dev` or `test` says, without their meaning."""
  held_out = {row.context for split in ('dev', 'test') for row in rows(domain, split)}
  new = [row for row in generate(_SEEDS['text'], domain, 2 * n) if row.context not in held_out]
  return [Example('text', row.reference) for row in new[:n]]


def _example(rng: np.random.Generator, domain: Domain) -> Example:
  name = f'{_pick(rng, domain.first)} {_pick(rng, domain.last)}'
  slots = list(domain.slots)
  kept = sorted(rng.permutation(len(slots))[: rng.integers(2, min(5, len(slots)) + 1)])
  values = {slots[i]: _pick(rng, _values(domain.slots[slots[i]])) for i in kept}
  context = ' | '.join(f'{slot} : {value}' for slot, value in {'name': name, **values}.items())
  # Mostly in the order of the slots; now and then one comes early.
  order = list(values)
  if rng.random() < 0.4:
    order.insert(0, order.pop(rng.integers(len(order))))
  phrases = [_pick(rng, _phrases(domain.slots[slot], values[slot])) for slot in order]
  return Example(context, _join(rng, domain, name, phrases))


def _join(rng: np.random.Generator, domain: Domain, name: str, phrases: list[str]) -> str:
  """One or more sentences that say the phrases of `name` in their order."""
  text = _pick(rng, domain.openings).format(name=name, phrase=phrases[0])
  in_sentence = 1
  for phrase in phrases[1:]:
    if in_sentence == 2 or rng.random() < 0.4:
      text += f' . {_pick(rng, domain.again).capitalize()} {phrase}'
      in_sentence = 1
    else:
      text += f' and {phrase}'
      in_sentence += 1
  return f'{text[0].upper()}{text[1:]} .'


def _values(slot: Slot) -> Sequence[str]:
  return slot[0] if isinstance(slot, tuple) else list(slot)


def _phrases(slot: Slot, value: str) -> Sequence[str]:
  return [p.format(value) for p in slot[1]] if isinstance(slot, tuple) else slot[value]


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
  return options[rng.integers(len(options))]


def train_tokenizer(vocab_size: int = 1024) -> Tokenizer:
  """A byte-level BPE trained on every domain, the held-out one included, so that it has its words.

  The vocabulary is that of a pretrained model: it has seen the words of the new domain, if not the
  domain.
  """
  rows_of_all = [row for name in DOMAINS for row in generate(_SEEDS['train'], name, 1000)]
  texts = (text for row in rows_of_all for text in row)
  return train_byte_level(texts, vocab_size, 'synthetic')
