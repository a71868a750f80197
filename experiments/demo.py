"""The main job on data that it makes itself: `python -m experiments.demo` (or `make demo`).

Pretrains a small GPT-2 on sentences of several domains, adapts it to a domain that it has not seen,
by full fine-tuning and by LoRA of rank 1, 4 and 8, and compares: `runs/demo/table.txt`,
`runs/demo/demo.png`. Started again, it goes on where it was.
"""

import sys
import time
from pathlib import Path

import jax
import matplotlib
from absl import flags

from configs import demo
from experiments import cli
from lora_jax.data import synthetic
from lora_jax.train import evaluate, job, loop, step, writers

WORKDIR = flags.DEFINE_string('workdir', 'runs/demo', 'Folder of the runs.')
RANKS = (1, 4, 8)


def trained(folder: Path, name: str, arg: str) -> dict:
  """The result of one run of the demo."""
  config = demo.get_config(f'{arg},tokenizer={folder / "tokenizer"}')
  print(f'\n== {name}', flush=True)
  return loop.train(config, folder / name)


def before_adaptation(folder: Path) -> float:
  """Loss of the pretrained model on the domain that it has not seen, in nats per token."""
  arg = f'model={folder / "pretrain"},method=full,tokenizer={folder / "tokenizer"}'
  work = job.load(demo.get_config(arg))
  eval_step = step.make_eval_step(work.apply, work.task.kind)
  outputs_of = lambda batch: eval_step(work.frozen, work.trainable, batch)
  return dict(evaluate.evaluate(outputs_of, work.task, evaluate.layouts(work)))['dev/loss']


def row(name: str, result: dict) -> dict:
  """A row of the table; the loss is that of the best epoch."""
  return {
    'method': name,
    'parameters': result['parameters']['trainable'],
    'loss': result['best']['dev/loss'],
    'seconds': sum(result['seconds'].values()),
  }


def table(rows: list[dict]) -> str:
  """The rows as aligned text."""
  everything = max(row['parameters'] for row in rows)
  lines = [f'{"method":12}{"trained":>10}{"share":>8}{"dev loss":>10}{"seconds":>9}']
  for row in rows:
    seconds = '-' if row['seconds'] is None else f'{row["seconds"]:.0f}'
    share = f'{row["parameters"] / everything:.1%}'
    lines.append(
      f'{row["method"]:12}{row["parameters"]:10,}{share:>8}{row["loss"]:10.3f}{seconds:>9}'
    )
  return '\n'.join(lines)


def draw(rows: list[dict], path: Path) -> None:
  """Loss over trained parameters, the model before adaptation as a line."""
  matplotlib.use('Agg')
  from matplotlib import pyplot

  before, *adapted = rows
  figure, axes = pyplot.subplots(figsize=(6, 3.6), layout='constrained')
  axes.axhline(before['loss'], color='0.5', linestyle=':', label='before adaptation')
  for row in adapted:
    full = row['method'] == 'full'
    axes.plot(row['parameters'], row['loss'], 's' if full else 'o', color='C1' if full else 'C0')
    label = row['method'].removeprefix('LoRA ')
    at = row['parameters'], row['loss']
    axes.annotate(label, at, xytext=(0, 8), textcoords='offset points', ha='center')
  axes.set(xscale='log', xlabel='trained parameters', ylabel='dev loss, nats per token')
  axes.set_ylim(bottom=0)
  axes.margins(x=0.15)
  axes.legend(frameon=False)
  axes.set_title('A small GPT-2 adapted to a new domain')
  figure.savefig(path, dpi=150)
  pyplot.close(figure)


def conclusion(rows: list[dict]) -> str:
  """What the numbers say, in a line: how much of full fine-tuning's gain LoRA made."""
  before, full, *lora = rows
  best = min(lora, key=lambda row: row['loss'])
  gain = (before['loss'] - best['loss']) / (before['loss'] - full['loss'])
  return (
    f'{best["method"]} made {gain:.0%} of the improvement of full fine-tuning with '
    f'{best["parameters"] / full["parameters"]:.1%} of its trained parameters. '
    'Next: adapt your own model (README.md, "Your own model").'
  )


def main() -> None:
  began = time.monotonic()
  folder = Path(WORKDIR.value)
  synthetic.train_tokenizer().save(folder / 'tokenizer')
  print(f'lora_jax demo on {jax.devices()[0].device_kind}; runs in {folder}', file=sys.stderr)
  trained(folder, 'pretrain', 'model=fresh')
  base = f'model={folder / "pretrain"}'
  rows = [
    {'method': 'none', 'parameters': 0, 'loss': before_adaptation(folder), 'seconds': None},
    row('full', trained(folder, 'full', f'{base},method=full')),
    *(
      row(f'LoRA r={rank}', trained(folder, f'lora-{rank}', f'{base},method=lora,rank={rank}'))
      for rank in RANKS
    ),
  ]
  text = f'{table(rows)}\n\n{conclusion(rows)}\n'
  writers.write_text(folder / 'table.txt', text)
  writers.write_json(folder / 'table.json', rows)
  draw(rows, folder / 'demo.png')
  print(f'\n{text}\n{folder}/demo.png drawn; {time.monotonic() - began:.0f} s in all.')


if __name__ == '__main__':
  cli.run(main)
