"""The main job on data that it makes itself: `python -m experiments.demo` (or `make demo`).

Pretrains a small GPT-2 on sentences of several domains, adapts it to a domain that it has not seen,
by full fine-tuning and by LoRA of several ranks in several choices of matrices, these as one sweep,
and compares: `runs/demo/table.txt`, `runs/demo/demo.png`. Started again, it goes on where it was.
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
from lora_jax import sweep
from lora_jax.data import synthetic
from lora_jax.train import evaluate, generate, job, loop, mesh, step, writers

WORKDIR = flags.DEFINE_string('workdir', 'runs/demo', 'Folder of the runs.')
CONTEXTS = 50  # From which a text is generated, for BLEU.


def trained(folder: Path, name: str, arg: str) -> dict:
  """The result of one run of the demo."""
  config = demo.get_config(f'{arg},tokenizer={folder / "tokenizer"}')
  print(f'\n== {name}', flush=True)
  return loop.train(config, folder / name)


def swept(folder: Path) -> list[dict]:
  """Rank, matrices and result of each run of the sweep."""
  arg = f'model={folder / "pretrain"},method=lora,tokenizer={folder / "tokenizer"}'
  print('\n== lora, as one sweep', flush=True)
  results = sweep.train(demo.get_config(arg), demo.sweep(), folder / 'lora')
  cells = [(matrices, rank) for matrices in demo.MATRICES for rank in demo.RANKS]
  return [
    {'name': f'lora/{name}', 'matrices': matrices, 'rank': rank, **result}
    for (name, result), (matrices, rank) in zip(results.items(), cells, strict=True)
  ]


def judged(folder: Path, full: dict, lora: list[dict]) -> Iterator[dict]:
  """A row of the table for the pretrained model, full fine-tuning, and LoRA in all matrices.

  By their best epochs. Texts are generated with the adapter merged into the model, so one compiled
  decoder does for all.
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
  shown = {'full': {'name': 'full', **full}}
  shown |= {f'LoRA r={one["rank"]}': one for one in lora if one['matrices'] == 'all'}
  for name, result in shown.items():
    adapted, trainable = job.load_run(folder / result['name'], 'best', work.task)
    yield row(
      name,
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


def grid(lora: list[dict]) -> str:
  """Dev loss by matrices and rank, as aligned text."""
  lines = [f'{"LoRA, dev loss":18}' + ''.join(f'{f"r={rank}":>10}' for rank in demo.RANKS)]
  for matrices in demo.MATRICES:
    losses = [one['best']['dev/loss'] for one in lora if one['matrices'] == matrices]
    lines.append(f'{matrices:18}' + ''.join(f'{loss:10.3f}' for loss in losses))
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


def draw(rows: list[dict], lora: list[dict], path: Path) -> None:
  """Loss over trained parameters and over the rank, the bounds as lines."""
  matplotlib.use('Agg')
  from matplotlib import pyplot

  before, full = rows[:2]
  figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.8), layout='constrained', sharey=True)
  for axes in (left, right):
    axes.axhline(before['loss'], color='0.5', ls=':', label='before adaptation')
    axes.axhline(full['loss'], color='C3', ls='--', lw=1, label='full fine-tuning')
  left.plot(full['parameters'], full['loss'], 's', color='C3')
  for number, matrices in enumerate(demo.MATRICES):
    own = [one for one in lora if one['matrices'] == matrices]
    losses = [one['best']['dev/loss'] for one in own]
    style = dict(color=f'C{number}', marker='o', label=f'LoRA, {matrices}')
    left.plot([one['parameters']['trainable'] for one in own], losses, **style)
    right.plot([one['rank'] for one in own], losses, **style)
  left.set(xscale='log', xlabel='trained parameters', ylabel='dev loss, nats per token')
  right.set_xscale('log', base=2)
  right.set_xticks(demo.RANKS, map(str, demo.RANKS))
  right.minorticks_off()
  right.set_xlabel('rank')
  left.set_ylim(0, 1.1 * before['loss'])
  left.margins(x=0.15)
  right.margins(x=0.15)
  handles, labels = right.get_legend_handles_labels()
  figure.legend(handles, labels, loc='outside lower center', ncols=5, fontsize=8, frameon=False)
  figure.suptitle('A small GPT-2 adapted to a new domain')
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
  full = trained(folder, 'full', f'{base},method=full')
  lora = swept(folder)
  rows = list(judged(folder, full, lora))
  text = f'{table(rows)}\n\n{grid(lora)}\n\n{samples(rows)}\n\n{conclusion(rows)}\n'
  writers.write_text(folder / 'table.txt', text)
  writers.write_json(folder / 'table.json', rows)
  draw(rows, lora, folder / 'demo.png')
  print(f'\n{text}\n{folder}/demo.png drawn; {time.monotonic() - began:.0f} s in all.')


if __name__ == '__main__':
  cli.run(main)
