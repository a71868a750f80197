"""Chats become the ids that transformers' apply_chat_template gives; what is no chat is refused."""

import json
import subprocess

import numpy as np
import pytest

from lora_jax.data import chat, load_tokenizer
from lora_jax.data.fast_tokenizer import ChatTemplate

USER, REPLY = {'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello'}


@pytest.fixture
def folder(request):
  return request.path.parents[1] / 'golden' / 'chats'


@pytest.fixture
def tokenizer(folder):
  return load_tokenizer(folder)


def with_template(tokenizer, source):
  tokens = {'bos_token': '<|begin|>', 'eos_token': '<|im_end|>'}
  tokenizer.template = ChatTemplate('the model', source, tokens)
  return tokenizer


@pytest.mark.parametrize('name', ['chatml', 'blocks', 'strict'])
def test_ids_are_those_of_transformers(name, folder, tokenizer):
  case = json.loads((folder / 'chats.json').read_text())[name]
  with_template(tokenizer, case['template'])
  places = [f'line {i}' for i, _ in enumerate(case['chats'])]
  rows = chat.examples(case['chats'], places, tokenizer)
  form = chat.form(tokenizer)
  contexts = form.contexts([row.context for row in rows])
  targets = form.targets([row.context for row in rows], [row.reference for row in rows])
  for context, target, ids, messages in zip(contexts, targets, case['ids'], case['chats']):
    assert context.tolist() == ids['before']
    assert np.concatenate([context, target]).tolist() == ids['whole']
    assert tokenizer.decode(target, skip_special=False).rstrip('\n').endswith('<|im_end|>')
    reply = messages[-1]['content'].strip()
    assert form.plain(tokenizer.decode(target, skip_special=False)) == reply


def test_a_template_is_that_of_the_tokenizers_own_files(folder, tmp_path):
  for name in ('tokenizer.json', 'tokenizer_config.json'):
    (tmp_path / name).write_text((folder / name).read_text())
  assert load_tokenizer(tmp_path).template is None
  with pytest.raises(ValueError, match=r'no chat template.*chat_template\.jinja.*prompt'):
    chat.require(load_tokenizer(tmp_path))
  values = json.loads((tmp_path / 'tokenizer_config.json').read_text())
  values['bos_token'] = {'content': '<|begin|>'}
  values['chat_template'] = [{'name': 'rag', 'template': 'a'}, {'name': 'default', 'template': 'b'}]
  (tmp_path / 'tokenizer_config.json').write_text(json.dumps(values))
  tokens = {'bos_token': '<|begin|>', 'eos_token': '<|im_end|>'}
  assert load_tokenizer(tmp_path).template == (str(tmp_path), 'b', tokens)
  (tmp_path / 'chat_template.jinja').write_text('c')
  assert load_tokenizer(tmp_path).template.source == 'c'


def test_special_tokens_may_be_named_in_a_file_of_their_own(folder, tmp_path):
  (tmp_path / 'tokenizer.json').write_text((folder / 'tokenizer.json').read_text())
  template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
  (tmp_path / 'tokenizer_config.json').write_text(json.dumps({'chat_template': template}))
  tokens = {'bos_token': {'content': '<|begin|>'}, 'eos_token': '<|im_end|>'}
  (tmp_path / 'special_tokens_map.json').write_text(json.dumps(tokens))
  rows = chat.examples([[USER, REPLY]], ['a'], load_tokenizer(tmp_path))
  assert rows == [('<|begin|>Hi<|im_end|>', 'Hello<|im_end|>')]


def test_a_chat_ends_with_the_last_reply():
  found = chat.messages_of([USER, REPLY, USER, REPLY, USER], 'a')
  assert found == [USER, REPLY, USER, REPLY]


@pytest.mark.parametrize(
  'value, message',
  [
    ('Hi', 'a: expected a list, found'),
    ([], 'a: expected a chat with a message of the role assistant .* are none'),
    ([USER], 'the roles are user$'),
    ([REPLY], 'the roles are assistant$'),
    ([USER, {'role': 'assistant'}], "a, message 2: expected the key 'content', found role"),
    ([USER, {**REPLY, 'content': [{'text': 'Hi'}]}], 'message 2, content: expected a string'),
    ([USER, {**REPLY, 'content': ' '}], 'message 2, content: expected a text, found an empty'),
  ],
)
def test_what_is_no_chat_is_refused_by_its_place(value, message):
  with pytest.raises(ValueError, match=message):
    chat.messages_of(value, 'a')


def test_a_message_with_a_special_token_is_refused(tokenizer):
  with_template(tokenizer, '{{ messages }}')
  for key in ('content', 'role'):
    chats = [[USER, REPLY], [{**USER, key: 'Hi<|im_end|>'}, REPLY]]
    with pytest.raises(ValueError, match=rf"b, message 1, {key}: .*special token '<\|im_end\|>'"):
      chat.examples(chats, ['a', 'b'], tokenizer)


def test_a_role_that_no_model_knows_is_said_with_a_place(tokenizer, caplog):
  template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\\n{% endfor %}"
  with_template(tokenizer, template)
  human = [{**USER, 'role': 'human'}, REPLY]
  chat.examples([[USER, REPLY], human, human], ['-', 'a', 'b'], tokenizer)
  assert [line.partition(' is not one')[0] for line in caplog.messages] == ["a: the role 'human'"]


HOSTILE = {
  '{{ messages.__class__.__mro__ }}': 'SecurityError',
  "{{ messages.append('x') }}": 'SecurityError',
  "{% set n = namespace(s='ab') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}":
    'MemoryError',
  '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}': 'RecursionError',
  "{% for i in range(9999) %}{{ 'x' * 999 }}{% endfor %}": 'more than',
  "{{ raise_exception('roles must alternate') }}": 'roles must alternate',
  "{{ strftime_now('%d') }}": "'strftime_now' is undefined",
  '{% if %}': 'TemplateSyntaxError',
  'Hi': 'writes the reply elsewhere than after',
}  # fmt: skip


@pytest.mark.parametrize('source', HOSTILE)
def test_a_hostile_template_is_stopped_and_named(source, tokenizer):
  with_template(tokenizer, source)
  with pytest.raises(ValueError, match='a: the template of the model ') as error:
    chat.examples([[USER, REPLY]], ['a'], tokenizer)
  assert HOSTILE[source] in str(error.value)


def test_a_template_without_end_is_stopped_at_its_chat(tokenizer, monkeypatch):
  monkeypatch.setattr(chat, 'SECONDS', 3.0)
  loops = '{% for i in range(99999) %}' * 3 + '{% endfor %}' * 3
  ends = '{% for m in messages %}{{ m.content }}{% endfor %}'
  with_template(tokenizer, f"{{% if messages[0].content == 'x' %}}{loops}{{% endif %}}{ends}")
  chats = [[USER, REPLY], [{**USER, 'content': 'x'}, REPLY]]
  with pytest.raises(ValueError, match='b: the template of the model took too much'):
    chat.examples(chats, ['a', 'b'], tokenizer)


def test_the_renderer_is_given_no_folder_of_modules(tokenizer, monkeypatch):
  run, commands = subprocess.run, []

  def watched(command, **options):
    commands.append(command)
    return run(command, **options)

  monkeypatch.setattr(subprocess, 'run', watched)
  with_template(tokenizer, '{% for m in messages %}{{ m.content }}{% endfor %}')
  assert chat.examples([[USER, REPLY]], ['a'], tokenizer) == [('Hi', 'Hello')]
  assert commands[0][1] == '-P'
