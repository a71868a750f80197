"""The claims of section 4.2: the bytes of each method, and the slices that were tried."""

from configs import gpt3
from lora_jax import tree
from lora_jax.cost import configure, practical_claims, search, shapes
from lora_jax.paper import claims
from tests.cost import toys


def test_the_bytes_of_a_method_are_what_its_shapes_hold():
  config = toys.config(**{'model.param_dtype': 'bfloat16'})
  made, found = shapes.abstract_job(config), practical_claims.count_bytes(config)
  trained, frozen = tree.count(made.trainable), tree.count(made.frozen)
  assert (found['trained'], found['total']) == (trained, trained + frozen)
  assert found['state_bytes'] == tree.nbytes(made.frozen) + 3 * 4 * trained
  assert found['gradient_bytes'] == found['checkpoint_bytes_float32'] == 4 * trained
  assert found['checkpoint_bytes'] == 2 * trained
  assert found['tasks_bytes'] == claims.TASKS * 2 * trained + 2 * (trained + frozen)
  # Full fine-tuning stores a model for each task, and has no base beside them.
  full = practical_claims.count_bytes(toys.config('full'))
  assert full['trained'] == full['total']
  assert full['tasks_bytes'] == claims.TASKS * 2 * full['total']


def test_every_method_has_a_row_and_the_sliced_ones_their_slices(monkeypatch):
  tried = [search.Skipped('small', 'too small'), toys.plan(1, topology='large')]
  kinds, said = [], []
  monkeypatch.setattr(
    search, 'smallest_slice', lambda config, kind, **options: kinds.append(kind) or tried
  )

  def configure_toy(method, sizes):
    full_size = gpt3.get_config(f'task=samsum,model=gpt3-175b,method={method}')
    return configure.for_claims(full_size, sizes)

  found = practical_claims.measure(configure_toy, said.append, sliced=('lora r=4',))
  assert list(found['claims']) == list(claims.METHODS) and kinds == ['v5e', 'v5p']
  row = found['claims']['lora r=4']
  assert row['v5e']['fits'] and [one['topology'] for one in row['v5p']['tried']] == [
    'small',
    'large',
  ]
  assert 'v5e' not in found['claims']['full']
  assert row['trained'] == 18_874_368 and row['paper_trained'] == claims.PRINTED['lora r=4']
  assert 'lora r=4: small does not fit' in said and 'lora r=4: 18,874,368 trained' in said
