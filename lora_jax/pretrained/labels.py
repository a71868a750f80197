"""Names of a head's classes: which outputs of one head are those of another."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lora_jax import errors


def names(values: Mapping[str, object], where: str = 'config.json') -> tuple[str, ...]:
  """The names in the id2label of a config.json, in the order of the outputs.

  Returns:
    The names; none if they are missing, or all of the form `LABEL_0`, which names nothing.

  Raises:
    ValueError: naming `where`, if id2label is not an object of the ids 0 to n - 1.
  """
  given = values.get('id2label') or {}
  if not isinstance(given, Mapping) or {str(key) for key in given} != set(
    map(str, range(len(given)))
  ):
    raise ValueError(f'{where}: id2label={given!r:.200}: expected names by the ids 0, 1, ...')
  by_id = {str(key): str(name) for key, name in given.items()}
  found = tuple(by_id[str(i)] for i in range(len(by_id)))
  return () if all(re.fullmatch(r'LABEL_\d+', name) for name in found) else found


def order(found: Sequence[str], wanted: Sequence[str], where: str) -> tuple[int, ...] | None:
  """For each wanted name the output of that name; case does not count.

  Args:
    found: names of a head's outputs, empty if they are unknown.
    wanted: names of a task's classes, empty for a regression.
    where: the head, for the error.

  Returns:
    The numbers of the outputs, or None if one side has no names, so that nothing is compared.

  Raises:
    ValueError: naming both sets, if they differ.
  """
  if not found or not wanted:
    return None
  plain = [name.casefold() for name in found]
  if sorted(plain) != sorted(name.casefold() for name in wanted) or len(set(plain)) < len(plain):
    raise ValueError(
      f'{where}: its head has the classes {errors.listed(found)}, the task has '
      f'{errors.listed(wanted)}. Draw a fresh head (--config.model.head=fresh).'
    )
  return tuple(plain.index(name.casefold()) for name in wanted)


def fields(num_labels: int, given: Sequence[str] = ()) -> dict[str, object]:
  """The fields of a config.json that name the classes; `LABEL_0`, ... without names."""
  found = list(given) or [f'LABEL_{i}' for i in range(num_labels)]
  return {
    'num_labels': num_labels,
    'id2label': {str(i): name for i, name in enumerate(found)},
    'label2id': {name: i for i, name in enumerate(found)},
  }
