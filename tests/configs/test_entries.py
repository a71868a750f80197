"""Every row of tables 2 and 3 has a config that trains what is printed, or is refused as quoted."""

import re

import pytest

from configs import dart, e2e, glue, webnlg
from lora_jax.cost import counts
from lora_jax.paper import entries
from lora_jax.report.pages.counts import agrees

MODULES = {'2': glue, '3': e2e, '13': dart, '14': webnlg}
ENTRIES = (*entries.TABLE_2, *entries.TABLE_3, *entries.TABLE_13, *entries.TABLE_14)
QUOTED = [row for row in ENTRIES if row.quoted]


def argument_of(row):
  """What picks a row's settings in a config's argument."""
  parts = [f'method={row.method}']
  if 'bottleneck' in row.options:
    parts.append(f'bottleneck={row.options["bottleneck"]}')
  return ','.join(parts + ['preset=adapter_setup'] * row.adapter_setup)


@pytest.mark.parametrize('row', [row for row in ENTRIES if not row.quoted])
def test_a_row_of_the_authors_own_has_a_config_that_trains_its_count(row):
  argument = f'model={row.model},{argument_of(row)}'
  config = MODULES[row.table].get_config(argument)
  assert config.paper_table.removesuffix(' †') == f'table {row.table}'
  assert config.paper_table.endswith('†') == row.adapter_setup
  section = dict(config.method)
  assert section.pop('name') == row.method
  assert section.items() >= row.options.items()
  if row.table in ('2', '3'):  # Tables 13 and 14 print the same to fewer digits.
    section.pop('train')
    summary = counts.summarize_preset(row.model, row.method, section, scan=True)
    trained = summary.trainable - summary.head
    assert agrees(row.printed, trained) or (row.model, row.method) in entries.NOTES


@pytest.mark.parametrize('row', QUOTED)
def test_a_quoted_row_has_no_settings_and_the_error_says_so(row):
  module = MODULES[row.table]
  for preset in ('paper', 'script'):
    with pytest.raises(ValueError) as error:
      module.get_config(f'model={row.model},method={row.method},preset={preset}')
    message = str(error.value)
    assert f'preset={preset} has no settings of method={row.method}: table {row.table} ' in message
    assert row.printed in message and 'preset=small' in message
  small = module.get_config(f'model={row.model},method={row.method},preset=small')
  assert (small.method.name, small.paper_table) == (row.method, '')


@pytest.mark.parametrize(
  'module, arg, message',
  [
    (e2e, 'method=adapter_l,bottleneck=6', 'table 3 quotes its row of gpt2-medium (0.37M and'),
    (e2e, 'method=adapter_h,bottleneck=9', 'Known: 112'),
    (e2e, 'method=adapter_h,preset=script', 'no script of method=adapter_h. Take preset=paper'),
    (e2e, 'method=lora,bottleneck=8', 'none of method=lora on gpt2-medium'),
    (e2e, 'method=bitfit', 'table 3 has no such row of gpt2-medium'),
    (dart, 'method=full', 'table 13 quotes its row of gpt2-medium (354M'),
    (webnlg, 'model=gpt2-xl,method=adapter_l', 'table 14 has no such row of gpt2-xl'),
    (glue, 'model=roberta-large,method=adapter_h', 'preset=adapter_setup has the adapters'),
    (glue, 'model=deberta-v2-xxlarge,method=bitfit', 'no such row of deberta-v2-xxlarge'),
    (glue, 'preset=compare,method=top_layers', "unknown method of preset=compare 'top_layers'"),
  ],
)
def test_what_the_paper_does_not_have_is_refused_with_what_there_is(module, arg, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    module.get_config(arg)
