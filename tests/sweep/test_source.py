"""What the runs of a sweep share is loaded once."""

import numpy as np

from lora_jax.sweep import grouping
from lora_jax.sweep.source import Source
from lora_jax.train import job


def test_data_is_loaded_once_and_a_base_once_for_each_seed(make_config, monkeypatch):
  loaded = []

  def counted(name):
    real = getattr(job, name)
    return lambda config, *rest: loaded.append((name, config.seed)) or real(config, *rest)

  for name in ('load_task', 'load_base'):
    monkeypatch.setattr(job, name, counted(name))
  of = [{'seed': seed, 'method.rank': rank} for seed in (0, 1) for rank in (1, 2)]
  configs = [member.config for member in grouping.members(make_config(), of)]
  source = Source()
  works = source.jobs(configs)
  assert loaded == [('load_task', 0), ('load_base', 0), ('load_base', 1)]
  assert all(work.frozen is works[0].frozen for work in works)
  assert source.jobs(configs[2:])[0].task is works[0].task and len(loaded) == 3
  limited = [member.config for member in grouping.members(make_config(**{'data.limit': 8}), of)]
  assert source.task(limited[0]) is not source.task(limited[2])  # Drawn by the seed.


def test_training_evaluates_on_the_same_part_of_a_split_for_every_seed(make_config):
  of = [{'seed': seed} for seed in (0, 1)]
  whole = job.load_task(make_config()).evals
  limited = make_config(**{'eval.limit': 5})
  source = Source()
  drawn = [source.task(member.config).evals for member in grouping.members(limited, of)]
  drawn.append(job.load(limited).task.evals)
  for split, data in whole.items():
    assert [len(evals[split]) for evals in drawn] == [5] * 3 and len(data) > 5
    for evals in drawn:
      for one, other in zip(evals[split].ids, drawn[0][split].ids, strict=True):
        np.testing.assert_array_equal(one, other)
  split = next(iter(whole))  # What reads a run afterwards evaluates on all of it.
  assert len(job.load_task(limited, (split,)).evals[split]) == len(whole[split])
