"""GLUE (Wang et al., 2019): nine tasks in one table."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lora_jax.data import sources
from lora_jax.data.dataset import Dataset, Request, Task
from lora_jax.data.tokenizer import Tokenizer
from lora_jax.errors import nearest
from lora_jax.metrics import glue as metrics

_DEV = {'dev': ('dev.tsv', 'validation')}
_SPLITS = {'train': ('train.tsv', 'train'), **_DEV, 'test': ('test.tsv', 'test')}
_MNLI_SPLITS = {
  'train': ('train.tsv', 'train'),
  'dev_matched': ('dev_matched.tsv', 'validation_matched'),
  'dev_mismatched': ('dev_mismatched.tsv', 'validation_mismatched'),
  'test_matched': ('test_matched.tsv', 'test_matched'),
  'test_mismatched': ('test_mismatched.tsv', 'test_mismatched'),
}
_DIGITS = ('0', '1')
UNCUT = 1 << 20  # Tokens: more than any text has.


class Glue(NamedTuple):
  """How a task is stored, and which metric selects its best epoch (paper, table 2).

  Attributes:
    folder: the folder of the official archive, which is called FOLDER.zip.
    columns: the columns of one or two texts in the official files.
    tfds: the names of the same columns in TFDS.
    label: the label's column in the official files.
    classes: names of the classes in the order of TFDS's and Hugging Face's ids; () for a value.
    written: how the official files write the classes, in the same order.
    metrics: GLUE's metrics of the task; the first selects the best epoch.
    splits: the file and TFDS's name of each split.
    archives: further names of the archive.
  """

  folder: str
  columns: tuple[str, ...]
  tfds: tuple[str, ...]
  label: str
  classes: tuple[str, ...]
  written: tuple[str, ...]
  metrics: tuple[str, ...]
  splits: Mapping[str, tuple[str, str]] = _SPLITS
  archives: tuple[str, ...] = ()

  @property
  def kind(self) -> str:
    return 'classification' if self.classes else 'regression'


_NLI = ('entailment', 'not_entailment')
_MNLI = ('entailment', 'neutral', 'contradiction')
_PAIR = ('sentence1', 'sentence2')
_QUESTIONS = ('question1', 'question2')
_QNLI = ('question', 'sentence')
_HYPOTHESIS = ('premise', 'hypothesis')
_STRINGS = ('#1 String', '#2 String')
_ONE = ('sentence',)
_ACCEPTABLE = ('unacceptable', 'acceptable')
_SAME = ('not_equivalent', 'equivalent')
_DUPLICATE = ('not_duplicate', 'duplicate')
_ACC, _F1, _R = ('accuracy',), ('accuracy', 'f1'), ('pearson', 'spearman')

TASKS: dict[str, Glue] = {
  'cola': Glue('CoLA', _ONE, _ONE, 'label', _ACCEPTABLE, _DIGITS, ('matthews', 'accuracy')),
  'sst2': Glue('SST-2', _ONE, _ONE, 'label', ('negative', 'positive'), _DIGITS, _ACC),
  'mrpc': Glue('MRPC', _STRINGS, _PAIR, 'Quality', _SAME, _DIGITS, _F1),
  'stsb': Glue('STS-B', _PAIR, _PAIR, 'score', (), (), _R),
  'qqp': Glue('QQP', _QUESTIONS, _QUESTIONS, 'is_duplicate', _DUPLICATE, _DIGITS, _F1)._replace(
    archives=('QQP-clean.zip',)
  ),
  'mnli': Glue('MNLI', _PAIR, _HYPOTHESIS, 'gold_label', _MNLI, _MNLI, _ACC, _MNLI_SPLITS),
  'qnli': Glue('QNLI', _QNLI, _QNLI, 'label', _NLI, _NLI, _ACC, archives=('QNLIv2.zip',)),
  'rte': Glue('RTE', _PAIR, _PAIR, 'label', _NLI, _NLI, _ACC),
  'wnli': Glue('WNLI', _PAIR, _PAIR, 'label', ('not_entailment', 'entailment'), _DIGITS, _ACC),
}


class Rows(NamedTuple):
  """Texts of a split, a list for each column, and int32 class ids or float32 values, if any."""

  texts: tuple[list[str], ...]
  labels: np.ndarray | None

  def take(self, indices: Sequence[int]) -> Rows:
    """The rows at these indices, in this order."""
    texts = tuple([column[i] for i in indices] for column in self.texts)
    return Rows(texts, None if self.labels is None else self.labels[list(indices)])


def load(name: str, request: Request) -> Task:
  """A tokenized GLUE task; see `load_task`."""
  spec = TASKS[name]
  get = lambda split: read(name, split, request.source, request.data_dir)
  train = get('train')
  train = train.take(request.training_indices(len(train.texts[0])))
  evals = request.evals or [split for split in spec.splits if split.startswith('dev')]
  return Task(
    name=name,
    kind=spec.kind,
    num_labels=len(spec.classes) or 1,
    train=encode(train, request.tokenizer, request.max_length),
    evals={split: encode(get(split), request.tokenizer, request.max_length) for split in evals},
    metric=spec.metrics[0],
    higher_is_better=True,
    score=functools.partial(metrics.score, spec.metrics),
  )


def encode(rows: Rows, tokenizer: Tokenizer, max_length: int) -> Dataset:
  """Tokens of texts or pairs, with special tokens, at most `max_length` of each."""
  ids, token_types = tokenizer.encode_pairs(*rows.texts, max_length=max_length)
  full = rows.take([i for i, one in enumerate(ids) if len(one) == max_length])
  whole, _ = tokenizer.encode_pairs(*full.texts, max_length=UNCUT)
  cut = sum(len(one) > max_length for one in whole)
  return Dataset(ids=ids, token_types=token_types, labels=rows.labels, cut=cut)


def read(name: str, split: str, source: str, data_dir: str) -> Rows:
  """Texts and labels of one split.

  Raises:
    ValueError: for an unknown source or split, or a malformed row, naming file and line.
    FileNotFoundError: if the data is not there, naming the places looked at.
  """
  sources.check_source(source)
  spec = TASKS[name]
  if split not in spec.splits:
    raise ValueError(f'{name} has no split {split!r}. {nearest(split, spec.splits)}')
  if source == 'tfds':
    return _from_tfds(name, split, data_dir)
  return _from_files(name, split, data_dir)


def _from_files(name: str, split: str, data_dir: str) -> Rows:
  spec = TASKS[name]
  archives = (f'{spec.folder}.zip', *spec.archives)
  file = sources.find_text(data_dir, archives, f'{spec.folder}/{spec.splits[split][0]}')
  labeled = not split.startswith('test')
  columns = (*spec.columns, spec.label) if labeled else spec.columns
  if name == 'cola' and labeled:  # Without a header: source, label, the author's mark, sentence.
    table = sources.read_tsv(file, ('3', '1'), header=False, width=4)
  else:
    table = sources.read_tsv(file, columns, skip_incomplete=name == 'qqp')
  texts = tuple([row[i] for row in table.rows] for i in range(len(spec.columns)))
  _check_texts(name, texts, table)
  if not labeled:
    return Rows(texts, None)
  parse = _parse_class if spec.classes else _parse_value
  labels = [parse(row[-1], spec, table, i) for i, row in enumerate(table.rows)]
  return Rows(texts, np.array(labels, np.int32 if spec.classes else np.float32))


def _check_texts(name: str, texts: Sequence[Sequence[str]], table: sources.Table) -> None:
  if not table.rows:
    raise ValueError(f'{table.name}: expected rows, found none')
  for column, found in zip(TASKS[name].columns, texts):
    empty = next((i for i, text in enumerate(found) if not text.strip()), None)
    if empty is not None and name != 'qqp':  # A few of its questions are empty.
      raise ValueError(f'{table.where(empty)}: expected a text in column {column}, found none')


def _parse_class(written: str, spec: Glue, table: sources.Table, row: int) -> int:
  try:
    return spec.written.index(written)
  except ValueError:
    raise ValueError(
      f'{table.where(row)}: unknown label {written!r} in column {spec.label}; expected one of '
      f'{", ".join(spec.written)}'
    ) from None


def _parse_value(written: str, spec: Glue, table: sources.Table, row: int) -> float:
  try:
    value = float(written)
  except ValueError:
    value = np.nan
  if not 0.0 <= value <= 5.0:
    raise ValueError(
      f'{table.where(row)}: expected a similarity from 0 to 5 in column {spec.label}, '
      f'found {written!r}'
    )
  return value


def _from_tfds(name: str, split: str, data_dir: str) -> Rows:
  spec = TASKS[name]
  prepared = sources.read_tfds(f'glue/{name}', data_dir, spec.splits[split][1])
  needed = (*spec.tfds, 'label', 'idx')
  if missing := [column for column in needed if column not in prepared.features]:
    raise ValueError(
      f'{prepared.name}: expected features {needed}, missing {missing} in {list(prepared.features)}'
    )
  classes = tuple(getattr(prepared.features['label'], 'names', None) or ())
  if classes != spec.classes:
    raise ValueError(f'{prepared.name}: expected label names {spec.classes}, found {classes}')
  # TFDS shuffles when it prepares; `idx` is the row of the official file.
  records = sorted((prepared.records[i] for i in range(len(prepared.records))), key=_idx)
  texts = tuple([record[column].decode() for record in records] for column in spec.tfds)
  if split.startswith('test'):
    return Rows(texts, None)
  labels = np.array([record['label'] for record in records])
  return Rows(texts, labels.astype(np.int32 if spec.classes else np.float32))


def _idx(record: Mapping[str, Any]) -> int:
  return int(record['idx'])
