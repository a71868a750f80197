"""Makes sentencepiece/: a toy spm.model, and what DeBERTa-v2's tokenizer makes of texts with it.

python tests/golden/make_sentencepiece.py        (transformers 4.57.6, sentencepiece 0.2.3)

The tokenizer is the slow one, by the `sentencepiece` library, which transformers 5 no longer has.
"""

import contextlib
import io
import json
import pathlib
import shutil
import tempfile

import make_tokens
import sentencepiece
import transformers

FOLDER = pathlib.Path(__file__).parent / 'sentencepiece'
TEXTS = [
  *make_tokens.TEXTS,
  'Markers[MASK]in the [SEP] text, [UNK][PAD] [CLS]',
  '\ufb01ne ligatures and \uff26\uff35\uff2c\uff2c width',
  '[MASK]',
  ' ',
]
PAIRS = [(a, b) for i, a in enumerate(TEXTS) for b in (TEXTS[i - 1], TEXTS[(i + 4) % len(TEXTS)])]
LENGTHS = (512, 24, 11, 4)


def train():
  """As DeBERTa's: special tokens first. Its normalizer is 240 kB large, so here are a few rules."""
  rules = {'\ufb01': 'fi', **{chr(0xFF21 + i): chr(0x41 + i) for i in range(26)}}
  model = io.BytesIO()
  # The model keeps the name of the file of rules, so that is a relative one.
  with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
    lines = (
      '{:X}\t{}\n'.format(ord(k), ' '.join(f'{ord(c):X}' for c in v)) for k, v in rules.items()
    )
    pathlib.Path('rules.tsv').write_text(''.join(lines))
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(make_tokens.TEXTS[:7] * 5), model_writer=model, vocab_size=150,
      normalization_rule_tsv='rules.tsv', hard_vocab_limit=False, minloglevel=2,
      pad_id=0, bos_id=1, eos_id=2, unk_id=3,
      pad_piece='[PAD]', bos_piece='[CLS]', eos_piece='[SEP]', unk_piece='[UNK]',
    )  # fmt: skip
  (FOLDER / 'spm.model').write_bytes(model.getvalue())


def main():
  shutil.rmtree(FOLDER, ignore_errors=True)
  FOLDER.mkdir()
  train()
  golden = {'transformers': transformers.__version__, 'texts': TEXTS, 'pairs': PAIRS}
  first, second = (list(column) for column in zip(*PAIRS))
  for name, lower in (('cased', False), ('lower', True)):
    tokenizer = transformers.DebertaV2Tokenizer(str(FOLDER / 'spm.model'), do_lower_case=lower)
    plain = tokenizer(TEXTS, add_special_tokens=False)['input_ids']
    golden[name] = {
      'plain': plain,
      'decoded': tokenizer.batch_decode(
        plain, skip_special_tokens=True, clean_up_tokenization_spaces=False
      ),
    }
    for length in LENGTHS:
      options = dict(truncation='longest_first', max_length=length, padding=False)
      for kind, texts in (('single', (TEXTS,)), ('pair', (first, second))):
        encoded = tokenizer(*texts, **options)
        golden[name][f'{kind}/{length}'] = [encoded['input_ids'], encoded['token_type_ids']]
  (FOLDER / 'tokens.json').write_text(json.dumps(golden, ensure_ascii=False))


if __name__ == '__main__':
  main()
