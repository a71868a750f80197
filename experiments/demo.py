"""The main job on data that it makes itself: `python -m experiments.demo` (or `make demo`).

Pretrains a small GPT-2 on sentences of several domains, adapts it to a domain that it has not seen,
by full fine-tuning and by LoRA of several ranks in several choices of matrices, trained as one
sweep, and compares them: `runs/demo/table.txt`, `runs/demo/demo.png`. If it was interrupted, the
same command resumes it.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from absl import flags

from configs import demo
from experiments import _cli
from lora_jax import sweep
from lora_jax.data import synthetic
from lora_jax.report import charts, document
from lora_jax.result_schema import RunResult
from lora_jax.train import evaluate, generate, job, loop, mesh, step, writers
from lora_jax.tree import Params

WORKDIR = flags.DEFINE_string('workdir', 'runs/demo', 'Folder of the runs.')
CONTEXTS = 50  # Contexts from which texts are generated, for BLEU.


class LoraRun(NamedTuple):
  """A run of the sweep."""

  folder: Path
  matrices: str
  rank: int
  result: RunResult


class Row(NamedTuple):
  """A row of the table: the model before adaptation (`none`), `full`, or LoRA in all matrices."""

  method: str
  parameters: int
  loss: float
  seconds: float | None
  bleu: float
  examples: Sequence[Mapping[str, str]]


def train(folder: Path, name: str, arg: str) -> RunResult:
  """Trains one run of the demo."""
  print(f'\n== {name}', flush=True)
  return loop.train(_config(folder, arg), folder / name)


def train_sweep(folder: Path) -> list[LoraRun]:
  """Trains LoRA of every rank in every choice of matrices."""
  print('\n== lora, as one sweep', flush=True)
  config = _config(folder, f'model={folder / "pretrain"},method=lora')
  results = sweep.train(config, demo.sweep(), folder / 'lora')
  places = [(matrices, rank) for matrices in demo.MATRICES for rank in demo.RANKS]
  return [
    LoraRun(folder / 'lora' / name, matrices, rank, result)
    for (name, result), (matrices, rank) in zip(results.items(), places, strict=True)
  ]


def compare(folder: Path, full: RunResult, lora: Sequence[LoraRun]) -> Iterator[Row]:
  """The rows of the table, each by its best epoch.

  Texts are generated with the adapter merged into the model, so one compiled decoder serves all.
  """
  work = job.load(_config(folder, f'model={folder / "pretrain"},method=full'))
  eval_step = step.make_eval_step(work.apply, work.task.kind)
  outputs_of = lambda batch: eval_step({}, work.trainable, batch)
  before = dict(evaluate.evaluate(outputs_of, work.task, evaluate.layouts(work)))
  texts = generate.make_generator(work, work.config.decode, mesh.make_mesh(1))
  prompts = generate.subset(work.task.prompts['dev'], CONTEXTS)

  def row(name: str, params: Params, parameters: int, loss: float, seconds: float | None) -> Row:
    generated = texts({}, params, prompts)
    bleu = generate.score(work.task, prompts, generated)['scores']['bleu']
    examples = generate.examples(prompts, generated)
    return Row(name, parameters, loss, seconds, bleu, examples)

  yield row('none', work.trainable, 0, before['dev/loss'], None)
  adapted = [('full', folder / 'full', full)]
  adapted += [(f'LoRA r={one.rank}', one.folder, one.result) for one in _in_all_matrices(lora)]
  for name, run, result in adapted:
    loaded, trainable = job.load_run(run, 'best', work.task)
    merged = loaded.method.merge(loaded.frozen, trainable)
    count, loss = result['parameters']['trainable'], result['best']['dev/loss']
    yield row(name, merged, count, loss, sum(result['seconds'].values()))


def table(rows: Sequence[Row]) -> str:
  """The rows as aligned text."""
  everything = max(row.parameters for row in rows)
  return document.aligned_table(
    [
      {
        'method': row.method,
        'trained': f'{row.parameters:,}',
        'share': f'{row.parameters / everything:.1%}',
        'dev loss': f'{row.loss:.3f}',
        'BLEU': f'{100 * row.bleu:.1f}',
        'seconds': '-' if row.seconds is None else f'{row.seconds:.0f}',
      }
      for row in rows
    ]
  )


def grid(lora: Sequence[LoraRun]) -> str:
  """Dev loss by matrices and rank, as aligned text."""
  shown: dict[str, dict[str, str]] = {}
  for one in lora:
    row = shown.setdefault(one.matrices, {'LoRA, dev loss': one.matrices})
    row[f'r={one.rank}'] = f'{one.result["best"]["dev/loss"]:.3f}'
  return document.aligned_table(list(shown.values()))


def samples(rows: Sequence[Row]) -> str:
  """What the model before adaptation, the full and the best LoRA make of the example contexts."""
  before, full, *lora = rows
  lines = []
  for number, example in enumerate(before.examples):
    lines += ['', f'{"context":12}{example["context"]}']
    for row in (before, full, min(lora, key=lambda row: row.loss)):
      lines.append(f'{row.method:12}{row.examples[number]["generated"]}')
    lines.append(f'{"reference":12}{example["reference"]}')
  return '\n'.join(lines[1:])


def conclusion(rows: Sequence[Row]) -> str:
  """A sentence on how much of full fine-tuning's gain LoRA made."""
  before, full, *lora = rows
  best = min(lora, key=lambda row: row.loss)
  gain = (before.loss - best.loss) / (before.loss - full.loss)
  return (
    f'{best.method} made {gain:.0%} of the improvement of full fine-tuning with '
    f'{best.parameters / full.parameters:.1%} of its trained parameters. '
    'Next: adapt your own model (README.md, "Your own model").'
  )


def picture(rows: Sequence[Row], lora: Sequence[LoraRun]) -> charts.Picture:
  """Loss over trained parameters and over the rank."""
  before, full = rows[:2]
  by_size, by_rank = [], []
  for matrices in demo.MATRICES:
    own = [one for one in lora if one.matrices == matrices]
    losses = [one.result['best']['dev/loss'] for one in own]
    sizes = [one.result['parameters']['trainable'] for one in own]
    by_size.append(charts.Series(f'LoRA, {matrices}', sizes, losses))
    by_rank.append(charts.Series(f'LoRA, {matrices}', [one.rank for one in own], losses))
  by_size.append(charts.Series('full fine-tuning', [full.parameters], [full.loss], joined=False))
  for name, row in (('full fine-tuning', full), ('before adaptation', before)):
    by_rank.append(charts.Series(name, demo.RANKS, [row.loss] * len(demo.RANKS)))
  y = 'dev loss, nats per token'
  panels = [
    charts.Panel('A small GPT-2 adapted to a new domain', 'trained parameters', y, by_size, 10),
    charts.Panel('the same, by rank', 'rank', y, by_rank, 2),
  ]
  return charts.chart('demo', 'loss by trained parameters and by rank', panels)


def _config(folder: Path, arg: str):
  return demo.get_config(f'{arg},tokenizer={folder / "tokenizer"}')


def _in_all_matrices(lora: Sequence[LoraRun]) -> list[LoraRun]:
  return [one for one in lora if one.matrices == 'all']


def main() -> None:
  began = time.monotonic()
  folder = Path(WORKDIR.value)
  print(f'lora_jax demo on {jax.devices()[0].device_kind}; runs in {folder}', file=sys.stderr)
  synthetic.train_tokenizer().save(folder / 'tokenizer')
  train(folder, 'pretrain', 'model=fresh')
  full = train(folder, 'full', f'model={folder / "pretrain"},method=full')
  lora = train_sweep(folder)
  rows = list(compare(folder, full, lora))
  text = '\n\n'.join([table(rows), grid(lora), samples(rows), conclusion(rows)]) + '\n'
  writers.write_text(folder / 'table.txt', text)
  writers.write_json(folder / 'table.json', [row._asdict() for row in rows])
  drawn = picture(rows, lora).draw(folder)
  print(f'\n{text}\n{drawn} drawn; {time.monotonic() - began:.0f} s in all.')


if __name__ == '__main__':
  _cli.run(main)
