"""Trains a tokenizer on the corpus: `python -m experiments.tokenizer --data_dir=DIR --out=DIR`.

Writes `tokenizer.json`, a byte-level BPE, into the folder `--out`. The pretraining config, and the
runs on the model that it trains, read it from there.
"""

from absl import flags, logging

from experiments import _cli
from lora_jax.data import corpus

DATA_DIR = flags.DEFINE_string('data_dir', None, 'Folder of the official archives.', required=True)
OUT = flags.DEFINE_string('out', 'runs/tokenizer', 'Folder to write the tokenizer to.')
VOCAB_SIZE = flags.DEFINE_integer('vocab_size', 8192, 'Number of entries, the end token included.')


def main() -> None:
  tokenizer = corpus.train_tokenizer(DATA_DIR.value, VOCAB_SIZE.value)
  tokenizer.save(OUT.value)
  logging.info('%d entries in %s/tokenizer.json', tokenizer.vocab_size, OUT.value)


if __name__ == '__main__':
  _cli.run(main)
