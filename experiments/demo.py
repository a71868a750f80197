"""The main job on data that it makes itself: `python -m experiments.demo` (or `make demo`).

Pretrains a small GPT-2 on sentences of several domains, adapts it to a domain that it has not seen,
by full fine-tuning and by LoRA of rank 1, 4 and 8, and compares: `runs/demo/table.txt`,
`runs/demo/demo.png`. Started again, it goes on where it was.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import matplotlib
from absl import flags

from configs import demo
from experiments import cli
from lora_jax.data import synthetic
from lora_jax.train import evaluate, generate, job, loop, mesh, step, writers

WORKDIR = flags.DEFINE_string('workdir', 'runs/demo', 'Folder of the runs.')
RANKS = (1, 4, 8)
CONTEXTS = 100  # From which a text is generated, for BLEU.


def trained(folder: Path, name: str, arg: str) -> dict:
  """The result of one run of the demo."""
  config = demo.get_config(f'{arg},tokenizer={folder / "tokenizer"}')
  print(f'\n== {name}', flush=True)
  return loop.train(config, folder / name)


def judged(folder: Path, runs: dict[str, dict]) -> Iterator[dict]:
  """A row of the table for the pretrained model and for each run, by its best epoch.

  Texts are generated with the adapter merged into the model, so one compiled decoder does for all.
  """
  arg = f'model={folder / "pretrain"},method=full,tokenizer={folder / "tokenizer"}'
  work = job.load(demo.get_config(arg))
  eval_step = step.make_eval_step(work.apply, work.task.kind)
  outputs_of = lambda batch: eval_step({}, work.trainable, batch)
  before = dict(evaluate.evaluate(outputs_of, work.task, evaluate.layouts(work)))
  texts = generate.make_generator(work, work.config.decode, mesh.make_mesh(1))
  prompts = generate.subset(work.task.prompts['dev'], CONTEXTS)

  def row(name: str, params: Any, **rest: Any) -> dict:
    found = texts({}, params, prompts)
    bleu = generate.score(work.task, prompts, found)['scores']['bleu']
    return {'method': name, **rest, 'bleu': bleu, 'examples': generate.examples(prompts, found)}

  yield row('none', work.trainable, parameters=0, loss=before['dev/loss'], seconds=None)
  for name, result in runs.items():
    adapted, trainable = job.load_run(folder / name, 'best', work.task)
    yield row(
      name.replace('lora-', 'LoRA r='),
      adapted.method.merge(adapted.frozen, trainable),
      parameters=result['parameters']['trainable'],
      loss=result['best']['dev/loss'],
      seconds=sum(result['seconds'].values()),
    )


def table(rows: list[dict]) -> str:
  """The rows as aligned text."""
  everything = max(row['parameters'] for row in rows)
  lines = [f'{"method":12}{"trained":>10}{"share":>8}{"dev loss":>10}{"BLEU":>7}{"seconds":>9}']
  for row in rows:
    seconds = '-' if row['seconds'] is None else f'{row["seconds"]:.0f}'
    share = f'{row["parameters"] / everything:.1%}'
    lines.append(
      f'{row["method"]:12}{row["parameters"]:10,}{share:>8}{row["loss"]:10.3f}'
      f'{100 * row["bleu"]:7.1f}{seconds:>9}'
    )
  return '\n'.join(lines)


def samples(rows: list[dict]) -> str:
  """What the model before adaptation, the full and the best LoRA make of three contexts."""
  before, full, *lora = rows
  lines = []
  for number, example in enumerate(before['examples']):
    lines += ['', f'{"context":12}{example["context"]}']
    for row in (before, full, min(lora, key=lambda row: row['loss'])):
      lines.append(f'{row["method"]:12}{row["examples"][number]["generated"]}')
    lines.append(f'{"reference":12}{example["reference"]}')
  return '\n'.join(lines[1:])


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
  arguments = {'full': 'method=full'} | {f'lora-{r}': f'method=lora,rank={r}' for r in RANKS}
  runs = {name: trained(folder, name, f'{base},{arg}') for name, arg in arguments.items()}
  rows = list(judged(folder, runs))
  text = f'{table(rows)}\n\n{samples(rows)}\n\n{conclusion(rows)}\n'
  writers.write_text(folder / 'table.txt', text)
  writers.write_json(folder / 'table.json', rows)
  draw(rows, folder / 'demo.png')
  print(f'\n{text}\n{folder}/demo.png drawn; {time.monotonic() - began:.0f} s in all.')


if __name__ == '__main__':
  cli.run(main)
