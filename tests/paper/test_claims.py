"""The claims of section 4.2 hang together with the tables."""

import pytest

from lora_jax.paper import claims, entries, printed


def test_the_claims_print_the_counts_of_tables_4_and_15():
  assert claims.PRINTED['full'].startswith('175,255') and claims.PRINTED['bitfit'] == '14.2M'
  assert [claims.PRINTED[f'lora r={r}'] for r in (1, 4, 8)] == ['4.7M', '18.8M', '37.7M']
  of_table_4 = {row.printed for row in entries.TABLE_4}
  assert set(claims.PRINTED.values()) - of_table_4 == {'18.8M'}, 'the rank of the section'


def gigabytes(entry):
  """`350 GB`, `1.2 TB` or `35 MB` in units of 10^9 bytes."""
  number, unit = entry.split()
  return float(number) * {'MB': 1e-3, 'GB': 1, 'TB': 1e3}[unit]


def test_the_claims_follow_from_the_counts():
  """In 16 bits a checkpoint takes two bytes a parameter; the ratio and the storage are of those."""
  size = lambda name: 2e-3 * printed.millions(claims.PRINTED[name])
  assert size('full') == pytest.approx(gigabytes(claims.CHECKPOINT['full']), rel=0.01)
  assert size('lora r=4') == pytest.approx(gigabytes(claims.CHECKPOINT['lora']), rel=0.1)
  ratio = gigabytes(claims.CHECKPOINT['full']) / gigabytes(claims.CHECKPOINT['lora'])
  assert f'{ratio:,.0f}' == claims.CHECKPOINT_RATIO
  each = {name: gigabytes(entry) for name, entry in claims.CHECKPOINT.items()}
  stored = {'full': claims.TASKS * each['full'], 'lora': each['full'] + claims.TASKS * each['lora']}
  for name, entry in claims.STORAGE.items():
    assert gigabytes(entry) == pytest.approx(stored[name], rel=0.01), name
  share = printed.millions(claims.PRINTED['lora r=4']) / printed.millions(claims.PRINTED['full'])
  assert f'{100 * share:.2f} %' == claims.TRAINED_SHARE
