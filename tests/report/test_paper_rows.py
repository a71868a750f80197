"""A run of one of the paper's models belongs to the row that trains as much."""

import pytest

from lora_jax.report import paper_rows
from tests.report.toys import run


def test_adapters_are_told_apart_by_what_they_train():
  for size, printed in ((3_171_840, '3.0M'), (811_392, '0.8M')):
    found = run(0, 0.9, paper_table='table 2 †', model='roberta-large', method='adapter_p')
    found['parameters'] = {'trainable': size, 'trainable_without_head': size}
    assert paper_rows.row_of('2', found).printed == printed


def test_the_row_of_a_run_is_in_its_setup():
  of_lora = run(0, 0.9, model='/m/roberta-large/', method='lora', paper_table='table 2 †')
  assert paper_rows.row_of('2', of_lora).adapter_setup
  assert not paper_rows.row_of('2', of_lora | {'paper_table': 'table 2'}).adapter_setup
  assert paper_rows.row_of('2', of_lora | {'model': 'other'}) is None


@pytest.mark.parametrize('table', paper_rows.TABLES)
def test_every_row_is_quoted_or_not_run(table):
  states = {row['ours'] for row in paper_rows.rows(table, [], lambda row, column: [])}
  assert states == {'quoted', 'not run'}
