"""Renders chats by a tokenizer's own template, in a process of its own: the template is untrusted.

`lora_jax/data/chat.py` starts this file as a script. It reads lines of JSON, first the template and
its variables, then a chat on each line, and writes a line for each chat: the text before the reply,
and the whole text. Jinja's sandbox keeps a template from the interpreter and the disk; the process
bounds its memory and time. What the template sees is what transformers gives it, except today's
date (`strftime_now`): a run that is resumed tomorrow reads the same texts.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from typing import TextIO

MEMORY = 1 << 30  # Bytes of address space.
MOST = 1 << 20  # Characters of a rendered chat.

Message = dict[str, object]


def main(source: TextIO, out: TextIO) -> None:
  """Renders the chats of `source` until one fails, whose line is `{"error": ...}`."""
  first = json.loads(source.readline())
  try:
    render = compiled(first['template'], first['variables'])
    for line in source:
      found = parts(render, json.loads(line))
      print(json.dumps(found), file=out, flush=True)
  except Exception as error:  # A template raises anything.
    print(json.dumps({'error': f'{type(error).__name__}: {error}'[:500]}), file=out, flush=True)


def parts(render: Callable[[list[Message], bool], str], chat: list[Message]) -> dict[str, str]:
  """The text before the last message, with the opening of a reply, and the text of all messages."""
  found = {'before': render(chat[:-1], True), 'whole': render(chat, False)}
  if max(map(len, found.values())) > MOST:
    raise ValueError(f'a chat becomes more than {MOST} characters')
  return found


def compiled(template: str, variables: dict[str, str]) -> Callable[[list[Message], bool], str]:
  """`render(messages, add_generation_prompt)` of a template, as transformers compiles it."""
  import jinja2
  from jinja2 import ext, nodes, parser, sandbox

  class Generation(ext.Extension):
    """Reads `{% generation %}`, which marks a reply and changes no text."""

    tags = {'generation'}  # noqa: RUF012

    def parse(self, parser: parser.Parser) -> list[nodes.Node]:
      next(parser.stream)
      return parser.parse_statements(('name:endgeneration',), drop_needle=True)

  def fail(message: str) -> str:
    raise jinja2.TemplateError(message)

  def to_json(value: object, ensure_ascii: bool = False, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)

  environment = sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
  )
  environment.filters['tojson'] = to_json
  ready = environment.from_string(template)
  return lambda messages, opening: ready.render(
    messages=messages,
    tools=None,
    documents=None,
    add_generation_prompt=opening,
    raise_exception=fail,
    **variables,
  )


if __name__ == '__main__':
  resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
  resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # It writes no file.
  main(sys.stdin, sys.stdout)
