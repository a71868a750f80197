"""The settings of GLUE are those of tables 9 and 10 and of the scripts; others are refused."""

import pytest

from configs import glue

# The tables typed a second time, by columns, as the paper prints them: lr, batch, epochs, length.
COLUMNS = ('mnli', 'sst2', 'mrpc', 'cola', 'qnli', 'qqp', 'rte', 'stsb')


ROWS = {
  'roberta-base,preset=paper': (
    '5e-4 5e-4 4e-4 4e-4 4e-4 5e-4 5e-4 4e-4',
    '16 16 16 32 32 16 32 16',
    '30 60 30 80 25 25 80 40',
    '512 512 512 512 512 512 512 512',
  ),
  'roberta-base,preset=script': (
    '5e-4 5e-4 4e-4 4e-4 4e-4 5e-4 5e-4 4e-4',
    '128 128 128 64 256 128 256 128',
    '30 60 30 80 25 25 80 40',
    '512 512 512 512 512 512 512 512',
  ),
  'roberta-large,preset=paper': (
    '3e-4 4e-4 3e-4 2e-4 2e-4 3e-4 4e-4 2e-4',
    '4 4 4 4 4 4 8 8',
    '10 10 20 20 10 20 20 30',
    '128 128 512 128 512 512 512 512',
  ),
  'roberta-large,preset=script': (
    '3e-4 4e-4 3e-4 3e-4 2e-4 3e-4 4e-4 3e-4',
    '32 64 32 32 32 32 64 32',
    '10 10 20 20 10 20 20 10',
    '128 512 512 128 512 512 512 128',
  ),
  'roberta-large,preset=adapter_setup': (
    '3e-4 4e-4 3e-4 2e-4 2e-4 3e-4 4e-4 2e-4',
    '4 4 4 4 4 4 4 4',
    '10 10 20 20 10 20 20 10',
    '128 128 128 128 128 128 128 128',
  ),
}


@pytest.mark.parametrize('row', ROWS)
def test_glue_settings_are_those_of_table_9_and_of_the_scripts(row):
  found = []
  for task in COLUMNS:
    c = glue.get_config(f'task={task},model={row}')
    found.append((c.optim.lr, c.train.batch_size, c.train.epochs, c.data.max_length))
    assert c.paper_table == ('table 2 †' if 'adapter_setup' in row else 'table 2')
    assert (c.method.rank, c.optim.warmup_ratio, c.optim.schedule) == (8, 0.06, 'linear')
    assert c.method.alpha == (8 if row == 'roberta-base,preset=paper' else 16)
    assert (c.optim.weight_decay, c.optim.clip) == (0.1, 1.0)
  assert [*zip(*found)] == [tuple(float(x) for x in column.split()) for column in ROWS[row]]


def test_small_encoders_train_at_the_settings_of_the_independent_run():
  for task, epochs in (('mrpc', 10), ('stsb', 8), ('cola', 10), ('rte', 10)):
    c = glue.get_config(f'task={task},model=/models/minilm,preset=small')
    assert (c.optim.lr, c.optim.weight_decay, c.optim.warmup_ratio) == (1e-3, 0.1, 0.06)
    assert (c.train.batch_size, c.train.epochs, c.optim.clip) == (32, epochs, 1.0)
    assert (c.method.rank, c.method.alpha, c.data.max_length) == (8, 16, 128)
    assert c.paper_table == ''


def test_a_folder_of_roberta_large_takes_its_rows():
  assert glue.get_config('model=/m/roberta-large/').train.epochs == 20
  assert glue.get_config('model=/m/my-encoder').train.epochs == 30


# Table 9, Adpt-P and Adpt-H on RoBERTa-large: lr, epochs, bottleneck.
@pytest.mark.parametrize(
  'arg, expected',
  [
    ('method=adapter_p,task=mnli', (3e-4, 5, 16)),
    ('method=adapter_p,task=mnli,bottleneck=64', (3e-5, 10, 64)),
    ('method=adapter_p,task=sst2,bottleneck=64', (3e-5, 20, 64)),
    ('method=adapter_h,task=sst2', (3e-4, 5, 8)),
    ('method=adapter_h,task=stsb,bottleneck=64', (3e-4, 10, 64)),
    ('method=adapter_h,task=rte', (3e-4, 20, 8)),
  ],
)
def test_the_adapters_of_table_9(arg, expected):
  config = glue.get_config(f'model=roberta-large,preset=adapter_setup,{arg}')
  assert (config.optim.lr, config.train.epochs, config.method.bottleneck) == expected
  assert (config.train.batch_size, config.data.max_length, config.paper_table) == (
    32,
    128,
    'table 2 †',
  )


@pytest.mark.parametrize(
  'arg, message',
  [
    ('method=bitfit', 'preset=paper has no settings of method=bitfit'),
    ('model=roberta-large,preset=adapter_setup,method=bitfit', "table 9's rows of method=lora"),
    ('model=roberta-large,preset=adapter_setup,method=adapter_h,bottleneck=9', 'Known: 8, 64'),
    (
      'preset=small,method=adapter_h,bottleneck=9',
      'bottleneck picks a row of preset=adapter_setup',
    ),
  ],
)
def test_settings_that_the_paper_does_not_have(arg, message):
  with pytest.raises(ValueError, match=message):
    glue.get_config(arg)


BOTH = {
  'train.epochs': '5 16 30 10 8 11 11 10',
  'optim.weight_decay': '0 0.01 0.01 0 0.01 0.01 0.01 0.1',
  'model.classifier_dropout': '0.15 0 0 0.1 0.1 0.2 0.2 0.2',
  'data.max_length': '256 128 128 64 512 320 320 128',
}


XXLARGE = {
  'paper': BOTH
  | {
    'train.batch_size': '8 8 32 4 6 8 4 4',
    'optim.lr': '1e-4 6e-5 2e-4 1e-4 1e-4 1e-4 2e-4 2e-4',
    'optim.warmup_ratio': '0.1 0.1 0.1 0.1 0.1 0.1 0.1 0.1',
    'optim.warmup_steps': '0 0 0 0 0 0 0 0',
    'eval.every_steps': '0 0 0 0 0 0 0 0',
  },
  'script': BOTH
  | {
    'train.batch_size': '64 64 256 32 48 64 32 32',
    'optim.lr': '1e-4 6e-5 2e-4 1.3e-4 1e-4 1e-4 2.6e-4 2e-4',
    'optim.warmup_ratio': '0 0 0.1 0 0 0 0 0',
    'optim.warmup_steps': '1000 1000 0 100 500 10000 50 100',
    'eval.every_steps': '500 100 10 20 500 500 20 50',
  },
}


@pytest.mark.parametrize('preset', XXLARGE)
def test_deberta_has_the_settings_of_table_10_and_of_the_scripts(preset):
  for field, column in XXLARGE[preset].items():
    for task, value in zip(COLUMNS, column.split(), strict=True):
      config = glue.get_config(f'task={task},model=deberta-v2-xxlarge,preset={preset}')
      section, name = field.split('.')
      assert config[section][name] == float(value), (task, field)
      assert (config.method.rank, config.method.alpha, config.method.init) == (16, 32, 'normal')
      assert (config.optim.schedule, config.paper_table) == ('linear', 'table 2')
  folder = glue.get_config(f'model=/models/deberta-v2-xxlarge/,preset={preset}')
  assert folder.optim.weight_decay == 0.01
