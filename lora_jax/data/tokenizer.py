"""What every tokenizer can do: `Tokenizer`."""

from __future__ import annotations

import abc
import pathlib
from collections.abc import Sequence

import numpy as np


class Tokenizer(abc.ABC):
  """Text to int32 ids and back.

  Attributes:
    name: the name that errors use, usually the folder that the tokenizer was read from.
  """

  name: str

  @property
  @abc.abstractmethod
  def vocab_size(self) -> int:
    """One more than the largest id."""

  @property
  @abc.abstractmethod
  def eos_id(self) -> int:
    """The token that ends a text, and a context: `<|endoftext|>` (GPT-2), else `</s>` or `[SEP]`.

    Raises:
      ValueError: if the vocabulary has none of them.
    """

  @abc.abstractmethod
  def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
    """int32 ids of each text, without special tokens, not truncated.

    Text is text: the name of a special token in it (`[SEP]`, `</s>`, `<|endoftext|>`) is encoded
    like any other characters, by `encode_pairs` as well. Hugging Face reads it as the token.
    """

  def encode_after(self, before: Sequence[str], texts: Sequence[str]) -> list[np.ndarray]:
    """As `encode`, of texts that each follow another one, without what only begins a text."""
    del before
    return self.encode(texts)

  @abc.abstractmethod
  def id_of(self, token: str) -> int | None:
    """The id of a token by its name, special or not; None if the vocabulary has no such token."""

  @abc.abstractmethod
  def encode_pairs(
    self, first: Sequence[str], second: Sequence[str] | None = None, *, max_length: int
  ) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """int32 ids and token types of texts or pairs, with special tokens, for an encoder.

    `[CLS] a [SEP] b [SEP]` with types 0 and 1 (BERT, DeBERTa), `<s> a </s></s> b </s>` with type 0
    alone (RoBERTa). Truncated to `max_length` tokens as Hugging Face's `longest_first` does.

    Raises:
      ValueError: if the special tokens leave no room for text.
    """

  @abc.abstractmethod
  def decode(self, ids: Sequence[int] | np.ndarray, skip_special: bool = True) -> str:
    """The text of ids."""

  @abc.abstractmethod
  def save(self, folder: str | pathlib.Path) -> None:
    """Writes the tokenizer's files into a folder, which is made if it does not exist."""


def check_room(max_length: int, special: int) -> None:
  """Raises a ValueError if `special` tokens leave no room for text in `max_length` tokens."""
  if max_length <= special:
    raise ValueError(f'max_length {max_length} leaves no room: {special} tokens are special')
