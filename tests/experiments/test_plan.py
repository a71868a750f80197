"""Flags of a plan that do not go together."""

import pytest
from absl import flags
from absl.testing import flagsaver

from configs import glue
from experiments import plan

FLAGS = flags.FLAGS
WRONG = {
  '--largest_batch and --smallest_slice are plans of their own': {'smallest_slice': True},
  '--largest_batch and --remat are plans of their own': {'remat': True},
  'give it without --batch=64': {'batch': 64},
}


@pytest.mark.parametrize('message', WRONG)
def test_what_would_be_left_out_is_refused(message, monkeypatch):
  """One of two searches was made, and a batch was left out, without a word."""
  monkeypatch.setattr(plan, 'prepare', lambda name: pytest.fail('a plan was made'))
  if not FLAGS.is_parsed():
    FLAGS(['plan'])
  config = glue.get_config('task=rte,tiny=true')
  given = {'config': config, 'largest_batch': True, **WRONG[message]}
  with flagsaver.flagsaver(**given), pytest.raises(ValueError, match=message):
    plan.main()
