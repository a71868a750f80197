"""The printed tables are read as numbers, and are as long as in the paper."""

import pytest

from lora_jax.paper import printed, translation


def test_entries_are_read_as_numbers():
  entries = ('90.6±.2', '.38', '1482.0±1.0 (+2.2%)')
  assert [printed.value(entry) for entry in entries] == [90.6, 0.38, 1482]
  assert (printed.spread('90.6±.2'), printed.spread('46.2')) == (0.2, 0)
  assert [printed.places(entry) for entry in entries] == [1, 2, 1]
  counts = ('0.35M', '175,255.8M', '175B')
  assert [printed.millions(count) for count in counts] == [0.35, 175255.8, 175e3]
  with pytest.raises(ValueError, match=r"begins with a number.*found '-'"):
    printed.value('-')


def test_the_tables_have_all_of_their_rows():
  assert {number: len(table.rows) for number, table in printed.TABLES.items()} == {
    '1': 3, '2': 14, '3': 12, '4': 8, '5': 3, '6': 6, '7': 2, '13': 11, '14': 11, '15': 30,
    '16': 4, '18': 11,
  }  # fmt: skip


@pytest.mark.parametrize('row', printed.TABLES['2'].rows)
def test_the_averages_of_table_2_are_those_of_its_scores(row):
  scores = [printed.value(row[task]) for task in translation.GLUE_TASKS]
  assert sum(scores) / 8 == pytest.approx(printed.value(row['Avg']), abs=0.06)
