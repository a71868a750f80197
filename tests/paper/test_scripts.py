"""The scripts' hyperparameters differ from the tables where it is known that they do."""

from lora_jax.paper import scripts, settings


def differing(name, column):
  """The tasks in which a script and its table differ in a column."""
  ours, theirs = getattr(scripts, name), getattr(settings, name)
  return {t for t in ours if getattr(ours[t], column) != getattr(theirs[t], column)}


def test_rates_differ_from_the_tables_in_the_tasks_that_are_named():
  assert differing('ROBERTA_BASE', 'lr') == set()
  assert differing('ROBERTA_LARGE', 'lr') == {'cola', 'stsb'}
  assert differing('DEBERTA_XXL', 'lr') == {'cola', 'rte'}


def test_a_batch_is_the_print_on_eight_devices_but_where_a_script_says_another():
  devices = {
    name: {
      task: row.batch_size / getattr(settings, name)[task].batch_size
      for task, row in getattr(scripts, name).items()
    }
    for name in ('ROBERTA_BASE', 'ROBERTA_LARGE', 'DEBERTA_XXL')
  }
  others = {
    name: {task: factor for task, factor in of_name.items() if factor != 8}
    for name, of_name in devices.items()
  }
  assert others == {
    'ROBERTA_BASE': {'cola': 2},
    'ROBERTA_LARGE': {'sst2': 16, 'stsb': 4},
    'DEBERTA_XXL': {},
  }


def test_lengths_and_epochs_are_those_of_the_tables():
  assert not differing('ROBERTA_BASE', 'epochs') | differing('DEBERTA_XXL', 'epochs')
  assert not differing('ROBERTA_BASE', 'max_length') | differing('DEBERTA_XXL', 'max_length')
  assert differing('ROBERTA_LARGE', 'epochs') == {'stsb'}
  assert differing('ROBERTA_LARGE', 'max_length') == {'sst2', 'stsb'}
  # DeBERTa's warm up by steps, but for MRPC.
  by_steps = {task for task, row in scripts.DEBERTA_XXL.items() if row.warmup_steps}
  assert by_steps == set(settings.GLUE_TASKS) - {'mrpc'}
