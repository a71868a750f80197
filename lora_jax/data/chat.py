"""Chats as rows for a language model, by the template of the model's own tokenizer.

The context is all before the last reply of the assistant, with the opening of that reply; the
target is the reply with the token that ends it. Earlier replies are context: a chat is what stood
before the reply that is learned. What follows the last reply is left out.
"""

from __future__ import annotations

import json
import logging
import pathlib
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from lora_jax import extras
from lora_jax.data import chat_renderer, sources
from lora_jax.data.data_to_text import Example, Form
from lora_jax.data.fast_tokenizer import ChatTemplate, FastTokenizer
from lora_jax.data.tokenizer import Tokenizer

ROLES = ('system', 'developer', 'user', 'assistant', 'tool', 'function', 'ipython')
SECONDS, SECONDS_EACH = 20.0, 0.02  # What rendering may take, and more for each chat.


class Rendered(TypedDict, total=False):
  """A line of the renderer: a chat's texts, or what went wrong."""

  before: str
  whole: str
  error: str


def messages_of(value: object, where: str) -> list[chat_renderer.Message]:
  """The messages of a chat up to the last of the assistant, checked.

  Raises:
    ValueError: beginning with `where`, for another value than a list of messages with the texts
      `role` and `content`, or no message of the assistant after another one.
  """
  given, found = sources.expect(value, list, where), []
  for i, message in enumerate(given, start=1):
    for key in ('role', 'content'):
      sources.get(message, key, str, f'{where}, message {i}')
    found.append(message)
  while found and found[-1]['role'] != 'assistant':
    found.pop()
  if len(found) < 2:
    raise ValueError(
      f'{where}: expected a chat with a message of the role assistant after another one; the roles '
      f'are {", ".join(str(message["role"]) for message in given) or "none"}'
    )
  sources.get_text(found[-1], 'content', f'{where}, message {len(found)}')
  return found


def require(tokenizer: Tokenizer) -> tuple[FastTokenizer, ChatTemplate]:
  """A tokenizer that has a template, and the template.

  Raises:
    ValueError: if it has none, saying what to do.
  """
  if not isinstance(tokenizer, FastTokenizer) or tokenizer.template is None:
    raise ValueError(
      f'{tokenizer.name}: its tokenizer has no chat template, which messages need: take the '
      'instruction-tuned model of the family, or put its chat_template.jinja into a folder with '
      'the tokenizer (--config.data.tokenizer), or write the chats as prompt and completion'
    )
  return tokenizer, tokenizer.template


def examples(
  chats: Sequence[list[chat_renderer.Message]], where: Sequence[str], tokenizer: Tokenizer
) -> list[Example]:
  """A row for each chat.

  Args:
    chats: as `messages_of` gives them.
    where: the place of each, for errors.
    tokenizer: a tokenizer with a template.

  A role that is not one of `ROLES` is said.

  Raises:
    ValueError: if there is no template; if it fails or takes too long; naming the place, if a
      message holds a special token, which would end it or open another one.
  """
  known, template = require(tokenizer)
  special = re.compile('|'.join(map(re.escape, known.special_tokens)) or '(?!)')
  for chat, place in zip(chats, where):
    for i, message in enumerate(chat, start=1):
      for key in ('role', 'content'):
        if found := special.search(str(message[key])):
          raise ValueError(f'{place}, message {i}, {key}: holds the special token {found[0]!r}')
  first_last = reversed(list(zip(chats, where)))  # The place that stays is a role's first one.
  others = {str(message['role']): place for chat, place in first_last for message in chat}
  for role in sorted(others.keys() - set(ROLES)):
    logging.warning(
      '%s: the role %r is not one of %s: the template writes it as it is, and a model may not '
      'know it',
      *(others[role], role, ', '.join(ROLES)),
    )
  rows = []
  for i, texts in enumerate(_render(chats, template)):
    if 'error' in texts:
      raise ValueError(f'{where[i]}: the template of {template.name} failed ({texts["error"]})')
    before, whole = texts['before'], texts['whole']
    if not whole.startswith(before) or whole == before:
      raise ValueError(
        f'{where[i]}: the template of {template.name} writes the reply elsewhere than after '
        f'{before[-60:]!r}: {whole[-80:]!r}'
      )
    rows.append(Example(before, whole.removeprefix(before)))
  if len(rows) < len(chats):
    raise ValueError(
      f'{where[len(rows)]}: the template of {template.name} took too much time or memory'
    )
  return rows


def form(tokenizer: Tokenizer) -> Form:
  """Rows whose texts hold special tokens: the names of these are the tokens."""
  known, _ = require(tokenizer)
  special = re.compile('|'.join(map(re.escape, known.special_tokens)) or '(?!)')

  def contexts(texts: Sequence[str]) -> list[np.ndarray]:
    with known.marked():
      return known.encode(texts)

  def targets(before: Sequence[str], texts: Sequence[str]) -> list[np.ndarray]:
    with known.marked():
      return known.encode_after(before, texts)

  return Form(contexts, targets, lambda text: special.sub('', text).strip())


def _render(chats: Sequence[list[chat_renderer.Message]], template: ChatTemplate) -> list[Rendered]:
  """The renderer's lines, fewer than chats if it was ended or failed at one."""
  extras.require('jinja2')
  first = {'template': template.source, 'variables': template.tokens}
  given = '\n'.join(json.dumps(line) for line in (first, *chats)) + '\n'
  # -P: the folder of the script is not one of modules.
  command = [sys.executable, '-P', str(pathlib.Path(chat_renderer.__file__))]
  try:
    done = subprocess.run(
      command,
      input=given.encode(),
      capture_output=True,
      timeout=SECONDS + SECONDS_EACH * len(chats),
    ).stdout
  except subprocess.TimeoutExpired as error:
    done = error.stdout or b''
  # What was written last may be half a line.
  return [json.loads(line) for line in done.decode().split('\n')[:-1]]
