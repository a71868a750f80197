r"""LoRA on data of your own: a JSONL, CSV or TSV file. Its columns tell the task.

  text, label          classification; `pair` is a second text
  text, number         regression
  prompt, completion   a language model, trained on the completion
  messages             chats for a language model, trained on the last reply (JSONL)

A classifier of reviews in a CSV with the columns review and stars:

  python -m experiments.train --workdir=runs/reviews \
      --config=configs/own.py:data=reviews.csv,text=review,label=stars,model=path/to/encoder

A chat model, in bfloat16:

  python -m experiments.train --workdir=runs/chats --config.model.dtype=bfloat16 \
      --config=configs/own.py:data=chats.jsonl,model=path/to/llama

Argument:

  data      the training file
  model     a preset, a folder in Hugging Face layout, a GGUF file or a run directory, the latter
            three written with a slash
  method    one of _base.METHODS
  dev       file to evaluate after each epoch; without one a tenth of the rows is cut off `data`,
            1000 at most (--config.own.dev_rows), the same ones whatever the seed is
  test      file of the split test: `experiments.evaluate --split=test`, or the path of a file
  text, pair, label, number, prompt, completion, messages
            names of the columns, where they are others; `label=` with nothing after it says that
            the file's column label does not count

One set of settings for encoders and decoders, each with its flag: LoRA of rank 8 on query and value
at 1e-3 (full fine-tuning: 5e-5), batch 16, 5 epochs, no texts generated at the end. Long texts
need a larger `--config.data.max_length`, a large Llama bfloat16 as above and
`--config.model.remat=full`. The numbers of a regression are learned as they are, best within some
units of 0; its `dev/loss` is the mean squared error. After the training:

  python -m experiments.generate --workdir=runs/chats --split=dev --out=texts.txt
  python -m experiments.export --workdir=runs/chats --format=peft --out=out/chats
  python -m experiments.serve --base=path/to/encoder --adapters=reviews=runs/reviews
"""

import pathlib
from collections.abc import Iterator

from ml_collections import config_dict

from configs import _base
from lora_jax import fields

LR, LR_OF_FULL = 1e-3, 5e-5
# What ends a text of a base, or a reply in the templates of the families that are read here.
STOPS = ('<|endoftext|>', '<|im_end|>', '<|eot_id|>', '<|end_of_text|>', '</s>')


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config.

  Raises:
    ValueError: on an unknown key, method or model, with the nearest names.
  """
  own = {name: field.default for name, field in fields.OWN.items()}
  texts = {name: value for name, value in own.items() if isinstance(value, str)}
  paths = ('data', 'dev', 'test', 'model')
  args = _base.parse_arg(arg, paths=paths, model='roberta-base', method='lora', **texts)
  _base.check('method', args['method'], _base.METHODS)
  config = _base.base()
  config.own = own | {name: args[name] for name in texts}
  config.experiment, config.preset = 'own', ''
  config.task = f'own/{pathlib.Path(args["data"]).stem}'
  config.model.name = args['model']
  config.method = _base.method(args['method'], _base.lora(rank=8, alpha=16))
  config.optim.update(
    lr=LR_OF_FULL if args['method'] == 'full' else LR,
    weight_decay=0.01,
    warmup_ratio=0.06,
    clip=1.0,
  )
  config.train.update(batch_size=16, eval_batch_size=32, epochs=5)
  config.decode.update(
    strategy='greedy',
    beams=1,
    length_penalty=1.0,
    no_repeat_ngram=0,
    max_tokens=128,
    stop=STOPS,
    limit='model',
  )
  return config.lock()


def sweep(arg: str | None = None) -> Iterator[_base.Overrides]:
  """The overrides of three runs, which differ in the seed."""
  del arg
  return _base.seeded(3)
