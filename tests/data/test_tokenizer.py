"""What both kinds of tokenizers share."""

import inspect

import pytest

from lora_jax.data import fast_tokenizer, sentence_piece, tokenizer


@pytest.mark.parametrize('module', [fast_tokenizer, sentence_piece])
def test_every_kind_has_all_that_a_tokenizer_can_do_and_takes_the_same_arguments(module):
  kinds = [
    value
    for value in vars(module).values()
    if inspect.isclass(value)
    and issubclass(value, tokenizer.Tokenizer)
    and value is not tokenizer.Tokenizer
  ]
  assert kinds
  for kind in kinds:
    assert not kind.__abstractmethods__
    for name, method in vars(tokenizer.Tokenizer).items():
      if inspect.isfunction(method):
        ours, theirs = (inspect.signature(getattr(x, name)) for x in (kind, tokenizer.Tokenizer))
        assert list(ours.parameters) == list(theirs.parameters), name


def test_special_tokens_leave_room_for_text():
  tokenizer.check_room(4, 3)
  with pytest.raises(ValueError, match='max_length 3 leaves no room: 3 tokens are special'):
    tokenizer.check_room(3, 3)
