"""Seconds of a train step of PEFT: `python3 peft_step.py --shapes=roberta-base:32x128`.

Needs torch, transformers and peft, in an environment of its own. Weights are random. LoRA is as a
user of PEFT has it: r=8 on query and value (on GPT-2's fused projection, the only choice that PEFT
has), base in bfloat16, factors in float32, autocast, fused AdamW, gradients clipped at 1. Full
fine-tuning has float32 weights under autocast. Rows are full, and no dropout is drawn.

After every variant the results so far are printed as one line of JSON; the last line is the result.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import traceback
from collections.abc import Callable

import peft
import torch
import transformers

ROBERTA = dict(
  vocab_size=50265,
  max_position_embeddings=514,
  type_vocab_size=1,
  layer_norm_eps=1e-5,
  hidden_dropout_prob=0.0,
  attention_probs_dropout_prob=0.0,
  classifier_dropout=0.0,
  num_labels=2,
)
GPT2 = dict(vocab_size=50257, n_positions=1024, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
# Width, layers, heads; the inner width is four times the width.
SIZES = {
  'roberta-base': (768, 12, 12),
  'roberta-large': (1024, 24, 16),
  'gpt2-medium': (1024, 24, 16),
  'toy-roberta': (32, 2, 2),
  'toy-gpt2': (32, 2, 2),
}
TOY_VOCABULARY = 512


def make_config(name: str) -> transformers.PretrainedConfig:
  """The configuration of an architecture."""
  width, layers, heads = SIZES[name]
  toy = {'vocab_size': TOY_VOCABULARY} if name.startswith('toy') else {}
  if 'gpt2' in name:
    return transformers.GPT2Config(
      **{**GPT2, **toy}, n_embd=width, n_layer=layers, n_head=heads, use_cache=False
    )
  return transformers.RobertaConfig(
    **{**ROBERTA, **toy},
    hidden_size=width,
    num_hidden_layers=layers,
    num_attention_heads=heads,
    intermediate_size=4 * width,
  )


def make_model(name: str, method: str, args: argparse.Namespace) -> torch.nn.Module:
  """A model with random weights, adapted by LoRA or trained as a whole."""
  config = make_config(name)
  torch.manual_seed(0)
  is_lm = 'gpt2' in name
  auto = transformers.AutoModelForCausalLM if is_lm else (
    transformers.AutoModelForSequenceClassification
  )  # fmt: skip
  model = auto.from_config(config, attn_implementation=args.attention)
  model.to(device=args.device, dtype=args.dtype if method == 'lora' else torch.float32)
  if method == 'lora':
    options = dict(r=8, lora_alpha=16, lora_dropout=0.0)
    if is_lm:
      options |= dict(target_modules=['c_attn'], fan_in_fan_out=True, task_type='CAUSAL_LM')
    else:
      options |= dict(target_modules=['query', 'value'], task_type='SEQ_CLS')
    model = peft.get_peft_model(model, peft.LoraConfig(**options))
  return model.train()


def make_step(
  name: str, method: str, mode: str, rows: int, length: int, args: argparse.Namespace
) -> tuple[Callable[[], torch.Tensor], int]:
  """A function that makes one step on a fixed batch, and the number of trained parameters."""
  model = make_model(name, method, args)
  trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
  optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.1, fused=args.device == 'cuda')
  vocabulary = model.config.vocab_size
  random = torch.Generator().manual_seed(0)
  ids = torch.randint(5, vocabulary, (rows, length), generator=random).to(args.device)
  labels = ids if 'gpt2' in name else (torch.arange(rows) % 2).to(args.device)
  batch = dict(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels)
  called = torch.compile(model, dynamic=False) if mode == 'compile' else model

  def step() -> torch.Tensor:
    is_low = args.dtype != torch.float32
    with torch.autocast(args.device, dtype=torch.bfloat16, enabled=is_low):
      loss = called(**batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()

  return step, sum(parameter.numel() for parameter in trained)


def seconds_of(step: Callable[[], torch.Tensor], steps: int, device: str) -> float:
  """Wall seconds of a step: several are started, the last is waited for."""
  wait = torch.cuda.synchronize if device == 'cuda' else lambda: None
  wait()
  began = time.perf_counter()
  for _ in range(steps):
    step()
  wait()
  return (time.perf_counter() - began) / steps


def measure_shape(
  shape: str, args: argparse.Namespace, show: Callable[[dict[str, dict[str, float]]], None]
) -> None:
  """Times all variants of a shape in turn; `show` gets the rows after each round.

  The steps right after the first are no measurement: torch may compile a second time.
  """
  name, _, size = shape.partition(':')
  rows, length = map(int, size.split('x'))
  found: dict[str, dict[str, float]] = {}
  steps: dict[str, Callable[[], torch.Tensor]] = {}
  torch.compiler.reset()  # Else a second shape is compiled with dynamic sizes.
  for method in args.methods:
    for mode in args.modes:
      variant = f'{method}, {mode}'
      try:
        step, trained = make_step(name, method, mode, rows, length, args)
        first = seconds_of(step, 1, args.device)
        second = seconds_of(step, args.steps, args.device)
      except Exception:
        args.errors[f'{shape}, {variant}'] = traceback.format_exc()[-800:]
        continue
      steps[variant] = step
      found[variant] = {'seconds': second, 'compiling': first - second, 'trained': trained}
  times: dict[str, list[float]] = {variant: [] for variant in steps}
  for _ in range(args.rounds):
    for variant, step in steps.items():  # In turn: the machine's speed may drift.
      times[variant].append(seconds_of(step, args.steps, args.device))
    for variant, values in times.items():
      found[variant]['seconds'] = statistics.median(values)
      found[variant]['tokens_per_second'] = rows * length / found[variant]['seconds']
    show(found)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
  """The flags."""
  split = lambda text: text.split(',')
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--shapes', type=split, default=['roberta-base:32x128'])
  parser.add_argument('--methods', type=split, default=['lora'])
  parser.add_argument('--modes', type=split, default=['eager', 'compile'])
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--steps', type=int, default=0, help='of a round; 0: 20 on a GPU, else 1')
  parser.add_argument('--attention', default='sdpa')
  parser.add_argument('--dtype', default='', help='the default is bfloat16 on a GPU')
  args = parser.parse_args(argv)
  args.device = 'cuda' if torch.cuda.is_available() else 'cpu'
  args.steps = args.steps or (20 if args.device == 'cuda' else 1)
  default = 'bfloat16' if args.device == 'cuda' else 'float32'
  args.dtype = getattr(torch, args.dtype or default)
  args.errors = {}
  return args


def main() -> None:
  args = parse()
  report = {
    'device': torch.cuda.get_device_name() if args.device == 'cuda' else 'cpu',
    'dtype': str(args.dtype),
    'rounds': args.rounds,
    'steps_of_a_round': args.steps,
    'versions': {x.__name__: x.__version__ for x in (torch, transformers, peft)},
    'measured': {},
    'errors': args.errors,
  }
  for shape in args.shapes:

    def show(found: dict[str, dict[str, float]], shape: str = shape) -> None:
      report['measured'][shape] = found
      print(json.dumps(report), flush=True)

    measure_shape(shape, args, show)
    print(json.dumps(report), flush=True)


if __name__ == '__main__':
  main()
