"""The commands of the pages name entries of the configs, and keep the settings of our runs."""

import json
import re

import pytest
from ml_collections import config_dict

from configs import compare, dart, e2e, glue, gpt3, low_data, matrices, rank, webnlg
from lora_jax.paper import printed
from lora_jax.report import commands, paper_rows
from tests.report.toys import run

MODULES = {
  'glue': glue,
  'e2e': e2e,
  'dart': dart,
  'webnlg': webnlg,
  'gpt3': gpt3,
  'rank': rank,
  'matrices': matrices,
  'low_data': low_data,
}
OF_ENTRIES = {
  f'{table}/{i}': commands.of_entry(row)
  for table, rows in paper_rows.TABLES.items()
  for i, row in enumerate(rows)
  if not row.quoted
}
OF_GPT3 = {
  f'{table}/{i}': line
  for table, lines in (
    ('4', commands.table_4()),
    ('5', commands.table_5()),
    ('6', commands.table_6()),
    ('15', commands.table_15()),
    ('16', commands.table_16()),
  )
  for i, line in enumerate(lines)
}
OTHERS = {
  'plan': commands.PLAN,
  '18': commands.TABLE_18,
  'low_data': commands.ablation('low_data'),
}
TASKS = {'2': 'rte', '4': 'samsum'}


@pytest.mark.parametrize('name, line', (OF_ENTRIES | OF_GPT3 | OTHERS).items())
def test_the_command_of_an_entry_loads(name, line):
  table = name.split('/')[0]
  line = line.replace('TASK', TASKS.get(table, 'wikisql')).replace('EXAMPLES', '1k')
  module, arg = re.search(r'--config=configs/(\w+)\.py:(\S+)', line).groups()
  config = config_dict.ConfigDict(MODULES[module].get_config(arg))
  for field, value in re.findall(r'--config\.(method\.[a-z]+)=(\S+)', line):
    section, _, key = field.partition('.')
    assert key in config[section], field
    if key == 'targets':
      assert re.fullmatch(r'"\(\'[^\']+\',\)"', value)
  if name in OF_ENTRIES:
    assert config.paper_table.removesuffix(' †') == f'table {table}'


def test_every_row_of_gpt3_has_a_command_of_its_own():
  counts = {'4': 8, '5': 7, '6': 3, '15': 30, '16': 4}
  assert len(set(OF_GPT3.values())) == len(OF_GPT3) == sum(counts.values())
  row = printed.TABLES['15'].rows[28]
  assert row['setting'] == 'rq=rv=64 lp=8 li=4'
  assert 'rank=64' in OF_GPT3['15/28'] and 'prefix=8' in OF_GPT3['15/28']
  assert 'bottleneck=4 ' in OF_GPT3['15/12'] and 'rank' not in OF_GPT3['15/12']
  assert 'method=lora,size=low' in OF_GPT3['4/6'] and 'method=lora,size=high' in OF_GPT3['4/7']


def test_the_folder_of_an_entry_tells_it_from_the_others():
  folders = [re.search(r'--workdir=(\S+)', line)[1] for line in OF_ENTRIES.values()]
  assert len(set(folders)) == len(folders)
  assert 'runs/table-2-roberta-large-lora-0.8-adapter_setup-TASK-SEED' in folders


def test_the_overrides_of_a_run_are_what_its_config_file_does_not_say():
  arg = 'task=cola,model=path/to/small,preset=small'
  config = json.loads(rank.get_config(arg).to_json())
  config['method'] |= {'rank': 64, 'targets': ['.*/attention/key']}
  config |= {'seed': 2, 'model': config['model'] | {'name': '/elsewhere/small'}}
  own = run(2, 0.8, experiment='rank', task='cola', config=config)
  assert commands.overrides(own, rank) == ''
  config['train'] |= {'epochs': 9}
  config['method'] |= {'alpha': 1.0}
  expected = ' --config.train.epochs=9 --config.method.alpha=1.0'
  assert commands.overrides(own, rank) == expected
  assert '--config.method' not in commands.overrides(own | {'preset': 'compare'}, compare)
  assert commands.complete(own | {'overrides': expected}, 'rank', rows='15') == (
    'python -m experiments.sweep --config=configs/rank.py:task=cola,model=path/to/small,'
    f'preset=small,rows=15 --workdir=runs/rank-cola --config.data.dir=DIR{expected}'
  )
