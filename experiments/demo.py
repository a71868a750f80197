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
from absl import flags

from configs import demo
from experiments import _cli
from lora_jax import sweep
from lora_jax.data import synthetic
from lora_jax.report import demo as page
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
  text = (
    f'{page.table(rows)}\n\n{page.grid(lora)}\n\n{page.samples(rows)}\n\n{page.conclusion(rows)}\n'
  )
  writers.write_text(folder / 'table.txt', text)
  writers.write_json(folder / 'table.json', rows)
  page.draw(rows, lora, folder / 'demo.png')
  print(f'\n{text}\n{folder}/demo.png drawn; {time.monotonic() - began:.0f} s in all.')


if __name__ == '__main__':
  _cli.run(main)
