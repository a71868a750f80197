"""Makes tokens/: toy vocabularies, and what transformers' tokenizers make of texts with them.

python tests/golden/make_tokens.py        (transformers 5.23.0, tokenizers 0.23.3)
"""

import json
import pathlib
import shutil

import tokenizers
import transformers
from tokenizers import normalizers, pre_tokenizers, trainers

FOLDER = pathlib.Path(__file__).parent / 'tokens'
TEXTS = [
  'The quick brown fox jumps over the lazy dog .',
  "Our friends won't buy this analysis, let alone the next one we propose.",
  'Café Adriatic: prices start at £30 — or £20-25, they say.',
  'a',
  '',
  '  two  spaces, a\ttab and a\u2028separator  ',
  'Naïve coöperation; "unbalanced quotes',
  '日本語 and English, mixed 😀.',
  'Markers in the text: [SEP] </s> <|endoftext|> <mask> [MASK] end',
  'more one more pseudo generalization and unbelievably long words internationalization',
  'numbers 1234567890 3.14 10,000 and a_b c-d e/f',
]
PAIRS = [(a, b) for i, a in enumerate(TEXTS) for b in (TEXTS[i - 1], TEXTS[(i + 4) % len(TEXTS)])]
LENGTHS = (512, 24, 11)


def train(trainer, pre_tokenizer, normalizer=None):
  model = tokenizers.models.BPE if isinstance(trainer, trainers.BpeTrainer) else None
  backend = tokenizers.Tokenizer(model() if model else tokenizers.models.WordPiece())
  backend.pre_tokenizer = pre_tokenizer
  if normalizer:
    backend.normalizer = normalizer
  backend.train_from_iterator(TEXTS * 2, trainer)
  return backend


def write_vocabularies():
  shutil.rmtree(FOLDER, ignore_errors=True)
  for name in ('bert', 'bert-cased', 'roberta', 'gpt2'):
    (FOLDER / name).mkdir(parents=True)
  special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
  for name, lowercase in (('bert', True), ('bert-cased', False)):
    backend = train(
      trainers.WordPieceTrainer(vocab_size=220, special_tokens=special, show_progress=False),
      pre_tokenizers.BertPreTokenizer(),
      normalizers.BertNormalizer(lowercase=lowercase),
    )
    vocab = sorted(backend.get_vocab().items(), key=lambda item: item[1])
    (FOLDER / name / 'vocab.txt').write_text(''.join(f'{word}\n' for word, _ in vocab))
  for name, tokens in (
    ('roberta', ['<s>', '<pad>', '</s>', '<unk>', '<mask>']),
    ('gpt2', ['<|endoftext|>']),
  ):
    backend = train(
      trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=tokens,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
      ),
      pre_tokenizers.ByteLevel(add_prefix_space=False),
    )
    backend.model.save(str(FOLDER / name))


def main():
  write_vocabularies()
  loaded = {
    'bert': transformers.BertTokenizerFast.from_pretrained(FOLDER / 'bert'),
    'bert-cased': transformers.BertTokenizerFast.from_pretrained(
      FOLDER / 'bert-cased', do_lower_case=False
    ),
    'roberta': transformers.RobertaTokenizerFast.from_pretrained(FOLDER / 'roberta'),
    'gpt2': transformers.GPT2TokenizerFast.from_pretrained(FOLDER / 'gpt2'),
  }
  golden = {'transformers': transformers.__version__, 'texts': TEXTS, 'pairs': PAIRS}
  first, second = (list(column) for column in zip(*PAIRS))
  for name, tokenizer in loaded.items():
    golden[name] = {'plain': tokenizer(TEXTS, add_special_tokens=False)['input_ids']}
    if name == 'gpt2':
      continue
    for length in LENGTHS:
      options = dict(
        truncation='longest_first', max_length=length, padding=False, return_token_type_ids=True
      )
      for kind, texts in (('single', (TEXTS,)), ('pair', (first, second))):
        encoded = tokenizer(*texts, **options)
        golden[name][f'{kind}/{length}'] = [encoded['input_ids'], encoded['token_type_ids']]
  # tokenizer.json with truncation and padding switched on, as all-MiniLM-L6-v2 has it.
  folder = FOLDER / 'padded'
  folder.mkdir()
  backend = loaded['bert'].backend_tokenizer
  backend.enable_truncation(8)
  backend.enable_padding(length=8)
  backend.save(str(folder / 'tokenizer.json'), pretty=False)
  (FOLDER / 'tokens.json').write_text(json.dumps(golden, ensure_ascii=False))


if __name__ == '__main__':
  main()
