"""Layers that a config leaves open: what is chosen, and that a run keeps it."""

import json

import pytest

from lora_jax.train import estimate, job, layer_choice, loop, rundir

OPEN = {'model.scan': None}


@pytest.fixture(scope='module')
def task(make_config):
  return job.load_task(make_config())


def test_a_choice_of_the_config_stays(make_config, task):
  for scan in (True, False):
    config = make_config(**{'model.scan': scan})
    assert layer_choice.settled([config], task, 'gpu') == [config]


def test_a_short_run_is_scanned_and_a_long_one_looped(make_config, task):
  chosen = lambda epochs, platform, **values: layer_choice.chosen(
    [make_config(**OPEN | {'train.epochs': epochs} | values)], task, platform
  )
  assert chosen(2, 'gpu') and chosen(2, 'cpu')
  assert not chosen(10**6, 'gpu') and not chosen(10**6, 'cpu')
  # The longest of a program's runs counts.
  runs = [make_config(**OPEN | {'train.epochs': epochs}) for epochs in (2, 10**6)]
  settled = layer_choice.settled(runs, task, 'gpu')
  assert [config.model.scan for config in settled] == [False, False]
  assert [config.model.scan for config in runs] == [None, None]


@pytest.mark.parametrize(
  'method, values',
  [
    ('top_layers', {'method.layers': 1}),
    ('adapter_d', {'method.drop': 1}),
    ('lora', {'method.targets': ('.*/layers_1/.*/query',)}),
    ('lora', {'method.train': ('encoder/layers_1/.*bias',)}),
    ('lora', {'model.quantize': 'file'}),
  ],
)
def test_what_tells_layers_apart_is_looped(make_config, task, method, values):
  assert not layer_choice.chosen([make_config(method, **OPEN | values)], task, 'gpu')


@pytest.mark.parametrize('method', ['lora', 'full', 'bitfit', 'adapter_d', 'intrinsic'])
def test_what_treats_layers_alike_can_be_scanned(make_config, method):
  assert layer_choice.can_be_scanned(make_config(method))


def test_a_run_as_a_base_keeps_its_layout(make_config, task, tmp_path):
  (tmp_path / 'checkpoints').mkdir()
  above = make_config(**OPEN | {'model.name': str(tmp_path)})
  for scan in (True, False):
    below = make_config(**{'model.scan': scan})
    (tmp_path / 'config.json').write_text(below.to_json_best_effort())
    assert layer_choice.chosen([above], task, 'gpu') is scan


def test_a_run_says_what_was_chosen_and_stays_with_it(make_config, tmp_path, monkeypatch):
  config = make_config(**OPEN | {'train.epochs': 1})
  found = loop.train(config, tmp_path)
  assert found['config']['model']['scan'] is rundir.read_config(tmp_path).model.scan is True
  # Where it is resumed another layout would be chosen: the checkpoints have the first one.
  (tmp_path / 'result.json').unlink()
  monkeypatch.setattr(estimate, 'is_scanned_sooner', lambda *args, **kwargs: False)
  assert json.loads(json.dumps(loop.train(config, tmp_path)['best'])) == found['best']
  with pytest.raises(ValueError, match=r'model\.scan: True in the directory, False given'):
    loop.train(make_config(**{'model.scan': False, 'train.epochs': 1}), tmp_path)


def test_the_choice_reads_no_further_file_so_that_a_run_can_be_resumed(
  make_config, finished, tmp_path
):
  """A resumed run does not choose: what only the choice had read would be missing then."""
  values = {'model.name': str(finished[0]), 'train.epochs': 1}
  found = [
    loop.train(make_config(**values | {'model.scan': scan}), tmp_path / str(scan))
    for scan in (None, True)
  ]
  assert set(found[0]['inputs']) == set(found[1]['inputs'])
  (tmp_path / 'None' / 'result.json').unlink()
  again = loop.train(make_config(**values | OPEN), tmp_path / 'None')
  assert json.loads(json.dumps(again['best'])) == json.loads(json.dumps(found[0]['best']))
