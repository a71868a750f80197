"""Warm starts: factors are taken, another head is not, and another scale is refused."""

import jax
import numpy as np
import pytest

from lora_jax import stacking, tree
from lora_jax.train import job, warm_start
from tests.train.runs import save_run, trained


def test_warm_start_takes_factors_and_drops_another_head(finished, work):
  started, dropped = warm_start.warm_start(work, finished[0])
  assert dropped == []
  for path, leaf in trained(finished[0], 'best').items():
    np.testing.assert_array_equal(leaf, tree.flatten(started)[path])

  wider = job.build(work.config, work.task._replace(num_labels=3))
  started, dropped = warm_start.warm_start(wider, finished[0])
  assert dropped == ['classifier/bias', 'classifier/kernel']
  for path in ('encoder/layers/attention/query/lora_b', 'pooler/kernel'):
    np.testing.assert_array_equal(tree.flatten(started)[path], trained(finished[0], 'best')[path])


def test_warm_start_takes_an_adapter_as_it_takes_a_run(finished, saved, work, make_config):
  from_run, from_adapter = (warm_start.warm_start(work, source) for source in (finished[0], saved))
  jax.tree.map(np.testing.assert_array_equal, from_adapter[0], from_run[0])
  assert from_adapter[1] == from_run[1] == []
  # Layers may be looped where they were scanned.
  unstacked = work._replace(trainable=stacking.unstack(work.trainable))
  looped, dropped = warm_start.warm_start(unstacked, saved)
  assert not dropped
  same = tree.flatten(stacking.unstack(from_run[0]))
  for path, leaf in tree.flatten(looped).items():
    np.testing.assert_array_equal(leaf, same[path])
  with pytest.raises(ValueError, match=r'alpha: 16\.0 in the source, 8\.0 in this config'):
    warm_start.warm_start(work._replace(config=make_config(**{'method.alpha': 8.0})), saved)


@pytest.mark.parametrize(
  'overrides, word',
  [
    ({'method.dora': True}, 'dora: False in the source, True in this config'),
    ({'method.init': 'pissa'}, 'init: uniform in the source, pissa in this config'),
    ({'method.alpha': 8.0}, 'alpha: 16.0 in the source, 8.0 in this config'),
    ({'method.rank': 4}, 'rank: 8 in the source, 4 in this config'),
  ],
)
def test_warm_start_refuses_another_scale(finished, work, make_config, overrides, word):
  with pytest.raises(ValueError, match=word):
    warm_start.warm_start(work._replace(config=make_config(**overrides)), finished[0])


def test_what_a_variant_keeps_is_the_sources(make_config, tmp_path):
  """LoRA-FA keeps the source's a, and OLoRA what PiSSA subtracts, so that the function is its."""
  for source, start in (
    ('uniform', {'method.train_a': False}),
    ('pissa', {'method.init': 'olora'}),
  ):
    given = make_config(**{'method.init': source, 'seed': 1})
    before = jax.tree.map(lambda x: x + 1, job.load(given).trainable)
    save_run(tmp_path / source, given, before)
    started, dropped = warm_start.warm_start(job.load(make_config(**start)), tmp_path / source)
    assert dropped == []
    jax.tree.map(np.testing.assert_array_equal, started, before)


def test_warm_start_drops_all_of_robertas_head(make_config, tmp_path):
  config = make_config(**{'model.fresh.family': 'roberta'})
  work = job.load(config)
  save_run(tmp_path, config, work.trainable)
  wider = job.build(config, work.task._replace(num_labels=3))
  _, dropped = warm_start.warm_start(wider, tmp_path)
  assert dropped == [
    f'classifier/{layer}/{leaf}' for layer in ('dense', 'output') for leaf in ('bias', 'kernel')
  ]


def test_a_head_of_other_classes_is_dropped_or_refused(finished, work, make_config):
  foreign = work._replace(task=work.task._replace(label_names=('unacceptable', 'acceptable')))
  _, dropped = warm_start.warm_start(foreign, finished[0])
  assert dropped == ['classifier/bias', 'classifier/kernel']
  keeping = foreign._replace(config=make_config(**{'model.head': 'keep'}))
  with pytest.raises(ValueError, match=r'init_adapter=.*has the classes negative, positive'):
    warm_start.warm_start(keeping, finished[0])


def test_classes_in_another_order_change_places(finished, work):
  reverse = work._replace(task=work.task._replace(label_names=('positive', 'negative')))
  started, dropped = warm_start.warm_start(reverse, finished[0])
  assert dropped == []
  for leaf in ('kernel', 'bias'):
    expected = trained(finished[0], 'best')[f'classifier/{leaf}'][..., ::-1]
    np.testing.assert_array_equal(started['classifier'][leaf], expected)
