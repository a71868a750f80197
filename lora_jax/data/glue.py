"""GLUE (Wang et al., 2019): nine tasks in one table."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lora_jax.data import sources
from lora_jax.data.dataset import Dataset, Task
from lora_jax.data.tokenizers import Tokenizer
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


class Glue(NamedTuple):
  """How a task is stored, and what selects its best epoch (paper, table 2)."""

  folder: str  # of the official archive, which is called FOLDER.zip
  columns: tuple[str, ...]  # one or two texts, as the files name them
  tfds: tuple[str, ...]  # the same, as TFDS names them
  label: str  # the label's column in the files
  classes: tuple[
    str, ...
  ]  # in the order of the ids, as TFDS and Hugging Face have it; () = a value
  written: tuple[str, ...]  # how the files write the classes
  metrics: tuple[str, ...]  # The first selects the best epoch.
  splits: dict[str, tuple[str, str]] = _SPLITS  # ours -> (file, TFDS's)
  archives: tuple[str, ...] = ()  # further names of the archive

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
_SAME = ('not_equivalent', 'equivalent')
_ACC, _F1, _R = ('accuracy',), ('accuracy', 'f1'), ('pearson', 'spearman')

TASKS: dict[str, Glue] = {
  #       folder, columns, as TFDS names them, label, classes, as the files write them, metrics
  'cola': Glue(
    'CoLA', ('sentence',), ('sentence',), 'label', ('unacceptable', 'acceptable'), _DIGITS,
    ('matthews', 'accuracy'),
  ),
  'sst2': Glue(
    'SST-2', ('sentence',), ('sentence',), 'label', ('negative', 'positive'), _DIGITS, _ACC
  ),
  'mrpc': Glue('MRPC', _STRINGS, _PAIR, 'Quality', _SAME, _DIGITS, _F1),
  'stsb': Glue('STS-B', _PAIR, _PAIR, 'score', (), (), _R),
  'qqp': Glue(
    'QQP', _QUESTIONS, _QUESTIONS, 'is_duplicate', ('not_duplicate', 'duplicate'), _DIGITS, _F1,
    archives=('QQP-clean.zip',),
  ),
  'mnli': Glue('MNLI', _PAIR, _HYPOTHESIS, 'gold_label', _MNLI, _MNLI, _ACC, _MNLI_SPLITS),
  'qnli': Glue('QNLI', _QNLI, _QNLI, 'label', _NLI, _NLI, _ACC, archives=('QNLIv2.zip',)),
  'rte': Glue('RTE', _PAIR, _PAIR, 'label', _NLI, _NLI, _ACC),
  'wnli': Glue('WNLI', _PAIR, _PAIR, 'label', ('not_entailment', 'entailment'), _DIGITS, _ACC),
}  # fmt: skip


class Rows(NamedTuple):
  """Texts of a split, one list per column, and labels unless the split has none."""

  texts: tuple[list[str], ...]
  labels: np.ndarray | None  # int32 class ids or float32 values


def load(
  name: str,
  tokenizer: Tokenizer,
  source: str,
  data_dir: str,
  max_length: int,
  limit: int = 0,
  seed: int = 0,
  evals: Sequence[str] = (),
) -> Task:
  """A tokenised GLUE task; see `load_task`."""
  spec = TASKS[name]
  evals = evals or [split for split in spec.splits if split.startswith('dev')]
  rows = read(name, 'train', source, data_dir)
  if 0 < limit < len(rows.texts[0]):
    kept = np.random.default_rng(seed).permutation(len(rows.texts[0]))[:limit]
    texts = tuple([column[i] for i in kept] for column in rows.texts)
    rows = Rows(texts, rows.labels[kept])
  return Task(
    name=name,
    kind=spec.kind,
    num_labels=len(spec.classes) or 1,
    train=encode(rows, tokenizer, max_length),
    evals={
      split: encode(read(name, split, source, data_dir), tokenizer, max_length) for split in evals
    },
    metric=spec.metrics[0],
    higher_is_better=True,
    score=functools.partial(metrics.score, spec.metrics),
  )


def encode(rows: Rows, tokenizer: Tokenizer, max_length: int) -> Dataset:
  """Texts or pairs with the tokenizer's special tokens, at most `max_length` tokens each."""
  ids, token_types = tokenizer.encode_pairs(*rows.texts, max_length=max_length)
  return Dataset(ids=ids, token_types=token_types, labels=rows.labels)


def read(name: str, split: str, source: str, data_dir: str) -> Rows:
  """Texts and labels of one split.

  Raises:
    ValueError: for an unknown split, or rows that are not as expected, naming file and line.
    FileNotFoundError: if the data is not there, naming the places looked at.
  """
  sources.check_source(source)
  spec = TASKS[name]
  if split not in spec.splits:
    raise ValueError(f'{name} has no split {split!r}{sources.nearest(split, list(spec.splits))}')
  if source == 'tfds':
    return _from_tfds(name, split, data_dir)
  return _from_files(name, split, data_dir)


def _from_files(name: str, split: str, data_dir: str) -> Rows:
  spec = TASKS[name]
  archives = (f'{spec.folder}.zip', *spec.archives)
  file = sources.find_text(data_dir, archives, f'{spec.folder}/{spec.splits[split][0]}')
  labelled = not split.startswith('test')
  columns = (*spec.columns, spec.label) if labelled else spec.columns
  if name == 'cola' and labelled:  # No header: source, label, the author's mark, sentence.
    table = sources.read_tsv(file, ('3', '1'), header=False, width=4)
  else:
    table = sources.read_tsv(file, columns, skip_incomplete=name == 'qqp')
  texts = tuple([row[i] for row in table.rows] for i in range(len(spec.columns)))
  if not labelled:
    return Rows(texts, None)
  parse = _parse_class if spec.classes else _parse_value
  labels = [parse(row[-1], spec, table, i) for i, row in enumerate(table.rows)]
  return Rows(texts, np.array(labels, np.int32 if spec.classes else np.float32))


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


def _idx(record: dict) -> int:
  return int(record['idx'])
