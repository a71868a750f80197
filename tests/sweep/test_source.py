"""What the runs of a sweep share is loaded once."""

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
