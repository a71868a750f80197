"""Decoding of a run: from the contexts of a split to texts and their scores."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import config_dict

from lora_jax import generation, methods, provenance
from lora_jax.data import dataset, tasks
from lora_jax.data.tokenizer import Tokenizer
from lora_jax.metrics import text
from lora_jax.models import fused_attention, incremental
from lora_jax.train import display, estimate, hosts, job, mesh, paths, rundir, writers
from lora_jax.train.partial_texts import PartialTexts
from lora_jax.train.step import Apply
from lora_jax.tree import Params

Texts = Callable[[Params, Params, dataset.Prompts, PartialTexts | None], list[str]]
ROOMS = {'data': 'config.data.max_length', 'model': "the model's positions"}  # By decode.limit.
EXAMPLES = 3  # Number of contexts that are shown with their texts.


def make_generator(
  work: job.Job, decode: config_dict.ConfigDict, devices: jax.sharding.Mesh
) -> Texts:
  """A function `texts(frozen, trainable, prompts, kept)`: a text for each prompt, on one line.

  With `kept` a call goes on where an earlier one was killed, to the same texts.

  A text ends before the first of `decode.stop`. A context that leaves fewer than
  `decode.max_tokens` tokens of `decode.limit` keeps its end, as in the authors' code (examples/NLG,
  gpt2_beam.py), and a warning says how many do.

  Args:
    work: the job whose model it is.
    decode: the config's section of that name.
    devices: the mesh; contexts are split over all of it.

  Raises:
    ValueError: for a task that has no contexts, and for settings out of range.
    MissingExtra: if a library that scores the task's texts is not installed.
  """
  tokenizer = tokenizer_of(work.task)
  text.require_libraries(work.task.scoring)
  options = settings(decode, tokenizer, work.config.seed)
  prefix, infix = dataset.virtual_tokens(work.model.config.vocab_size, work.method.virtual)
  limit = work.model.config.max_positions
  if decode.limit == 'data':
    limit = min(work.max_length, limit)
  room = limit - options.max_tokens - len(prefix) - len(infix)
  if room < 1:
    raise ValueError(
      f'config.decode.max_tokens={options.max_tokens} leaves no room for a context: '
      f'{room + options.max_tokens} tokens in all ({ROOMS[decode.limit]}). Lower it'
      + (' or raise config.data.max_length' if decode.limit == 'data' else '')
      + '; experiments.generate has both as --decode=max_tokens=32,limit=model'
    )
  shares = mesh.row_shares(devices)
  apply, runnable = work.apply, lambda *parts: parts
  if work.method.runs_merged:  # Once for all tokens, not once for each.
    plain_apply = methods.bind(work.model.apply, methods.full())
    apply = fused_attention.bound(plain_apply, mesh.target(devices))
    merge = jax.jit(work.method.merge)
    runnable = lambda *parts: ({}, merge(*parts))
  decoder = generation.make_decoder(
    language_model(apply, options),
    options,
    batch_size=-(-decode.batch_size // shares) * shares,
    length_cost=estimate.length_tokens(
      mesh.platform(devices), work.model.config, scan=work.model.scan
    ),
    max_length=room + len(prefix) + len(infix),
    sharding=mesh.evaluation_rows(devices),
  )

  def texts(
    frozen: Params,
    trainable: Params,
    prompts: dataset.Prompts,
    kept: PartialTexts | None = None,
  ) -> list[str]:
    if long := sum(len(ids) > room for ids in prompts.ids):
      logging.warning(
        '%s: %d of %d contexts have more than %d tokens and are read without their beginning: '
        '%s leaves no more, beside the %d tokens of a text (config.decode.max_tokens)',
        *(work.task.name, long, len(prompts.ids), room, ROOMS[decode.limit], options.max_tokens),
      )
    cut = [np.concatenate([prefix, ids[-room:], infix]) for ids in prompts.ids]
    known = kept.read(options, (frozen, trainable), cut) if kept else {}
    seen = display.Decoding() if hosts.is_first() else None

    def progress(decided: Mapping[int, generation.Generated], total: int) -> None:
      if seen:
        seen(len(decided), total)
      if kept:
        kept.keep(decided, total)

    decoded = decoder(runnable(frozen, trainable), cut, known, progress)
    return [plain(tokenizer, one.tokens, decode.stop) for one in decoded]

  return texts


def tokenizer_of(task: tasks.Task) -> Tokenizer:
  """The tokenizer of a task whose texts can be generated.

  Raises:
    ValueError: for a task that has no contexts.
  """
  if not task.prompts or task.tokenizer is None:
    raise ValueError(
      f'{task.name} has no contexts to generate from: leave config.decode.contexts at 0 and '
      "config.decode.final at ''"
    )
  return task.tokenizer


def language_model(apply: Apply, options: generation.Settings) -> generation.LanguageModel:
  """A bound model in the form that the decoder takes; its parameters are (frozen, trainable)."""
  bound = lambda params: functools.partial(apply, *params)
  room = dict(beams=options.width, max_tokens=options.max_tokens)
  return generation.LanguageModel(
    lambda params, ids, lengths: incremental.prefill(bound(params), ids, lengths, **room),
    lambda params, tokens, parents, cache: incremental.step(bound(params), tokens, parents, cache),
  )


def settings(
  decode: config_dict.ConfigDict, tokenizer: Tokenizer, seed: int
) -> generation.Settings:
  """The decoder's settings; stop texts that are one token of the vocabulary end a beam.

  Raises:
    ValueError: for settings out of range, an empty stop text among them.
  """
  if '' in decode.stop:
    raise ValueError(
      'config.decode.stop: expected texts that end a generated one, found an empty text. Remove it.'
    )
  names = {field.name for field in dataclasses.fields(generation.Settings)} - {'end_ids', 'seed'}
  stops = tokenizer.encode(list(decode.stop))
  ends = {int(ids[0]) for ids in stops if len(ids) == 1} | {tokenizer.eos_id}
  ends |= {end for stop in decode.stop if (end := tokenizer.id_of(stop)) is not None}
  return generation.Settings(
    **{name: decode[name] for name in names}, end_ids=tuple(sorted(ends)), seed=seed
  )


def plain(tokenizer: Tokenizer, tokens: np.ndarray, stops: Sequence[str]) -> str:
  """The text of generated tokens, before the first stop, with single spaces."""
  whole = tokenizer.decode(tokens, skip_special=False)
  return ' '.join(min((whole.split(stop)[0] for stop in stops), key=len, default=whole).split())


def subset(prompts: dataset.Prompts, n: int) -> dataset.Prompts:
  """n of the prompts, evenly spaced; all of them if there are not more."""
  index = np.unique(np.linspace(0, len(prompts.ids) - 1, min(n, len(prompts.ids))).astype(int))
  places = [int(i) for i in index]
  return dataset.Prompts(
    [prompts.contexts[i] for i in places],
    [prompts.ids[i] for i in places],
    [prompts.references[i] for i in places],
    {name: np.asarray(part)[index] for name, part in prompts.groups.items()},
  )


def score(
  task: tasks.Task, prompts: dataset.Prompts, texts: Sequence[str], metrics: Sequence[str] = ()
) -> dict[str, Any]:
  """The report of `metrics.text.score` as a dict; `parts` has the scores of each part, if any."""
  report = text.score(task.scoring, texts, prompts.references, metrics)._asdict()
  report['parts'] = {
    name: text.score(
      task.scoring,
      list(itertools.compress(texts, part)),
      list(itertools.compress(prompts.references, part)),
      metrics,
    ).scores
    for name, part in prompts.groups.items()
    if part.any()  # WebNLG's dev set has no unseen category.
  }
  return report


def examples(prompts: dataset.Prompts, texts: Sequence[str]) -> list[dict[str, str]]:
  """A few contexts with what was generated and the first reference."""
  few = subset(prompts, EXAMPLES)
  generated = dict(zip(prompts.contexts, texts))
  return [
    {'context': context, 'generated': generated[context], 'reference': references[0]}
    for context, references in zip(few.contexts, few.references)
  ]


def sample(
  work: job.Job, texts: Texts, frozen: Params, trainable: Params
) -> tuple[dict[str, float], list[dict[str, str]]]:
  """The scoring's first metric (`split/bleu`) on the config's number of contexts, and examples.

  The contexts are of the first held-out split.
  """
  split, prompts = next(iter(work.task.prompts.items()))
  prompts = subset(prompts, work.config.decode.contexts)
  decoded = texts(frozen, trainable, prompts, None)
  first = text.METRICS[work.task.scoring][:1]
  scores = score(work.task, prompts, decoded, first)['scores']
  return {f'{split}/{name}': value for name, value in scores.items()}, examples(prompts, decoded)


def report(
  work: job.Job,
  decode: config_dict.ConfigDict,
  texts: Callable[[dataset.Prompts, PartialTexts], list[str]],
  split: str,
  prompts: dataset.Prompts,
  kept: PartialTexts,
) -> dict[str, Any]:
  """Decodes all contexts of a split, writes one text a line to `kept.path`, and scores them.

  What an earlier process has decoded before it was killed is taken from `kept`, which the caller
  removes when it has the report.
  `references-SPLIT.txt` is written beside it: the references, with a blank line after each context.
  Several processes decode together, and the first of them writes and scores.

  Returns:
    the settings of decoder and scorer, scores, examples, and seconds of decoding with compiling.
    Processes other than the first get all but the scores.
  """
  began = time.monotonic()
  decoded = texts(prompts, kept)
  seconds = kept.seconds + time.monotonic() - began
  written = {}
  if hosts.is_first():
    written = write_and_score(work.task, split, prompts, decoded, kept.path)
  return {
    'split': split,
    'contexts': len(prompts.ids),
    'seconds': seconds,
    'decode': dataclasses.asdict(settings(decode, tokenizer_of(work.task), work.config.seed)),
    **written,
    'examples': examples(prompts, decoded),
  }


def write_and_score(
  task: tasks.Task, split: str, prompts: dataset.Prompts, texts: Sequence[str], path: Path
) -> dict[str, Any]:
  """Writes texts and references as `report` does; returns the scores of the texts."""
  writers.write_text(path, '\n'.join(texts) + '\n')
  writers.write_text(_beside(path, split), _groups(prompts))
  return score(task, prompts, texts)


def _beside(path: Path, split: str) -> Path:
  """The file of the references, beside that of the texts."""
  return path.with_name(f'references-{Path(split).name}.txt')


def _groups(prompts: dataset.Prompts) -> str:
  """The references, each on a line, with a blank line after each context."""
  line = lambda reference: ' '.join(reference.split()) + '\n'
  return '\n'.join(''.join(map(line, references)) for references in prompts.references)


def _check_references(path: Path, prompts: dataset.Prompts) -> None:
  """Raises a FileExistsError if a file holds other references, by which other texts are scored."""
  if hosts.is_first() and path.exists() and path.read_text(encoding='utf-8') != _groups(prompts):
    raise FileExistsError(
      f'{path} holds the references of another task or other data. Name an --out in another folder'
    )


def generate_run(
  workdir: str | Path,
  decode: config_dict.ConfigDict,
  *,
  split: str,
  out: str | Path,
  which: str = 'best',
) -> dict[str, Any]:
  """As `report`, for a run directory, on all devices.

  Args:
    workdir: the run directory.
    decode: the decoding settings, as the config's section of that name.
    split: a split of the run's task.
    out: a new file that the texts are written to.
    which: `best` or `last` checkpoint.

  Raises:
    FileExistsError: if there is something at `out`, or other references beside it.
    ValueError: if the folder is not a run directory, or the task generates no text, or has no
      contexts or no such split.
  """
  config = rundir.read_config(workdir)
  if (kind := rundir.read_task(workdir).kind) != 'lm':
    raise ValueError(
      f'{workdir} is a run of {config.task}, a {kind} task: expected a run of a language model, '
      f'this one generates no text. Evaluate it with experiments.evaluate --workdir={workdir}'
    )
  kept = PartialTexts(paths.path_of(out))
  kept.check_new()
  with provenance.checked(paths.path_of(workdir)) as changed:  # The model takes longer to load.
    prompts = job.load_prompts(config, split)
  _check_references(_beside(kept.path, split), prompts)
  devices = mesh.for_run(config.mesh)
  work, trainable = job.load_run(workdir, which, devices=devices)
  texts = make_generator(work, decode, devices)
  texts = functools.partial(texts, work.frozen, trainable)
  found = report(work, decode, texts, split, prompts, kept)
  kept.remove()
  changes = list(dict.fromkeys([*work.changed, *changed]))
  return found | ({'changed_inputs': changes} if changes else {})
