"""The argument of a config of a user's own data."""

import pytest

from configs import own


def test_the_argument_names_files_and_columns():
  config = own.get_config('data=in/My reviews, 1.csv,dev=b.csv,text=review,label=,model=./m')
  assert (config.own.data, config.own.dev, config.own.test) == ('in/My reviews, 1.csv', 'b.csv', '')
  assert (config.own.text, config.own.label, config.own.number) == ('review', '', 'number')
  assert (config.task, config.experiment, config.model.name) == ('own/My reviews, 1', 'own', './m')
  assert config.own.dev_rows == 0 and config.decode.final == ''
  assert (config.method.name, config.optim.lr) == ('lora', 1e-3)
  assert own.get_config('method=full').optim.lr == 5e-5


@pytest.mark.parametrize(
  'arg, message',
  [
    ('date=a.csv', "unknown key 'date' in 'date=a.csv'. Did you mean 'data'"),
    ('data=a.csv,method=lroa', "unknown method 'lroa'. Did you mean 'lora'"),
    ('data=a.csv,dev_rows=3', "unknown key 'dev_rows'"),
  ],
)
def test_an_unknown_name_offers_the_nearest(arg, message):
  with pytest.raises(ValueError, match=message):
    own.get_config(arg)


def test_a_sweep_is_three_seeds():
  assert [run['seed'] for run in own.sweep('data=a.csv')] == [0, 1, 2]
