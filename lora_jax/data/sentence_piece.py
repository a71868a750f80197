"""DeBERTa-v2's tokenizer: the `spm.model` of the `sentencepiece` library and its special tokens."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np

from lora_jax import extras
from lora_jax.data.tokenizer import Tokenizer, check_room

SPECIAL = ('[PAD]', '[CLS]', '[SEP]', '[UNK]', '[MASK]')


class SentencePiece(Tokenizer):
  """Text to int32 ids and back, as transformers' slow tokenizer of DeBERTa-v2.

  A special token that a file lacks, `[MASK]` in all that are published, gets the next free id.
  Unlike there, the name of a special token in a text is text.

  Raises:
    ValueError: if the file has no `[CLS]`, `[SEP]` or `[UNK]`.
    RuntimeError: the library's own, if the file is not one of its models.
  """

  def __init__(self, model: bytes, name: str, *, lowercase: bool = False):
    extras.require('sentencepiece')
    import sentencepiece  # Imported here because only DeBERTa needs it.

    self.backend = sentencepiece.SentencePieceProcessor(model_proto=model)
    self.name = name
    self._lowercase = lowercase
    pieces = self.backend.get_piece_size()
    known = {self.backend.id_to_piece(i): i for i in range(pieces)}
    if missing := [token for token in ('[CLS]', '[SEP]', '[UNK]') if token not in known]:
      raise ValueError(f'no {", ".join(missing)} among {pieces} pieces')
    added = [token for token in SPECIAL if token not in known]
    self._special = {token: known[token] for token in SPECIAL if token in known}
    self._special |= {token: pieces + i for i, token in enumerate(added)}

  @property
  def vocab_size(self) -> int:
    return max(self.backend.get_piece_size() - 1, *self._special.values()) + 1

  @property
  def eos_id(self) -> int:
    """`[SEP]`."""
    return self._special['[SEP]']

  def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
    plain = [text.lower() if self._lowercase else text for text in texts]
    return [np.array(ids, np.int32) for ids in self.backend.encode(plain)]

  def id_of(self, token: str) -> int | None:
    if token in self._special:
      return self._special[token]
    found = self.backend.piece_to_id(token)
    return found if self.backend.id_to_piece(found) == token else None

  def encode_pairs(
    self, first: Sequence[str], second: Sequence[str] | None = None, *, max_length: int
  ) -> tuple[list[np.ndarray], list[np.ndarray]]:
    special = 2 if second is None else 3
    check_room(max_length, special)
    start, end = ([self._special[token]] for token in ('[CLS]', '[SEP]'))
    none = [np.zeros(0, np.int32)] * len(first)
    ids, types = [], []
    for a, b in zip(self.encode(first), none if second is None else self.encode(second)):
      keep, other = _cut(len(a), len(b), max_length - special)
      head = [*start, *a[:keep], *end]
      tail = [] if second is None else [*b[:other], *end]
      ids.append(np.array(head + tail, np.int32))
      types.append(np.repeat(np.array([0, 1], np.int32), [len(head), len(tail)]))
    return ids, types

  def decode(self, ids: Sequence[int] | np.ndarray, skip_special: bool = True) -> str:
    # Single spaces separate words; a special token is a word of its own.
    names = {token_id: token for token, token_id in self._special.items()}
    runs: list[list[int]] = [[]]
    words = []
    for i in map(int, ids):
      if i not in names:
        runs[-1].append(i)
      elif not skip_special:
        words += [self.backend.decode(runs[-1]), names[i]]
        runs.append([])
    words.append(self.backend.decode(runs[-1]))
    return ' '.join(word for word in words if word).strip()

  def save(self, folder: str | pathlib.Path) -> None:
    # `spm.model`, and whether to lower-case, which it does not hold.
    path = pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    (path / 'spm.model').write_bytes(self.backend.serialized_model_proto())
    lowercase = str(self._lowercase).lower()
    (path / 'tokenizer_config.json').write_text(
      f'{{"do_lower_case": {lowercase}}}\n', encoding='utf-8'
    )


def _cut(first: int, second: int, room: int) -> tuple[int, int]:
  """Lengths of two texts truncated to `room` tokens together.

  Tokens are taken one by one from the end of the longer text, or of the second if both are equal.
  """
  over = max(first + second - room, 0)
  ahead = min(over, max(first - second, 0))
  behind = min(over, max(second - first, 0))
  over -= ahead + behind
  return first - ahead - over // 2, second - behind - (over + 1) // 2
