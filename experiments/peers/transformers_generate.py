"""Seconds of beam search by transformers: `python3 transformers_generate.py --contexts=64`.

Needs torch and transformers, in an environment of its own. A GPT-2 of 6 layers and width 384 with
random weights continues each prompt by 64 tokens; no token ends a text. Prompts have 25 to 61
tokens and are padded on the left to the longest. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
import transformers

SIZE = dict(vocab_size=50257, n_embd=384, n_layer=6, n_head=6, n_positions=512)
TOY = dict(vocab_size=512, n_embd=32, n_layer=2, n_head=2, n_positions=512)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--contexts', type=int, default=64)
  parser.add_argument('--beams', type=int, default=10)
  parser.add_argument('--tokens', type=int, default=64)
  parser.add_argument('--batch', type=int, default=32, help='contexts that are decoded together')
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--toy', action='store_true')
  parser.add_argument('--dtype', default='', help='the default is bfloat16 on a GPU')
  args = parser.parse_args()
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  dtype = args.dtype or ('bfloat16' if device == 'cuda' else 'float32')
  torch.manual_seed(0)
  config = transformers.GPT2Config(
    **(TOY if args.toy else SIZE), bos_token_id=0, eos_token_id=None, pad_token_id=0
  )
  model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation='sdpa')
  model.to(device=device, dtype=getattr(torch, dtype)).eval()
  random = torch.Generator().manual_seed(0)
  lengths = torch.randint(25, 62, (args.contexts,), generator=random).tolist()
  longest = max(lengths)
  ids = torch.randint(1, config.vocab_size, (args.contexts, longest), generator=random)
  mask = torch.tensor([[0] * (longest - n) + [1] * n for n in lengths])
  ids = torch.where(mask == 1, ids, 0).to(device)
  mask = mask.to(device)
  settings = dict(
    num_beams=args.beams,
    do_sample=False,
    max_new_tokens=args.tokens,
    min_new_tokens=args.tokens,
    length_penalty=0.9,
    no_repeat_ngram_size=4,
    early_stopping=False,
  )

  def generate() -> None:
    for at in range(0, args.contexts, args.batch):
      part = slice(at, at + args.batch)
      model.generate(input_ids=ids[part], attention_mask=mask[part], **settings)
    if device == 'cuda':
      torch.cuda.synchronize()

  times = []
  for _ in range(args.rounds + 1):
    began = time.perf_counter()
    with torch.inference_mode():
      generate()
    times.append(time.perf_counter() - began)
  row = {'seconds': statistics.median(times[1:]), 'first': times[0]}
  report = {
    'device': torch.cuda.get_device_name() if device == 'cuda' else 'cpu',
    'dtype': dtype,
    'versions': {x.__name__: x.__version__ for x in (torch, transformers)},
    'measured': {f'decode {args.contexts} contexts': {f'beam {args.beams}': row}},
    'errors': {},
  }
  print(json.dumps(report), flush=True)


if __name__ == '__main__':
  main()
