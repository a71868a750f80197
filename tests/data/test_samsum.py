"""SAMSum's chats, in the official format."""

import json

import pytest

from lora_jax.data import samsum

CHAT = {'id': '1', 'summary': 'Ann is\nlate.', 'dialogue': 'Ann: Sorry!\r\nBob:  No problem'}


def test_a_chat_without_utterances_is_left_out(tmp_path):
  (tmp_path / 'val.json').write_text(json.dumps([CHAT, CHAT | {'dialogue': ' '}]))
  chat = ('Ann: Sorry!\nBob: No problem\n\n', 'Ann is late.')
  assert samsum.read('dev', 'files', tmp_path) == [chat]


def test_what_is_missing_is_named(tmp_path):
  (tmp_path / 'val.json').write_text(json.dumps([CHAT | {'summary': ''}]))
  with pytest.raises(ValueError, match=r'val\.json, chat 1, summary: expected a text'):
    samsum.read('dev', 'files', tmp_path)
  (tmp_path / 'val.json').write_text('[]')
  with pytest.raises(ValueError, match='expected chats, found none in 0'):
    samsum.read('dev', 'files', tmp_path)
