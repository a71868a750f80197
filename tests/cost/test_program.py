"""What the compiler says of a program."""

import types

import jax
import jax.numpy as jnp
import pytest

from lora_jax.cost import program


@pytest.fixture(scope='module')
def compiled():
  """A product whose first argument is donated to its result."""
  x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
  return jax.jit(lambda x, w: x + x @ w, donate_argnums=0).lower(x, x).compile()


def test_what_is_donated_counts_once(compiled):
  found = program.size(compiled)
  assert found.arguments == 2 * 64 * 64 * 4
  assert found.temporary >= 0 and found.peak == found.arguments + found.temporary


def test_flops_are_those_of_the_product(compiled):
  assert program.flops(compiled) == pytest.approx(2 * 64**3, rel=0.05)


def test_a_backend_that_reports_no_memory_is_named():
  silent = types.SimpleNamespace(memory_analysis=lambda: None, cost_analysis=lambda: None)
  with pytest.raises(ValueError, match='does not report the memory'):
    program.size(silent)
  assert program.flops(silent) != program.flops(silent), 'not a number'
