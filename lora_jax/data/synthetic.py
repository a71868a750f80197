"""Text for the demo: meaning representations and sentences in the form of E2E, made without files.

A small GPT-2 is pretrained on all domains but one and adapted to that one. Of the held-out domain
the pretrained model has read plain sentences, never a meaning representation, as GPT-2 had read
about restaurants before E2E: factors on query and value cannot teach a tied embedding a new
vocabulary. A model can learn which phrases say which value, in which order, and how sentences are
joined. It cannot learn the choice among phrases, which sets a floor on the loss.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from lora_jax.data import data_to_text, sources
from lora_jax.data.data_to_text import Example
from lora_jax.data.dataset import Request, Task
from lora_jax.data.domains import DOMAINS, HELD_OUT, Domain, Slot
from lora_jax.data.fast_tokenizer import train_byte_level
from lora_jax.data.tokenizer import Tokenizer

PRETRAIN = tuple(name for name in DOMAINS if name != HELD_OUT)
TRAIN_ROWS, DEV_ROWS = 2000, 300  # of each domain
SPLITS = ('train', 'dev', 'test')
_SEEDS = {'train': 0, 'dev': 1, 'test': 2, 'text': 3}


def load(name: str, request: Request) -> Task:
  """The task `synthetic/DOMAIN`, or `synthetic/pretrain` for all but the held-out domain.

  See `load_task`. The rows do not depend on a run's seed, which chooses only which of them `limit`
  keeps.
  """
  for split in request.evals:
    sources.check_split(name, split, SPLITS)
  domain = name.partition('/')[2]
  held_out = {split: rows(domain, split) for split in request.evals or ('dev',)}
  return data_to_text.task(name, rows(domain, 'train'), held_out, request, scoring='synthetic')


def rows(name: str, split: str) -> list[Example]:
  """The rows of a split. No context of `dev` or `test` occurs in `train`.

  The training split of `pretrain` also has plain text of the held-out domain; its other splits do
  not.
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
  """n rows of a domain, a pure function of the arguments; a larger n only adds rows at the end."""
  rng = np.random.default_rng([seed, zlib.crc32(domain.encode())])
  return [_example(rng, DOMAINS[domain]) for _ in range(n)]


def plain_text(domain: str, n: int) -> list[Example]:
  """n sentences of a domain, whose meanings occur neither in `dev` nor in `test`, by themselves."""
  held_out = {row.context for split in ('dev', 'test') for row in rows(domain, split)}
  new = [row for row in generate(_SEEDS['text'], domain, 2 * n) if row.context not in held_out]
  return [Example('text', row.reference) for row in new[:n]]


def _example(rng: np.random.Generator, domain: Domain) -> Example:
  name = f'{_pick(rng, domain.first)} {_pick(rng, domain.last)}'
  slots = list(domain.slots)
  kept = sorted(rng.permutation(len(slots))[: rng.integers(2, min(5, len(slots)) + 1)])
  values = {slots[i]: _pick(rng, _values(domain.slots[slots[i]])) for i in kept}
  context = ' | '.join(f'{slot} : {value}' for slot, value in {'name': name, **values}.items())
  # Slots are mostly mentioned in their order; now and then one is mentioned first.
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
  return options[int(rng.integers(len(options)))]


def train_tokenizer(vocab_size: int = 1024) -> Tokenizer:
  """Trains a byte-level BPE on every domain, the held-out one included.

  The vocabulary is then like that of a pretrained model, which knows the words of a new domain.
  """
  rows_of_all = [row for name in DOMAINS for row in generate(_SEEDS['train'], name, 1000)]
  texts = (text for row in rows_of_all for text in row)
  return train_byte_level(texts, vocab_size, 'synthetic')
