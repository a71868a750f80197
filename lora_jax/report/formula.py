"""Formulas of findings over measured quantities: `below(lora, full)`, `full - lora`."""

from __future__ import annotations

import ast
import operator
import statistics
from collections.abc import Callable, Mapping
from typing import NamedTuple

from lora_jax.errors import nearest


class Quantity(NamedTuple):
  """Numbers of one thing, such as the scores of three seeds, and the digits that are shown.

  `spread` is the sample standard deviation, of a printed entry the paper's; 0 of one number.
  """

  numbers: tuple[float, ...]
  places: int
  spread: float

  @property
  def mean(self) -> float:
    return statistics.fmean(self.numbers)


Result = Quantity | float | bool


def quantity(numbers: list[float], places: int) -> Quantity:
  """A quantity of measured numbers.

  Raises:
    ValueError: if there are none.
  """
  if not numbers:
    raise ValueError('expected at least one number, found none')
  return Quantity(tuple(numbers), places, statistics.stdev(numbers) if numbers[1:] else 0.0)


def show(result: Result, form: str = '') -> str:
  """`85.7 ± 0.2` of a quantity, or a number in a format, as `.1f`."""
  if isinstance(result, Quantity) and not form:
    spread = f' ± {result.spread:.{result.places}f}' if result.spread else ''
    return f'{result.mean:,.{result.places}f}{spread}'
  return format(_plain(result), form or '.1f')


def below(first: Quantity, second: Quantity) -> bool:
  """Whether the first mean is below the second by more than the spreads of both."""
  return second.mean - first.mean > first.spread + second.spread


def within(first: Quantity, second: Quantity) -> bool:
  """Whether two means differ by no more than the spreads of both."""
  return abs(first.mean - second.mean) <= first.spread + second.spread


FUNCTIONS: dict[str, Callable[..., float | bool]] = {
  'below': below,
  'within': within,
  'spread': lambda one: one.spread,
  'count': lambda one: len(one.numbers),
  'largest': lambda one: max(one.numbers),
  'smallest': lambda one: min(one.numbers),
  'total': lambda one: sum(one.numbers),
}
OPERATORS: dict[type, Callable[[float, float], float | bool]] = {
  ast.Add: operator.add,
  ast.Sub: operator.sub,
  ast.Mult: operator.mul,
  ast.Div: operator.truediv,
  ast.Lt: operator.lt,
  ast.LtE: operator.le,
  ast.Gt: operator.gt,
  ast.GtE: operator.ge,
  ast.Eq: operator.eq,
}


def evaluate(text: str, quantities: Mapping[str, Quantity]) -> Result:
  """The value of a formula; a quantity counts as its mean in arithmetic and comparisons.

  A formula has names, numbers, `+ - * /`, comparisons, `and`, `or`, `not` and FUNCTIONS.

  Raises:
    ValueError: for another syntax, an unknown name or function, or unfit arguments.
  """
  try:
    return _value(ast.parse(text.strip(), mode='eval').body, quantities)
  except (SyntaxError, TypeError, AttributeError, ZeroDivisionError) as error:
    raise ValueError(f'{text!r} is not a formula: {error}') from error


def _value(node: ast.expr, names: Mapping[str, Quantity]) -> Result:
  number = lambda part: _plain(_value(part, names))
  match node:
    case ast.Constant(value=int() | float() as value):
      return value
    case ast.Name(id=name):
      if name not in names:
        raise ValueError(f'unknown value {name!r}. {nearest(name, names)}')
      return names[name]
    case ast.UnaryOp(op=ast.USub(), operand=operand):
      return -number(operand)
    case ast.UnaryOp(op=ast.Not(), operand=operand):
      return not _value(operand, names)
    case ast.BoolOp(op=op, values=values):
      return (all if isinstance(op, ast.And) else any)(_value(part, names) for part in values)
    case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
      return OPERATORS[type(op)](number(left), number(right))
    case ast.Compare(left=left, ops=ops, comparators=parts) if {*map(type, ops)} <= {*OPERATORS}:
      values = list(map(number, [left, *parts]))
      steps = zip(ops, values, values[1:])
      return all(OPERATORS[type(op)](first, second) for op, first, second in steps)
    case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
      if name not in FUNCTIONS:
        raise ValueError(f'unknown function {name!r}. {nearest(name, FUNCTIONS)}')
      return FUNCTIONS[name](*(_value(part, names) for part in arguments))
  raise ValueError(f'{ast.unparse(node)!r} is not a formula: expected names, numbers, + - * /, '
                   f'comparisons, and, or, not, {", ".join(FUNCTIONS)}')  # fmt: skip


def _plain(result: Result) -> float:
  return result.mean if isinstance(result, Quantity) else float(result)
