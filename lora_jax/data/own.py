"""A task in files of a user's own: `own/NAME`, whose kind is told by the columns.

  text, label          classification; `pair` is a second text
  text, number         regression
  prompt, completion   a language model, whose loss is on the completion
  messages             chats for a language model, whose loss is on the last reply (`chat.py`)

The classes are the labels of the training file, sorted, numbers by their size. Where no file for
`dev` is named, rows are cut off the training file: the same rows whatever the run's seed is, and
rows of the same input together, so that no input is in both parts.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import math
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lora_jax import provenance
from lora_jax.data import chat, data_to_text, glue, records
from lora_jax.data.data_to_text import Example, Form
from lora_jax.data.dataset import Request, Task
from lora_jax.data.records import Files, Records
from lora_jax.data.tokenizer import Tokenizer
from lora_jax.errors import listed, nearest
from lora_jax.metrics import glue as metrics

FORMS = {
  'classification': ('text', 'label'),
  'regression': ('text', 'number'),
  'completion': ('prompt', 'completion'),
  'chat': ('messages',),
}
INPUTS = ('text', 'pair', 'prompt', 'messages')  # What two rows may share; of a chat not its end.
METRICS = {'classification': ('accuracy', 'macro_f1'), 'regression': ('pearson', 'spearman')}
LARGEST = float(np.finfo(np.float32).max)
CUT, MOST_CUT = 10, 1000  # One row of 10 is cut off for dev, and no more than 1000.


class Split(NamedTuple):
  """Rows of a file: the file, the form of all files of the task, and which rows."""

  records: Records
  form: str
  rows: Sequence[int]

  def where(self) -> list[str]:
    """The places of the rows, for errors."""
    return [self.records.where(i) for i in self.rows]


def load(name: str, request: Request) -> Task:
  """A task in a user's own files; see `load_task`.

  Raises:
    ValueError: naming file and line, for columns and rows that are not of one form, a label that
      the training file does not have, a number that is not finite, or a model without what chats
      need.
    FileNotFoundError: if a file is not there.
  """
  files = request.own or Files()
  train = read(files, 'train')
  evals = {split: read(files, split) for split in request.evals or ('dev',)}
  _warn_of_shared(name, files, train, evals)
  if train.form in METRICS:
    return _labeled(name, request, files, train, evals)
  if train.form == 'chat':
    _, template = chat.require(request.tokenizer)
    provenance.note(template.name, 'chat_template', template.source.encode())
    tokens = json.dumps(template.tokens, sort_keys=True)  # Of either of two files.
    provenance.note(template.name, 'special_tokens', tokens.encode())
  form = (chat.form if train.form == 'chat' else plain_form)(request.tokenizer)
  get = functools.partial(_examples, files, tokenizer=request.tokenizer)
  kept = [train.rows[i] for i in request.training_indices(len(train.rows))]
  return data_to_text.task(
    name,
    get(train._replace(rows=kept)),
    {split: get(found) for split, found in evals.items()},
    dataclasses.replace(request, limit=0),
    scoring='own',
    form=form,
  )


def describe(files: Files) -> tuple[str, tuple[str, ...]]:
  """The kind of the task, as `Task` has it, and the names of its classes; reads the training file.

  Raises:
    ValueError, FileNotFoundError: as `load`.
  """
  found, form = _training(files)
  if form not in METRICS:
    return 'lm', ()
  return form, _classes(files, found) if form == 'classification' else ()


def plain_form(tokenizer: Tokenizer) -> Form:
  """A prompt as it is, and the completion after it, with the token that ends a text.

  What the tokenizer puts before a text (Llama's `<s>`) stands before the prompt.
  """
  (first,), _ = tokenizer.encode_pairs([''], max_length=glue.UNCUT)
  return Form(
    lambda texts: [np.concatenate([first, ids]) for ids in tokenizer.encode(texts)],
    lambda before, texts: data_to_text.ended(tokenizer, tokenizer.encode_after(before, texts)),
    str.strip,
  )


def read(files: Files, split: str) -> Split:
  """The rows of `train`, `dev`, `test`, or a file that is named in place of a split.

  Raises:
    ValueError, FileNotFoundError: as `load`; for a split without a file.
  """
  training, form = _training(files)
  named = {'dev': files.dev, 'test': files.test}.get(split, '')
  if split == 'train' or (split == 'dev' and not named):
    if files.dev:
      return Split(training, form, range(len(training.rows)))
    held_out = _cut(files, training, form)
    return Split(training, form, [i for i, out in enumerate(held_out) if out == (split == 'dev')])
  is_file = pathlib.Path(split).suffix.lower() in records.ENDINGS
  if not named and not is_file:
    raise ValueError(
      f'{files.data} has no split {split!r}. Known: train, dev, test if the config names a file of '
      f'it (test=FILE in its argument), or the path of a file ({", ".join(records.ENDINGS)})'
    )
  found = records.read(named or split, split)
  wanted = [*FORMS[form], *(['pair'] if _has(files, training, 'pair') else [])]
  if missing := [role for role in wanted if not _has(files, found, role)]:
    raise ValueError(
      f'{found.name}: expected the columns {listed([files.column(role) for role in wanted])} of '
      f'{training.name}; {files.column(missing[0])} is missing in {listed(found.columns)}'
    )
  return Split(found, form, range(len(found.rows)))


def _has(files: Files, found: Records, role: str) -> bool:
  return bool(files.column(role)) and files.column(role) in found.columns


def _training(files: Files) -> tuple[Records, str]:
  """The training file and the form of its rows.

  Raises:
    ValueError: for columns that are of no form or of several.
  """
  if not files.data:
    raise ValueError('no file is named: configs/own.py:data=FILE,model=...')
  found = records.read(files.data, 'train')
  for role in sorted(files.named):
    if not _has(files, found, role):
      column = files.column(role)
      raise ValueError(
        f'{found.name}: no column {column!r} for {role}. {nearest(column, found.columns)}'
      )
  fitting = [form for form in FORMS if all(_has(files, found, role) for role in FORMS[form])]
  named = [form for form in fitting if files.named and files.named <= {*FORMS[form], 'pair'}]
  chosen = named or fitting
  if chosen == ['chat'] and pathlib.Path(found.name).suffix.lower() != '.jsonl':
    raise ValueError(
      f'{found.name}: {files.column("messages")} is a list of messages, which a table cannot hold. '
      'Write the chats as .jsonl, or as the columns prompt and completion'
    )
  if len(chosen) == 1:
    return found, chosen[0]
  if chosen:
    both = ' or '.join(' and '.join(FORMS[form]) for form in chosen)
    raise ValueError(
      f'{found.name}: its columns are those of several tasks: {both}. Say that one does not count: '
      f'{FORMS[chosen[-1]][-1]}= (with nothing after it) in the argument of configs/own.py'
    )
  raise ValueError(
    f'{found.name}: has the columns {listed(found.columns)}; expected text and label (and pair), '
    'text and number, prompt and completion, or messages. Other names go into the argument: '
    'configs/own.py:data=FILE,text=COLUMN,label=COLUMN'
  )


def _cut(files: Files, found: Records, form: str) -> list[bool]:
  """For each row of the training file whether it is cut off for dev."""
  keys = [_key(files, row, form) for row in found.rows]
  order = sorted(
    set(keys), key=lambda key: hashlib.sha256(f'{files.dev_seed}\n{key}'.encode()).digest()
  )
  wanted = files.dev_rows or min(max(len(keys) // CUT, 1), MOST_CUT)
  counts = {key: 0 for key in order}
  for key in keys:
    counts[key] += 1
  chosen: set[str] = set()
  taken = 0
  while order and taken < wanted:
    taken += counts[order[-1]]
    chosen.add(order.pop())
  if not order:
    raise ValueError(
      f'{found.name}: cutting {wanted} rows for dev leaves none of {len(keys)} to train on '
      f'({len(counts)} different inputs). Name a file with dev=FILE, or set --config.own.dev_rows'
    )
  return [key in chosen for key in keys]


def _key(files: Files, row: records.Row, form: str) -> str:
  """What two rows share that are of the same input."""
  columns = [files.column(role) for role in (*FORMS[form], 'pair') if role in INPUTS]
  values = [row.get(column) for column in columns]
  return json.dumps([value[:-1] if isinstance(value, list) else value for value in values])


def _warn_of_shared(name: str, files: Files, train: Split, evals: dict[str, Split]) -> None:
  keys = lambda split: [_key(files, split.records.rows[i], split.form) for i in split.rows]
  known = set(keys(train))
  for split, found in evals.items():
    shared = sum(key in known for key in keys(found))
    if shared and split != 'train':
      rows = len(found.rows)
      logging.warning('%s: %d of %d inputs of %s are in train as well', name, shared, rows, split)


def _labeled(
  name: str, request: Request, files: Files, train: Split, evals: dict[str, Split]
) -> Task:
  """A task of classification or regression."""
  classes = _classes(files, train.records) if train.form == 'classification' else ()
  encode = lambda rows: glue.encode(rows, request.tokenizer, request.max_length)
  roles = ('text', 'pair') if _has(files, train.records, 'pair') else ('text',)
  rows = functools.partial(_labeled_rows, files, roles, classes)
  trained = rows(train)
  if train.form == 'classification' and trained.labels is not None:
    _check_trained(train, classes, trained.labels)
  held_out = {split: rows(found) for split, found in evals.items()}
  if 'dev' in held_out and not files.dev:
    _warn_of_one_value(files, evals['dev'], held_out['dev'].labels)
  kept = trained.take(request.training_indices(len(train.rows)))
  names = METRICS[train.form]
  return Task(
    name=name,
    kind=train.form,
    num_labels=len(classes) or 1,
    train=encode(kept),
    evals={split: encode(found) for split, found in held_out.items()},
    metric=names[0],
    higher_is_better=True,
    score=functools.partial(metrics.score, names),
    label_names=classes,
  )


def _warn_of_one_value(files: Files, dev: Split, values: np.ndarray | None) -> None:
  if values is not None and len(np.unique(values)) == 1:
    logging.warning(
      '%s: the rows that were cut off for dev (%d) have all the same %s: a score on them says '
      'little. Name a file with dev=FILE, or cut others by --config.own.dev_rows or .dev_seed',
      *(dev.records.name, len(dev.rows), files.column(FORMS[dev.form][-1])),
    )


def _check_trained(train: Split, classes: tuple[str, ...], labels: np.ndarray) -> None:
  """Checks that the rows for dev were not all of a class.

  Raises:
    ValueError: if the rest is of one class.
  """
  left = {classes[i] for i in labels}
  if lost := [name for name in classes if name not in left]:
    text = (
      f'{train.records.name}: all rows with the label {listed(lost)} were cut off for dev. Add '
      'rows, name a file with dev=FILE, or set --config.own.dev_seed to cut others'
    )
    if len(left) < 2:
      raise ValueError(text)
    logging.warning('%s', text)


def _labeled_rows(
  files: Files, roles: Sequence[str], classes: tuple[str, ...], split: Split
) -> glue.Rows:
  texts = tuple(_texts(files, split, role) for role in roles)
  values = [split.records.rows[i][files.column(FORMS[split.form][-1])] for i in split.rows]
  if split.form == 'regression':
    numbers = [_number(value, place) for value, place in zip(values, split.where())]
    return glue.Rows(texts, np.array(numbers, np.float32))
  ids = {name: i for i, name in enumerate(classes)}
  labels = [_label(value, place) for value, place in zip(values, split.where())]
  for label, place in zip(labels, split.where()):
    if label not in ids:
      raise ValueError(
        f'{place}: the label {label!r} is not one of the training file: {nearest(label, classes)}'
      )
  return glue.Rows(texts, np.array([ids[label] for label in labels], np.int32))


def _texts(files: Files, split: Split, role: str) -> list[str]:
  column, found = files.column(role), []
  for i in split.rows:
    text = split.records.rows[i][column]
    if not isinstance(text, str) or not text.strip():
      raise ValueError(f'{split.records.where(i)}: expected a text in {column}, found {text!r:.60}')
    found.append(text)
  return found


def _classes(files: Files, found: Records) -> tuple[str, ...]:
  """The classes of the training file.

  Raises:
    ValueError: for one class alone, classes that differ in case alone, numbers, or true and false
      beside others.
  """
  first: dict[str, str] = {}  # The place where each class occurs first.
  kinds: dict[bool, str] = {}
  for i, row in enumerate(found.rows):
    place, value = found.where(i), row[files.column('label')]
    first.setdefault(_label(value, place), place)
    kinds.setdefault(isinstance(value, bool), place)
  if len(kinds) > 1:
    raise ValueError(
      f'{kinds[True]}: the label is true or false, but that of {kinds[False]} is not. Write all '
      'labels in one way: true and 1 would be two classes'
    )
  if len(first) < 2:
    raise ValueError(f'{found.name}: expected two labels or more, found only {listed(list(first))}')
  plain: dict[str, str] = {}
  for name, place in first.items():
    if (other := plain.setdefault(name.casefold(), name)) != name:
      raise ValueError(f'{place}: the label {name!r} is {other!r} of {first[other]} in other case')
  if all(re.fullmatch(r'-?\d+\.\d+', name) for name in first):
    raise ValueError(
      f'{found.name}: the labels are numbers ({listed(list(first), limit=4)}). Of a regression the '
      f'column is named by number={files.column("label")} in the argument of configs/own.py'
    )
  whole = all(re.fullmatch(r'-?\d{1,15}', name) for name in first)
  return tuple(sorted(first, key=int) if whole else sorted(first))


def _label(value: object, where: str) -> str:
  if isinstance(value, str | int) and str(value).strip():
    return str(value).strip()
  raise ValueError(f'{where}: expected a label, a text or a whole number, found {value!r:.60}')


def _number(value: object, where: str) -> float:
  try:
    number = float(value) if isinstance(value, str | int | float) else math.nan
  except (ValueError, OverflowError):
    number = math.nan
  if not abs(number) < LARGEST or isinstance(value, bool):
    raise ValueError(f'{where}: expected a finite number, found {value!r:.60}')
  return number


def _examples(files: Files, split: Split, tokenizer: Tokenizer) -> list[Example]:
  """Rows for a language model. A space parts prompt and completion, where they have no other."""
  if split.form == 'chat':
    places, column = split.where(), files.column('messages')
    values = (split.records.rows[i][column] for i in split.rows)
    chats = [chat.messages_of(value, place) for value, place in zip(values, places)]
    return chat.examples(chats, places, tokenizer)
  rows = []
  texts = _texts(files, split, 'prompt'), _texts(files, split, 'completion')
  for prompt, completion in zip(*texts):
    is_parted = prompt[-1].isspace() or completion[0].isspace()
    rows.append(Example(prompt, completion if is_parted else f' {completion}'))
  return rows
