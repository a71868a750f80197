"""A plan in words: the numbers that a reader decides by."""

import pytest

from lora_jax.cost import search, text
from tests.cost import toys


def test_a_plan_is_told_with_its_sizes_and_its_hours():
  lines = text.describe(toys.plan(6 * 2**30)).splitlines()
  assert lines[0] == 'gpt2, lora, on v5e:2x2: fits, 10.00 GiB to spare on each device'
  assert 'compiled by libtpu 0.0.42 in 3 s; mesh data 1, fsdp 4, tensor 1' in lines[1]
  told = '\n'.join(lines)
  assert 'trained 1,000 (1.000%; 200 in the task head), frozen 99,000' in told
  assert '1.000  frozen base' in told and '0.500  activations' in told
  assert '6.000  in all, of 16.00' in told
  assert 'at 40% of the peak 250 ms a step, 4,096 tokens/s' in told
  assert '7,200 steps: 0.50 hours' in told
  assert 'trainable parameters 4 kB, with the optimizer 12 kB' in told


def test_a_batch_that_may_not_be_the_largest_is_said_to_be_so():
  told = lambda **fields: text.describe(toys.plan(6 * 2**30, **fields))
  assert 'ended at its limit: a larger one may fit' in told(exhausted=True)
  assert 'limit' not in told(exhausted=False) + told()


def test_a_plan_says_how_kernels_are_kept():
  told = lambda quantize: text.describe(toys.plan(6 * 2**30, quantize=quantize))
  assert 'base bfloat16, remat' in told('none')
  assert 'base bfloat16 with kernels in nf4, remat' in told('nf4')
  assert 'base bfloat16 with kernels as in the file, remat' in told('file')


def test_a_plan_says_how_layers_were_planned_and_whether_the_run_may_choose():
  """Scanned layers of all-MiniLM-L6-v2 take a tenth more memory than looped ones."""
  told = lambda scan: text.describe(toys.plan(6 * 2**30, scan=scan))
  assert 'layers scanned\n' in told(True) and 'layers looped\n' in told(False)
  assert 'layers looped (config.model.scan=None: the run may choose scanned ones' in told(None)


def test_what_a_plan_does_not_know_is_said_or_left_out():
  estimate = text.describe(toys.plan(6 * 2**30, exact=False, steps=None, hours=None))
  assert 'ESTIMATE, since libtpu is not installed' in estimate
  assert 'give --examples' in estimate and ' hours\n' not in estimate
  gave_up = text.describe(toys.plan(None))
  assert 'does not fit (RESOURCE_EXHAUSTED: no room)' in gave_up
  assert 'activations' not in gave_up and 'in all' not in gave_up


def test_a_row_compares_what_was_compiled_and_what_was_not():
  assert text.row(toys.plan(17 * 2**30)) == (
    'v5e:2x2 (1x4x1): batch 8, remat none, 250 ms a step: '
    'does not fit: 1.00 GiB too much on each device'
  )
  assert text.row(search.Skipped('v5e:1x1', 'too small')) == 'v5e:1x1: does not fit (too small)'


def test_a_measured_peak_stands_beside_the_planned_one():
  found = text.measured({'measured': 2**30, 'predicted': 1.5 * 2**30, 'ratio': 1.5})
  assert 'here 1.000 GiB; the plan says 1.500, 1.500 times that' in found


@pytest.mark.parametrize(
  'size, words', [(999, '999 B'), (1000, '1 kB'), (35e6, '35 MB'), (1.2e12, '1.2 TB')]
)
def test_amounts_are_in_decimal_units(size, words):
  assert text.amount(size) == words


def test_durations_are_in_the_unit_that_reads_best():
  assert [text.duration(x) for x in (0.0123, 1.0, 250.4)] == ['12.3 ms', '1 s', '250 s']
