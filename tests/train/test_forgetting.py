"""The loss on general text: of the base before the first update, and at each evaluation."""

import types

import jax
import numpy as np
import pytest

from lora_jax.data.corpus import GENERAL
from lora_jax.train import evaluate, forgetting, job, loop
from lora_jax.train.clock import Clock
from lora_jax.train.step import make_eval_step

ARTICLE = '\n = A title = \n \n' + ' The plot of a film is not what it was .\n' * 30


@pytest.fixture(scope='module')
def text(tmp_path_factory):
  """A folder with WikiText-2, of one article."""
  folder = tmp_path_factory.mktemp('data')
  (folder / 'wikitext-2').mkdir()
  (folder / 'wikitext-2/valid.txt').write_text(ARTICLE)
  return {'data.dir': str(folder), 'eval.general_text': 3}


def test_a_run_says_what_it_forgets(text, tmp_path, make_language_model):
  config = make_language_model(**text, **{'optim.lr': 1e-2, 'train.epochs': 2})
  result = loop.train(config, tmp_path / 'run')
  assert result['metric'] == 'dev/loss'
  losses = [entry[f'{GENERAL}/loss'] for entry in result['history']]
  found = result['general_text']
  assert found['last'] == losses[-1] and found['best'] == result['best'][f'{GENERAL}/loss']
  work = job.load(config)
  assert len(work.task.evals[GENERAL].ids) == 3
  held_out = {GENERAL: evaluate.layouts(work)[GENERAL]}
  step = make_eval_step(work.apply, 'lm')
  computed = evaluate.compute(lambda batch: step(work.frozen, work.trainable, batch), held_out)
  base = dict(evaluate.evaluate(work.task, computed))[f'{GENERAL}/loss']
  np.testing.assert_allclose(found['start'], base, rtol=1e-5)
  assert abs(found['last'] - found['start']) > 0.01


class Engine:
  """Two members, of which the second has twice the loss."""

  def __init__(self, done, held_out):
    self.done, self.clock, self.found = done, Clock(), {}
    self.tools = types.SimpleNamespace(held_out=held_out)
    keep = lambda number: types.SimpleNamespace(begin=lambda x: self.found.update({number: x}))
    self.members = [keep(0), keep(1)]

  def outputs(self, batch):
    return {'loss': jax.numpy.stack([batch['weights'], 2 * batch['weights']])}


BATCH = {'index': np.array([[0]]), 'weights': np.array([[3.0]], np.float32)}


def test_each_member_is_measured_before_its_first_update():
  engine = Engine(0, {'dev': [BATCH], GENERAL: [BATCH]})
  forgetting.measure_start(engine)
  assert [list(found) for found in engine.found.values()] == [[GENERAL], [GENERAL]]
  losses = [found[GENERAL][0][1]['loss'] for found in engine.found.values()]
  np.testing.assert_array_equal(losses, [[[3]], [[6]]])


@pytest.mark.parametrize('done, splits', [(5, ['dev', GENERAL]), (0, ['dev'])])
def test_nothing_is_measured_later_or_without_the_text(done, splits):
  engine = Engine(done, {split: [BATCH] for split in splits})
  engine.outputs = lambda batch: pytest.fail('it is measured')
  forgetting.measure_start(engine)
  assert engine.found == {}
