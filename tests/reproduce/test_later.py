"""The rows that later papers print are trained on their models, at every rate."""

import re
from pathlib import Path

import pytest

from configs import rates
from experiments import _tables
from lora_jax.paper import successors
from lora_jax.reproduce import later, units
from lora_jax.reproduce.units import Choice


def runs(number, choice):
  rows = units.with_seeds(later.rows('table', number, choice), 1)
  return {row.label: list(units.runs_of(row, _tables.CONFIGS, {}).values()) for row in rows}


def test_a_paper_has_its_models_ranks_matrices_and_dtypes():
  found = runs('2', Choice(paper='pissa', tasks=('rte',)))
  assert list(found) == ['rte full', 'rte lora', 'rte dora', 'rte pissa']
  for label, configs in found.items():
    grid = rates.FULL_RATES if label == 'rte full' else rates.RATES
    assert [config.optim.lr for config in configs] == list(grid)
    assert {config.model.name for config in configs} == {'deberta-v3-base'}
  assert {(c.method.rank, len(c.method.targets)) for c in found['rte pissa']} == {(8, 2)}
  assert {c.method.init for c in found['rte pissa']} == {'pissa'}
  assert {c.method.dora for c in found['rte dora']} == {True}

  (vera,) = {
    (c.model.name, c.method.name, c.method.rank, tuple(c.method.targets))
    for c in runs('2', Choice(paper='vera', tasks=('cola',), methods=('vera',)))['cola vera']
  }
  assert vera == ('roberta-base', 'vera', 1024, ('.*/attention/(query|value)',))

  found = runs('2', Choice(paper='qlora', tasks=('rte',)))
  bases = {label: {(c.model.dtype, c.model.quantize) for c in found[label]} for label in found}
  assert bases == {
    'rte full': {('bfloat16', 'none')},
    'rte lora': {('bfloat16', 'none')},
    'rte int8': {('float32', 'int8')},
    'rte nf4': {('float32', 'nf4')},
  }


def test_veras_rows_of_e2e_generate_texts():
  found = runs('3', Choice(paper='vera'))
  assert list(found) == [
    'gpt2-medium-lora', 'gpt2-medium-vera', 'gpt2-large-lora', 'gpt2-large-vera',
  ]  # fmt: skip
  (config,) = found['gpt2-large-vera']
  assert (config.model.name, config.method.rank, config.decode.final) == (
    'gpt2-large', 1024, 'test',
  )  # fmt: skip


def test_each_paper_has_a_table_of_what_it_printed():
  captions = ' '.join(table.caption for tables in successors.TABLES.values() for table in tables)
  for paper in later.PAPERS:
    assert re.search(rf'from {paper}\b', captions, re.IGNORECASE)


def test_another_base_and_fewer_rows_can_be_asked_for():
  choice = Choice('m/base', ('rte',), ('nf4',), tiny=True, paper='qlora')
  found = runs('2', choice)
  assert list(found) == ['rte nf4'] and found['rte nf4'][0].model.name == 'm/base'


def test_the_command_takes_the_rows_of_the_paper():
  choice = Choice(paper='qlora', tasks=('rte',), methods=('nf4',), seeds=2, tiny=True)
  asked = _tables.Request('table', '2', choice, folder=Path('out'), is_dry=True)
  table = _tables.make_table(asked)
  assert str(table.workdir) == 'runs/table-2-qlora'
  assert [unit.name for unit in table._units()] == ['rte-nf4-seed-0', 'rte-nf4-seed-1']


@pytest.mark.parametrize(
  'kind, number, choice, problem',
  [
    ('table', '2', Choice(paper='pisa'), "unknown paper 'pisa'. Did you mean 'pissa'"),
    ('table', '3', Choice(paper='pissa'), 'expected --table=2, found --table=3'),
    ('figure', '2', Choice(paper='vera'), 'expected --table=2 or --table=3, found --figure=2'),
    ('table', '2', Choice(paper='vera', tasks=('mnli',)), "unknown task 'mnli'"),
    ('table', '2', Choice(paper='vera', methods=('dora',)), "unknown method 'dora'"),
  ],
)
def test_what_a_paper_does_not_print_is_refused(kind, number, choice, problem):
  with pytest.raises(ValueError, match=re.escape(problem)):
    later.rows(kind, number, choice)
