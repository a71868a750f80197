"""Numbers of results and of the paper that a finding names by what they are of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lora_jax.errors import listed, nearest
from lora_jax.paper import printed
from lora_jax.report import formula, grids, runs, scores
from lora_jax.result_schema import RunResult

Query = Mapping[str, object]
TEXTS = {'BLEU': ('bleu', 100), 'NIST': ('nist', 1), 'METEOR': ('meteor', 100)}
TEXTS |= {'ROUGE-L': ('rouge_l', 100), 'CIDEr': ('cider', 1), 'TER': ('ter', 1)}
RATE = 'optim.lr'
NAMED = {
  'model': runs.model_name,
  'rank': grids.FIELDS['rank'],
  'matrices': grids.weights,
  'examples': runs.limit,
  'method': runs.method,
}


def find(query: Query, recorded: runs.Recorded) -> formula.Quantity:
  """The numbers that a query names.

  A query is one of three. `{paper = "3", model = "GPT-2 M", method = "LoRA", column = "BLEU"}` is
  an entry of a table of the paper. `{file = "latency-cpu.json", at = "settings.*.batch"}` is the
  numbers at a path of a file, `*` being every entry, and `where = {matrix = "query"}` those on
  whose path the objects have these values. Any other names runs by their fields, by those of their
  config (`optim.lr = 0.001`) or by `model`, `rank`, `matrices` (Wq,Wv) and `examples`: one number
  for each seed, at the best of the rates that were tried, of the dev metric or of a `score`: BLEU
  and so on, `parameters`, `minutes`, or the best `rate`. `places` is the number of digits to show.

  Raises:
    ValueError: if there are no such numbers, or the runs differ in more than the seed and the rate.
  """
  query = dict(query)
  places = query.pop('places', None)
  if 'paper' in query:
    found = _of_paper(query)
  elif 'file' in query:
    found = _of_file(query, recorded)
  else:
    found = _of_runs(query, list(recorded.runs.values()))
  return found._replace(places=places) if isinstance(places, int) else found


def _of_paper(query: dict[str, object]) -> formula.Quantity:
  table, column = str(query.pop('paper')), str(query.pop('column'))
  rows = [row for row in printed.TABLES[table].rows if query.items() <= row.items()]
  if len(rows) != 1 or column not in rows[0]:
    raise ValueError(f'table {table} has {len(rows)} rows with {query}, expected one with {column}')
  entry = rows[0][column]
  return formula.Quantity((printed.value(entry),), printed.places(entry), printed.spread(entry))


def _of_file(query: Query, recorded: runs.Recorded) -> formula.Quantity:
  kinds: dict[str, object] = {}
  for files in vars(recorded).values():
    kinds |= files
  name, path = str(query['file']), str(query['at'])
  if name not in kinds:
    raise ValueError(f'no file {name!r} of results. {nearest(name, kinds)}')
  where = query.get('where', {})
  numbers = list(_walk(kinds[name], path.split('.'), where if isinstance(where, Mapping) else {}))
  if not numbers:
    raise ValueError(f'{name} has no numbers at {path} where {where}')
  return formula.quantity(numbers, 2)


def _walk(value: object, path: Sequence[str], where: Query) -> Iterable[float]:
  """The numbers at a path on which the objects have what `where` says, each key in one of them."""
  if not path:
    if isinstance(value, int | float) and not where:
      yield float(value)
    return
  if isinstance(value, Mapping):
    if any(value.get(name, wanted) != wanted for name, wanted in where.items()):
      return
    where = {name: wanted for name, wanted in where.items() if name not in value}
  entries = list(value.values()) if isinstance(value, Mapping) else value
  if path[0] == '*':
    for entry in entries if isinstance(entries, list) else ():
      yield from _walk(entry, path[1:], where)
  elif isinstance(value, Mapping) and path[0] in value:
    yield from _walk(value[path[0]], path[1:], where)


def _of_runs(query: dict[str, object], found: Sequence[RunResult]) -> formula.Quantity:
  score = str(query.pop('score', ''))
  text, times = TEXTS.get(score, ('', 1))
  same = [run for run in found if all(_field(run, name) == x for name, x in query.items())]
  if text:
    same = [run for run in same if text in run.get('generated', {}).get('scores', {})]
  if not same:
    raise ValueError(f'no run of {query}{score and f" with {score}"}')
  if names := _differing(same):
    raise ValueError(f'the runs of {query} also differ in {listed(names)}: add one of these')
  best = scores.at_best_rate(same)
  metric = same[0]['metric']
  if score == 'parameters':
    sizes = {float(run['parameters']['trainable_without_head']) for run in best}
    return formula.quantity(sorted(sizes), 0)
  if score == 'minutes':
    minutes = [sum(run['seconds'].values()) / 60 for run in best]
    return formula.quantity(minutes, 1)
  if score == 'rate':
    return formula.quantity(sorted({runs.rate(run) for run in best}), 0)
  if text:
    texts = [times * run['generated']['scores'][text] for run in best]
    return formula.quantity(texts, 1 if times == 100 else 2)
  if score:
    raise ValueError(
      f'unknown score {score!r}. {nearest(score, [*TEXTS, "parameters", "minutes", "rate"])}'
    )
  return formula.quantity(scores.best(best), scores.digits(metric))


def _field(run: RunResult, name: str) -> object:
  if name in NAMED:
    return NAMED[name](run)
  return {**runs.leaves(run['config']), **run}.get(name)


def _differing(found: Sequence[RunResult]) -> list[str]:
  """The config fields in which runs differ that are no labels, no seed and not the rate.

  A field that a run does not have was added to the configs later.
  """
  values: dict[str, set[str]] = {}
  for run in found:
    for name, value in runs.leaves(run['config']).items():
      values.setdefault(name, set()).add(repr(value))
  return [name for name, of in values.items() if len(of) > 1 and name not in (*runs.LABELS, RATE)]
