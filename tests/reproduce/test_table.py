"""A table is its units as they stand on the disk."""

from configs import _base, compare
from lora_jax.reproduce import order
from lora_jax.reproduce.units import Choice
from tests.reproduce.toys import MACHINE, TINY, finish, table

GLUE = Choice(model='fresh', tasks=('rte',), methods=('lora',), seeds=2, tiny=True)


def finish_all(made, scores=None):
  """Finishes the runs of all entries that are left, with scores by rate."""
  for entry in made.entries(MACHINE):
    for folder, config in entry.runs.items():
      if not entry.states[folder].is_finished:
        score = scores[config.optim.lr] if scores else 0.5
        finish(made.workdir / folder, config, score)


def names(made):
  return [entry.unit.name for entry in made.entries(MACHINE)]


def test_what_is_finished_is_measured_for_the_other_seeds(tmp_path):
  made = table(tmp_path, choice=TINY._replace(methods=('lora', 'full')))
  first, *others = made.entries(MACHINE)
  assert [entry.unit.name for entry in others] == ['full-seed-0', 'lora-seed-1', 'full-seed-1']
  finish(tmp_path / 'lora-seed-0', first.runs['lora-seed-0'])
  done, full, again, _ = made.entries(MACHINE)
  assert done.is_finished and not done.estimates
  assert again.estimates['lora-seed-1'].source == 'measured'
  assert 'as measured of others' in full.estimates['full-seed-0'].source
  finish_all(made)
  assert all(entry.is_finished for entry in made.entries(MACHINE))
  assert order.following(made.entries(MACHINE), (0, 1), (), 1e9) is None


def test_the_search_of_a_rate_ends_with_the_best_inside(tmp_path):
  made = table(tmp_path, number='2', choice=GLUE)
  *grid, last = _base.RATES['lora']
  scores = {rate: rate for rate in (*grid, last)}
  assert names(made) == ['rte-lora-rates', 'rte-lora-seed-1']
  finish_all(made, scores)
  following = compare.next_rate(scores, _base.RATES['lora'])
  assert following > last
  assert names(made) == ['rte-lora-rates', f'rte-lora-rate-{following:g}', 'rte-lora-seed-1']
  assert made.entries(MACHINE)[-1].unit.waits
  finish_all(made, scores | {following: 0.0})
  *_, seed = made.entries(MACHINE)
  assert not seed.unit.waits
  (config,) = seed.runs.values()
  assert (config.optim.lr, config.seed) == (last, 1)
  finish_all(made)
  assert all(entry.is_finished for entry in made.entries(MACHINE))


def test_a_method_that_no_rate_can_train_has_no_other_seeds(tmp_path):
  choice = GLUE._replace(model='tests/golden/models/llama', methods=('bitfit',))
  (entry,) = table(tmp_path, number='2', choice=choice, given={'data.max_length': 8}).entries(
    MACHINE
  )
  assert 'matches no parameter' in entry.unit.why_not


def test_a_figure_s_analysis_comes_when_its_runs_are_finished(tmp_path):
  made = table(tmp_path, 'figure', '4')
  entries = made.entries(MACHINE)
  assert [entry.unit.command for entry in entries] == ['sweep', 'sweep', 'analyze']
  assert order.following(entries, (0, 1), {entries[0].unit.name}, 1e9) is entries[1]
  passed = {entry.unit.name for entry in entries[:2]}
  assert order.following(entries, (0, 1), passed, 1e9) is None
  finish_all(made)
  assert order.following(made.entries(MACHINE), (0, 1), (), 1e9).unit.command == 'analyze'


def test_a_method_that_the_model_cannot_have_is_listed_once(tmp_path):
  model = 'tests/golden/models/llama'
  choice = Choice(model=model, methods=('bitfit', 'lora'), seeds=2)
  made = table(tmp_path, choice=choice, given={'data.max_length': 8})
  bitfit, *others = made.entries(MACHINE)
  assert 'matches no parameter' in bitfit.unit.why_not and not bitfit.states
  assert [entry.unit.name for entry in others] == ['lora-seed-0', 'lora-seed-1']
