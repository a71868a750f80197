"""The words of the demo's domains are of one form."""

import pytest

from lora_jax.data.domains import DOMAINS, HELD_OUT


def test_the_held_out_domain_is_one():
  assert HELD_OUT in DOMAINS and len(DOMAINS) >= 7


@pytest.mark.parametrize('name', DOMAINS)
def test_a_domain_has_places_for_its_names_phrases_and_values(name):
  domain = DOMAINS[name]
  assert all('{name}' in opening and '{phrase}' in opening for opening in domain.openings)
  assert len(domain.slots) >= 4
  for slot in domain.slots.values():
    if isinstance(slot, tuple):
      values, phrases = slot
      assert all(phrase.count('{}') == 1 for phrase in phrases)
    else:
      values = list(slot)
      assert not any('{' in phrase for phrases in slot.values() for phrase in phrases)
    assert len(set(values)) == len(values) >= 2
    assert not any('|' in value or ':' in value for value in values)
