"""The main job on data that it makes itself: `python -m experiments.demo` (or `make demo`).

Pretrains a small GPT-2 on sentences of several domains, adapts it to a domain that it has not seen,
by full fine-tuning and by LoRA of several ranks in several choices of matrices, trained as one
sweep, and compares them: `runs/demo/table.txt`, `runs/demo/demo.png`. If it was interrupted, the
same command resumes it.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from absl import flags
from ml_collections import config_dict

from configs import demo
from experiments import _cli
from lora_jax import sweep
from lora_jax.data import synthetic
from lora_jax.report import demo as report
from lora_jax.report.demo import LoraRun, Row
from lora_jax.result_schema import RunResult
from lora_jax.train import evaluate, generate, job, loop, mesh, rundir, step, writers
from lora_jax.tree import Params

WORKDIR = flags.DEFINE_string('workdir', 'runs/demo', 'Folder of the runs.')
CONTEXTS = 50  # Contexts from which texts are generated, for BLEU.


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
  runs = []
  for name, (matrices, rank) in zip(results, places, strict=True):
    result = rundir.read_result(folder / 'lora' / name)
    if result is None:
      raise FloatingPointError(f'{folder / "lora" / name} diverged: see its {rundir.FAILED}')
    runs.append(LoraRun(folder / 'lora' / name, matrices, rank, result))
  return runs


def compare(folder: Path, full: RunResult, lora: Sequence[LoraRun]) -> Iterator[Row]:
  """The rows of the table, each by its best epoch.

  Texts are generated with the adapter merged into the model, so one compiled decoder serves all.
  """
  work = job.load(_config(folder, f'model={folder / "pretrain"},method=full'))
  eval_step = step.make_eval_step(work.apply, work.task.kind)
  outputs_of = lambda batch: eval_step({}, work.trainable, batch)
  computed = evaluate.compute(outputs_of, evaluate.layouts(work))
  before = dict(evaluate.evaluate(work.task, computed))
  texts = generate.make_generator(work, work.config.decode, mesh.make_mesh(1))
  prompts = generate.subset(work.task.prompts['dev'], CONTEXTS)

  def row(name: str, params: Params, parameters: int, loss: float, seconds: float | None) -> Row:
    generated = texts({}, params, prompts, None)
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


def _config(folder: Path, arg: str) -> config_dict.ConfigDict:
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
  text = report.text(rows, lora)
  writers.write_text(folder / 'table.txt', text)
  writers.write_json(folder / 'table.json', [row._asdict() for row in rows])
  drawn = report.picture(rows, lora).draw(folder)
  print(f'\n{text}\n{drawn} drawn; {time.monotonic() - began:.0f} s in all.')


if __name__ == '__main__':
  _cli.run(main)
