"""Tables of hyperparameters: a row for each task, and what the paper says in words of them."""

import pytest

from lora_jax.paper import printed, settings, translation


def test_a_table_has_a_value_of_every_column_for_every_task():
  columns = dict(lr=(1e-3,) * 8, batch_size=(8,) * 8, epochs=(1,) * 8, max_length=(128,) * 8)
  rows = settings.by_task(**columns)
  assert tuple(rows) == settings.GLUE_TASKS
  assert rows['rte'] == settings.GlueRow(1e-3, 8, 1, 128, 0.1, None, 0.06, 0, 0)
  with pytest.raises(ValueError, match='shorter'):
    settings.by_task(**columns | {'lr': (1e-3,) * 7})


def test_the_tasks_are_those_of_table_2_by_their_names_here():
  assert set(settings.GLUE_TASKS) == set(translation.GLUE_TASKS.values())
  assert set(translation.GLUE_TASKS) < set(printed.TABLES['2'].rows[0])


def test_the_adapters_setup_is_of_one_batch_and_length():
  """Appendix D.1: the runs marked † have batch 4 and length 128, and at most 20 epochs."""
  rows = settings.ROBERTA_LARGE_ADAPTER_SETUP.values()
  assert {(row.batch_size, row.max_length) for row in rows} == {(4, 128)}
  assert max(row.epochs for row in rows) == 20
  sizes = {name: list(of) for name, of in settings.ADAPTERS_OF_ROBERTA_LARGE.items()}
  assert sizes == {'adapter_p': [16, 64], 'adapter_h': [8, 64]}
  for of in settings.ADAPTERS_OF_ROBERTA_LARGE.values():
    for table in of.values():
      assert {(row.batch_size, row.max_length) for row in table.values()} == {(32, 128)}


def test_table_17_is_table_12_where_all_examples_are_used():
  every = settings.TABLE_17['all']
  assert (every.examples, every.batch_size, every.epochs) == (
    0,
    settings.GPT3_BATCH_SIZE,
    settings.GPT3_EPOCHS,
  )
  assert every.rates.items() <= settings.GPT3_RATES.items()
  few = {name: column for name, column in settings.TABLE_17.items() if name != 'all'}
  assert [column.examples for column in few.values()] == [100, 1000, 10_000]
  assert all(column.rates.keys() == every.rates.keys() for column in few.values())
  prefixes = [column.embed_prefix for column in settings.TABLE_17.values()]
  assert prefixes == sorted(prefixes), 'a longer prefix for more examples'
