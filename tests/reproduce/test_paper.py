"""The runs of the paper's own models are the rows of its tables, at the settings of the configs."""

import pytest

from experiments import _tables
from lora_jax.paper import entries
from lora_jax.reproduce import answers, paper, units
from lora_jax.reproduce.units import Choice

PAPER = Choice()
TABLES = [n for n in answers.TABLES if n not in ('1', '7')]


@pytest.mark.parametrize('number', TABLES)
def test_every_row_is_a_run_of_a_config_with_a_folder_of_its_own(number):
  rows = units.with_seeds(paper.rows('table', number, PAPER), 1)
  assert len({row.name for row in rows}) == len(rows)
  assert not any('{' in row.name + row.arg or '/' in row.name for row in rows)
  for row in [row for row in rows if not row.why_not][::5]:
    for config in units.runs_of(row, _tables.CONFIGS, {'data.dir': '/d'}).values():
      assert config.preset == ('adapter_setup' if 'adapter_setup' in row.name else 'paper')
      assert config.seed == 0 and config.data.dir == '/d'


def test_quoted_rows_are_named_and_not_run():
  for number, rows in (('2', entries.TABLE_2), ('3', entries.TABLE_3), ('14', entries.TABLE_14)):
    quoted = [row for row in paper.rows('table', number, PAPER) if row.why_not]
    assert len(quoted) == sum(row.quoted for row in rows)
    assert {row.why_not for row in quoted} <= {paper.QUOTED}


def test_tasks_that_start_from_mnli_name_its_run():
  rows = paper.rows('table', '2', Choice(tasks=('mnli', 'rte'), methods=('lora',)))
  starts = {row.name: row.starts_from for row in units.with_seeds(rows, 2) if not row.why_not}
  assert starts['rte-roberta-base-lora-0.3M-seed-1'] == 'mnli-roberta-base-lora-0.3M-seed-0'
  assert starts['mnli-roberta-base-lora-0.3M-seed-1'] == ''
  assert starts['rte-roberta-large-lora-0.8M-adapter_setup-seed-0'] == ''
  alone = paper.rows('table', '2', Choice(tasks=('rte',), methods=('lora',)))
  assert 'add mnli to --tasks' in alone[0].why_not


def test_gpt3_s_rows_have_the_options_of_the_table():
  rows = {row.name: row for row in paper.rows('table', '15', Choice(tasks=('wikisql',)))}
  assert len(rows) == len(entries.TABLE_15)
  row = rows['wikisql-lora+prefix_embed-rq=rv=32,lp=8,li=4-seed-{seed}']
  (config,) = units.runs_of(row, _tables.CONFIGS, {}).values()
  assert (config.method.rank, config.method.alpha, config.method.prefix) == (32, 32.0, 8)
  same = paper.rows('figure', '2', Choice(tasks=('wikisql',)))
  assert [row.name for row in same] == list(rows)


def test_figures_6_and_7_are_pictures_of_3_and_4():
  assert paper.analysis_of('figure', '6') == paper.analysis_of('figure', '3') == 'figure-3'
  assert paper.analysis_of('figure', '7') == 'figure-4'
  assert paper.analysis_of('table', '7') == 'table-7' and not paper.analysis_of('table', '3')
  made = paper.analyzed('figure', '4', PAPER)
  assert [(row.fields['method.rank'], row.seed) for row in made] == [(64, 0), (64, 1)]
  (analysis,) = paper.measurements('figure-4', 'gpt2-xl')
  assert analysis.seed == 1  # After the runs of the second seed.
  assert [unit.name for unit in paper.measurements('table-7', 'm')] == [
    'table-7-m-r4',
    'table-7-m-r64',
  ]


def test_latency_is_of_gpt2():
  assert paper.latency('figure', 'gpt2-large')[0].flags == ('--model=gpt2-large', '--grid')
  assert 'GPT-2' in paper.latency('table', 'm/llama')[0].why_not


def test_an_unknown_task_or_method_is_answered_with_near_names():
  with pytest.raises(ValueError, match=r"--tasks: unknown task 'wikisq' of this table.*wikisql"):
    paper.rows('table', '4', Choice(tasks=('wikisq',)))
  with pytest.raises(ValueError, match=r"--methods: unknown method 'lroa'.*'lora'"):
    paper.rows('table', '3', Choice(methods=('lroa',)))
  for number, given in (('3', {'tasks': ('rte',)}), ('18', {'methods': ('full',)})):
    with pytest.raises(ValueError, match='of this table'):
      paper.rows('table', number, Choice(**given))
  rows = paper.rows('table', '15', Choice(methods=('adapter_h',)))
  assert rows and all('method=adapter_h' in row.arg for row in rows)
