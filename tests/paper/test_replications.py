"""A replication is of a row that the paper's table has, in its columns."""

import pytest

from lora_jax.paper import printed, replications


@pytest.mark.parametrize('table', replications.TABLES)
def test_a_replication_is_of_a_printed_row(table):
  of_paper = printed.TABLES[table].rows
  names = ('model', 'method', 'params')
  for row in replications.TABLES[table].rows:
    assert list(row) == list(of_paper[0])
    same = [other for other in of_paper if all(other[name] == row[name] for name in names)]
    assert len(same) == 1
    off = abs(printed.value(row['BLEU']) - printed.value(same[0]['BLEU']))
    assert printed.spread(same[0]['BLEU']) < off < 3, 'as near as another run of it would be'
