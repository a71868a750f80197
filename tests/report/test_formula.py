"""Formulas compute with means, compare by spreads, and refuse what is not one."""

import pytest

from lora_jax.report import formula

VALUES = {
  'lora': formula.quantity([60.0, 62.0], 1),
  'full': formula.quantity([66.0, 68.0], 1),
  'near': formula.quantity([62.0, 64.0], 1),
  'one': formula.quantity([5000.0], 0),
}


@pytest.mark.parametrize(
  'text, expected',
  [
    ('full - lora', 6.0),
    ('-lora / 2 + 1 * 3', -27.5),
    ('below(lora, full)', True),
    ('below(lora, near)', False),
    ('below(full, lora)', False),
    ('within(lora, near)', True),
    ('within(lora, full)', False),
    ('lora < near < full', True),
    ('lora < full < near', False),
    ('not lora < full or one == 5000', True),
    ('not lora < full', False),
    ('lora > full and count(lora) == 2', False),
    ('largest(lora) - smallest(lora)', 2.0),
    ('total(lora)', 122.0),
    ('spread(one)', 0.0),
  ],
)
def test_a_formula_is_computed(text, expected):
  assert formula.evaluate(text, VALUES) == expected


@pytest.mark.parametrize(
  'text, message',
  [
    ('lroa < 1', r"unknown value 'lroa'\. Did you mean 'lora'"),
    ('above(lora, full)', r"unknown function 'above'\. .*Known: below, within"),
    ('lora.numbers', 'is not a formula: expected names, numbers'),
    ("__import__('os')", 'unknown function'),
    ('lora <', 'is not a formula'),
    ('lora / 0', 'is not a formula: '),
    ('below(lora, 3)', 'is not a formula: '),
    ('lora in full', 'is not a formula'),
  ],
)
def test_what_is_no_formula_is_named(text, message):
  with pytest.raises(ValueError, match=message):
    formula.evaluate(text, VALUES)


def test_a_quantity_is_shown_with_its_spread_or_in_a_format():
  assert formula.show(VALUES['lora']) == '61.0 ± 1.4'
  assert formula.show(VALUES['one']) == '5,000'
  assert formula.show(VALUES['lora'], '.0f') == '61'
  assert formula.show(formula.evaluate('full - lora', VALUES)) == '6.0'
  with pytest.raises(ValueError, match='at least one number'):
    formula.quantity([], 1)
