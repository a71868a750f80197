"""What the renderer's process reads and writes; tests/data/test_chat.py has what it is for."""

import io
import json

from lora_jax.data import chat_renderer

USER, REPLY = {'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello'}


def lines_of(template, *chats):
  out = io.StringIO()
  first = {'template': template, 'variables': {'bos_token': '<s>'}}
  chat_renderer.main(io.StringIO('\n'.join(map(json.dumps, (first, *chats)))), out)
  return [json.loads(line) for line in out.getvalue().splitlines()]


def test_each_chat_is_written_before_its_reply_and_as_a_whole():
  template = '{{ bos_token }}{{ messages | length }}{{ " :" if add_generation_prompt }}'
  found = lines_of(template, [USER, REPLY], [USER, REPLY, USER, REPLY])
  assert found == [{'before': '<s>1 :', 'whole': '<s>2'}, {'before': '<s>3 :', 'whole': '<s>4'}]


def test_a_template_sees_what_transformers_gives_it():
  seen = '{{ tools is none }}{{ documents is none }}{{ strftime_now is defined }}'
  assert lines_of(seen, [USER, REPLY])[0]['whole'] == 'TrueTrueFalse'
  quoted = '{{ {"a": "é<b>"} | tojson }}'
  assert lines_of(quoted, [USER, REPLY])[0]['whole'] == '{"a": "é<b>"}'


def test_the_first_failure_is_the_last_line():
  template = '{% if messages[0].content == "x" %}{{ raise_exception("no x") }}{% endif %}'
  found = lines_of(template, [USER, REPLY], [{**USER, 'content': 'x'}, REPLY], [USER, REPLY])
  assert [*found[0]] == ['before', 'whole']
  assert found[1:] == [{'error': 'TemplateError: no x'}]
