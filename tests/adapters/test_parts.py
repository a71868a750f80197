"""An adapter is its parts: to them and back, with options that match the same modules."""

import numpy as np
import pytest

from lora_jax.adapters import parts
from lora_jax.methods.initial import OF_WEIGHT
from tests.adapters import toys
from tests.adapters.toys import EXPORTS, export_of, make


@pytest.mark.parametrize('case', EXPORTS)
def test_there_and_back(case):
  adapter = export_of(case)
  found, base = parts.to_parts(adapter, 'a format', holds_vera=True)
  again = parts.from_parts(found, base, task=adapter.task, name=adapter.base)
  toys.fits(again)
  toys.same_updates(again, adapter)
  known = parts.from_parts(found, base, task=adapter.task, name=adapter.base, method=adapter.method)
  assert known.method == adapter.method
  toys.same(known, adapter)
  if adapter.method.get('init') not in OF_WEIGHT:  # Else plain LoRA of twice the rank is read.
    toys.same(again, adapter)


def test_a_format_that_lacks_vera_gets_its_update_as_factors():
  adapter = export_of('bert.vera')
  found, base = parts.to_parts(adapter, 'a format')
  again = parts.from_parts(found, base, task=adapter.task)
  assert (again.method['name'], again.method['rank'], again.method['alpha']) == ('lora', 5, 5.0)
  toys.same_updates(again, adapter)


def test_a_pair_has_the_scale_of_the_method():
  pair = parts.Pair(np.zeros((8, 4)), np.zeros((4, 8)), 6.0)
  assert (pair.rank, pair.scale) == (4, 1.5)
  assert pair._replace(rslora=True).scale == 3.0


def test_modules_of_a_fused_projection_are_in_its_order():
  _, base = parts.to_parts(export_of('gpt2.qv'), 'a format')
  assert base.modules['h.1.attn.c_attn'] == [
    f'decoder/layers_1/attention/{name}' for name in ('query', 'key', 'value')
  ]
  assert 'wte' not in base.modules and base.modules['wpe'] == ['embeddings/position']


def test_options_are_the_shortest_that_give_the_parts():
  adapter = make('bert', targets=('.*/value', '.*layers_1/mlp/up'), rank={'.*up': 2, '.*': 4})
  found, base = parts.to_parts(adapter, 'a format')
  method = parts.from_parts(found, base, task=adapter.task).method
  assert method['targets'] == ('.*/attention/value', 'encoder/layers_1/mlp/up')
  assert method['rank'] == {'encoder/layers_1/mlp/up': 2, '.*': 4}
  assert method['alpha'] == 8.0
  with pytest.raises(ValueError, match='the adapter has no factors'):
    parts.from_parts(found._replace(pairs={}), base, task=adapter.task)


def test_tensors_that_do_not_fit_are_in_one_message():
  arrays = {'a': np.zeros(2), 'new': np.zeros(1)}
  with pytest.raises(
    ValueError, match=r'here: .*missing b \(3,\); unexpected new \(1,\); misshapen'
  ):
    parts.check('here', {'a': (1,), 'b': (3,)}, arrays)
  parts.check('here', {'a': (2,), 'new': (1,)}, arrays)
