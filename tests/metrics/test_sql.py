import pytest

from lora_jax.metrics import sql, text
from lora_jax.metrics.sql import Query

QUERIES = [
  Query('', 'Position'),
  Query('COUNT', 'No. "x"', (('Years in Toronto', '=', "O'Neal AND 1"), ('No.', '>', '4'))),
  Query('MAX', 'where', (('a = b', 'OP', ''), ('from table', '<', '-1.5'))),
]


@pytest.mark.parametrize('query', QUERIES)
def test_a_query_is_read_from_what_it_is_written_as(query):
  assert sql.parse(str(query)) == query
  assert sql.parse(str(query).replace('SELECT', 'select').replace(' FROM', '  From')) == query


def test_the_logical_form_is_that_of_the_official_evaluation():
  query = Query('SUM', 'a', (('b', '=', 'New York'), ('c', '<', '3')))
  assert query.same(query._replace(conditions=query.conditions[::-1]))  # A set.
  assert query.same(query._replace(conditions=(('b', '=', 'new  york'), ('c', '<', '3'))))
  others = [
    query._replace(aggregation='AVG'),
    query._replace(column='A'),
    query._replace(conditions=query.conditions[:1]),
    query._replace(conditions=(('b', '>', 'New York'), ('c', '<', '3'))),
    query._replace(conditions=(('b', '=', 'York'), ('c', '<', '3'))),
  ]
  assert not any(query.same(other) for other in others)


@pytest.mark.parametrize(
  'written, message',
  [
    ('', 'expected SELECT "column" FROM table, found \'\''),
    ('SELECT a FROM table', 'expected SELECT "column" FROM table'),
    ('SELECT MIDDLE("a") FROM table', 'expected SELECT "column" FROM table'),
    ('SELECT "a" FROM tables', 'expected SELECT "column" FROM table'),
    ('SELECT "a" FROM table ORDER BY "a"', "expected WHERE or the end, found 'ORDER BY"),
    ('SELECT "a" FROM table WHERE "b" = 3', 'found \'"b" = 3\''),
    ('SELECT "a" FROM table WHERE "b" = \'3\' OR', "expected AND or the end, found 'OR'"),
    ('SELECT "a" FROM table WHERE "b" = \'3\' AND', "OP 'value', found ''"),
  ],
)
def test_what_is_no_query_is_said(written, message):
  with pytest.raises(ValueError, match=None) as error:
    sql.parse(written)
  assert message in str(error.value)


def test_accuracy_counts_every_question_and_a_text_that_is_no_query_is_wrong():
  a, b = str(QUERIES[0]), str(QUERIES[1])
  assert sql.logical_form([a, 'SELECT', b], [[a, b], [a], [b]]) == (0.5, 0.75)
  report = text.score('wikisql', [a, b], [[a], [a]])
  assert report.scores == {'logical_form': 0.5, 'queries': 1.0}
  assert 'column' in report.settings['logical_form'] and report.versions == {}
  with pytest.raises(ValueError, match='expected SELECT'):
    sql.logical_form([a], [['no query']])
