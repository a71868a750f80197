"""Names of classes: by id, in any order, or none."""

import pytest

from lora_jax.pretrained import labels


@pytest.mark.parametrize(
  'id2label, expected',
  [
    ({'0': 'no', '1': 'yes'}, ('no', 'yes')),
    ({'1': 'yes', '0': 'no'}, ('no', 'yes')),
    ({'0': 'LABEL_0', '1': 'LABEL_1'}, ()),
    (None, ()),
  ],
)
def test_the_names_of_a_config(id2label, expected):
  assert labels.names({'id2label': id2label}) == expected


@pytest.mark.parametrize('id2label', [['a', 'b'], {'1': 'a'}, {'x': 'a'}, 3])
def test_what_is_no_id2label_is_named(id2label):
  with pytest.raises(ValueError, match=r'here: id2label=.*expected names by the ids'):
    labels.names({'id2label': id2label}, 'here')


def test_the_order_of_outputs_is_by_name_in_any_case():
  assert labels.order(('C', 'a', 'B'), ('a', 'b', 'c'), 'x') == (1, 2, 0)
  assert labels.order((), ('a', 'b'), 'x') is None
  for found in (('a', 'b'), ('a', 'a', 'b'), ('a', 'b', 'd')):
    with pytest.raises(ValueError, match='x: its head has the classes a'):
      labels.order(found, ('a', 'b', 'c'), 'x')


def test_the_fields_name_every_class():
  assert labels.fields(2, ('no', 'yes')) == {
    'num_labels': 2,
    'id2label': {'0': 'no', '1': 'yes'},
    'label2id': {'no': 0, 'yes': 1},
  }
  assert labels.fields(1)['id2label'] == {'0': 'LABEL_0'}
