"""What the compiler says of a program: its bytes on a device, and its FLOPs."""

from __future__ import annotations

from typing import NamedTuple

import jax


class Size(NamedTuple):
  """Bytes of a compiled program on one device.

  Attributes:
    arguments: its arguments and results; what is donated counts once.
    temporary: what it keeps while it runs.
    code: the program itself.
  """

  arguments: int
  temporary: int
  code: int

  @property
  def peak(self) -> int:
    """Arguments, results and temporaries together."""
    return self.arguments + self.temporary


def size(compiled: jax.stages.Compiled) -> Size:
  """The bytes of a compiled program.

  Raises:
    ValueError: if the backend does not report them.
  """
  memory = compiled.memory_analysis()
  if memory is None:
    raise ValueError('this backend does not report the memory of a compiled program')
  arguments = memory.argument_size_in_bytes + memory.output_size_in_bytes
  arguments -= memory.alias_size_in_bytes  # What is donated is used again.
  return Size(arguments, memory.temp_size_in_bytes, memory.generated_code_size_in_bytes)


def flops(compiled: jax.stages.Compiled) -> float:
  """XLA's count of a program's FLOPs; it counts the body of a loop once."""
  return (compiled.cost_analysis() or {}).get('flops', float('nan'))
