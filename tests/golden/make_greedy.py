"""Makes the golden of greedy decoding: what transformers' `generate` makes of the toy GPT-2.

  python tests/golden/make_greedy.py     # In an environment with torch and transformers.

Reads models/gpt2 (made by make_models.py) and writes `greedy.npz` beside it: prompts padded with
zeros, their lengths, and the texts, of which some end with the end token and some do not. No token
is generated twice in a text: a GPT-2 of random weights, its output tied, repeats one for ever.
"""

import pathlib

import numpy as np
import torch
import transformers

FOLDER = pathlib.Path(__file__).parent / 'models' / 'gpt2'
NEW, LENGTHS = 10, (1, 2, 3, 4, 5, 6, 6, 3)


class NoTokenTwice(transformers.LogitsProcessor):
  """Of what is generated; transformers' own rule counts the prompt, the paper's does not."""

  def __init__(self, prompt_length):
    self.prompt_length = prompt_length

  def __call__(self, input_ids, scores):
    return scores.scatter(1, input_ids[:, self.prompt_length :], -torch.inf)


def main():
  model = transformers.GPT2LMHeadModel.from_pretrained(FOLDER).eval()
  rng = np.random.default_rng(0)
  prompts = [rng.integers(1, 61, length) for length in LENGTHS]
  free = [decoded(model, prompt, None) for prompt in prompts]
  # A token that some of the texts have, and not as the first, is the end token.
  end = next(
    token for token in free[0][2:] if 0 < sum(token in text for text in free) < len(prompts)
  )
  texts = [decoded(model, prompt, int(end)) for prompt in prompts]
  pad = lambda rows, width: np.array([[*row, *[0] * (width - len(row))] for row in rows], np.int32)
  np.savez_compressed(
    FOLDER / 'greedy.npz',
    prompts=pad(prompts, max(LENGTHS)),
    lengths=np.array(LENGTHS, np.int32),
    texts=pad(texts, NEW),
    text_lengths=np.array([len(text) for text in texts], np.int32),
    end=np.int32(end),
  )
  print(*texts, sep='\n')


def decoded(model, prompt, end):
  ids = torch.tensor(prompt)[None]
  out = model.generate(
    ids,
    attention_mask=torch.ones_like(ids),
    max_new_tokens=NEW,
    do_sample=False,
    eos_token_id=end,
    pad_token_id=0,
    logits_processor=transformers.LogitsProcessorList([NoTokenTwice(len(prompt))]),
  )
  return out[0, len(prompt) :].tolist()


if __name__ == '__main__':
  main()
