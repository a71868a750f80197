"""What runs left, and that two of them are the same."""

import json

import numpy as np

from lora_jax import tree
from lora_jax.train import checkpoints, job


def result_of(workdir):
  return json.loads((workdir / 'result.json').read_text())


def trained(workdir, which='last'):
  """What a finished run trained, by path."""
  return tree.flatten(job.load_run(workdir, which)[1])


def assert_same_run(one, other):
  """Metrics and final parameters equal to the last bit; only times and the place differ."""
  ours, theirs = result_of(one), result_of(other)
  for name in ('history', 'best', 'last', 'steps', 'padding', 'parameters'):
    assert ours[name] == theirs[name], name
  assert (one / 'metrics.jsonl').read_text() == (other / 'metrics.jsonl').read_text()
  ours, theirs = trained(one), trained(other)
  assert ours.keys() == theirs.keys()
  for path, leaf in ours.items():
    np.testing.assert_array_equal(leaf, theirs[path], err_msg=path)


def save_run(folder, config, trainable):
  """A run directory that holds these parameters as a run leaves them, without a step."""
  saved = checkpoints.Checkpoints(folder)
  saved.save_trainable(1, trainable, {}, score=0.5)
  saved.close()
  (folder / 'config.json').write_text(json.dumps(json.loads(config.to_json_best_effort())))
