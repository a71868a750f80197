"""The runs of a sweep that tests read, and what makes a member the run that it is alone."""

import json

import numpy as np

from lora_jax import tree
from lora_jax.train import curve, job


def targets(*names):
  return {'method.targets': (f'.*/attention/({"|".join(names)})',)}


# Ranks and matrices mixed, one that ends early, one that diverges; nine epochs are 54 steps.
BASE = {
  'train.epochs': 9,
  'optim.clip': 1.0,
  'optim.weight_decay': 0.1,
  'sweep.width': 4,
  'data.max_shapes': 1,
}
RUNS = (
  {'method.rank': 1, 'optim.warmup_ratio': 0.2, **targets('query')},
  {'method.rank': 8, 'optim.lr': 5e-3, 'train.epochs': 5, **targets('query', 'value')},
  {'method.rank': 64, 'optim.weight_decay': 0.0, **targets('query', 'key', 'value', 'output')},
  {'method.rank': 2, 'optim.lr': 1e30, **targets('key')},
)


def trained(workdir, which='last'):
  return tree.flatten(job.load_run(workdir, which)[1])


def assert_same_run(single, member, tolerance=1e-5):
  """Parameters to 1e-5 and the same history, files and keys of the result."""
  ours, theirs = (json.loads((folder / 'result.json').read_text()) for folder in (member, single))
  shared = lambda result: [name for name in result if name != 'members_why']  # Of a sweep alone.
  assert shared(ours) == shared(theirs)
  for name in ('config', 'parameters', 'steps', 'shapes', 'metric', 'padding'):
    assert ours[name] == theirs[name], name
  for one, other in zip(ours['history'], theirs['history'], strict=True):
    assert list(one) == list(other)
    for name, value in one.items():
      np.testing.assert_allclose(value, other[name], atol=1e-4, err_msg=name)
  curves = [
    [line for line in curve.read(folder / 'metrics.jsonl') if curve.is_point(line)]
    for folder in (member, single)
  ]
  assert [point['step'] for point in curves[0]] == [point['step'] for point in curves[1]] != []
  for name in (curve.LOSS, curve.RATE):
    of_each = ([point[name] for point in points] for points in curves)
    np.testing.assert_allclose(*of_each, atol=1e-4, err_msg=name)
  for which in ('best', 'last'):
    assert ours[which]['step'] == theirs[which]['step']
    actual, expected = trained(member, which), trained(single, which)
    assert actual.keys() == expected.keys()
    for path, leaf in expected.items():
      np.testing.assert_allclose(actual[path], leaf, atol=tolerance, err_msg=path)
  names = [{path.name for path in folder.iterdir()} for folder in (single, member)]
  assert names[0] == names[1]
