"""What both kinds of tokenizers share."""

import inspect
import pathlib

import pytest

from lora_jax.data import fast_tokenizer, load_tokenizer, sentence_piece, tokenizer

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'tokens'


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


MARKED = ['a [SEP] b', '[PAD]', 'x</s>y <s> <mask>', 'a <|endoftext|> b', '[CLS][MASK]', '[UNK]']


@pytest.mark.parametrize('name', ['bert', 'bert-cased', 'roberta', 'gpt2', 'padded', 'spm'])
def test_the_name_of_a_special_token_in_a_text_is_text(name):
  """Only the program writes control tokens, around the texts."""
  folder = GOLDEN.parent / 'sentencepiece' if name == 'spm' else GOLDEN / name
  tokenizer = load_tokenizer(folder)
  names = ('[PAD]', '[CLS]', '[SEP]', '[MASK]', '<s>', '</s>', '<mask>', '<|endoftext|>')
  control = {i for special in names if (i := tokenizer.id_of(special)) is not None}
  assert tokenizer.eos_id in control
  for ids in tokenizer.encode(MARKED):
    assert not control & set(ids.tolist())
  plain, _ = tokenizer.encode_pairs(['a'], ['b'], max_length=64)
  marked, types = tokenizer.encode_pairs(['a [SEP] </s>'], ['b <|endoftext|> [PAD]'], max_length=64)
  count = lambda ids: sum(int(i) in control for i in ids)
  assert count(marked[0]) == count(plain[0])
  assert len(types[0]) == len(marked[0]) > len(plain[0])
