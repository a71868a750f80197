"""A real GLUE set, prepared by TFDS's own builder, is read as GLUE's files are."""

import importlib.resources
import importlib.resources.abc
import sys

import numpy as np
import pytest

from lora_jax.data import glue

RTE = 'index\tsentence1\tsentence2\tlabel\n' + ''.join(
  f'{i}\tThé {i} ran .\tIt " {i} ran .\t{("entailment", "not_entailment")[i % 3 == 0]}\n'
  for i in range(20)
)
STSB = (
  'index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n'
  + ''.join(f'{i}\tg\tf\t2012\t1\tn\tn\ta {i}\tb {i}\t{i / 2}\n' for i in range(8))
)
COLA = ''.join(f'gj04\t{i % 2}\t\tSentence {i}.\n' for i in range(7))
FILES = {'rte': RTE, 'stsb': STSB, 'cola': COLA}


@pytest.fixture
def prepare(tmp_path, monkeypatch):
  """Writes a task's train and dev files and prepares them as array_record, with no TensorFlow."""
  # TFDS needs it for preparing alone, and does not install it on this Python.
  monkeypatch.setitem(sys.modules, 'importlib_resources', importlib.resources)
  import tensorflow_datasets as tfds
  import tensorflow_datasets.text.glue as builders

  def splits(builder, dl_manager):
    folder = tmp_path / 'files' / glue.TASKS[builder.builder_config.name].folder
    names = {'train': 'train.tsv', 'validation': 'dev.tsv'}
    return {s: builder._generate_examples(folder / file, s) for s, file in names.items()}

  monkeypatch.setattr(builders.Glue, '_split_generators', splits)

  def run(name):
    folder = tmp_path / 'files' / glue.TASKS[name].folder
    folder.mkdir(parents=True)
    for file in ('train.tsv', 'dev.tsv'):
      (folder / file).write_text(FILES[name], encoding='utf-8')
    data_dir = tmp_path / 'tfds'
    builder = tfds.builder(f'glue/{name}', data_dir=str(data_dir), file_format='array_record')
    builder.download_and_prepare()
    return data_dir, folder.parent

  return run


@pytest.mark.parametrize('name', FILES)
def test_prepared_data_equals_the_files(name, prepare):
  data_dir, files = prepare(name)
  for split in ('train', 'dev'):
    prepared = glue.read(name, split, 'tfds', data_dir)
    expected = glue.read(name, split, 'files', files)
    assert prepared.texts == expected.texts
    np.testing.assert_array_equal(prepared.labels, expected.labels)
    assert prepared.labels.dtype == expected.labels.dtype
  assert 'tensorflow' not in sys.modules


def test_what_is_not_prepared_says_how_to(tmp_path, prepare):
  with pytest.raises(FileNotFoundError) as error:
    glue.read('mrpc', 'train', 'tfds', tmp_path)
  message = str(error.value)
  assert str(tmp_path) in message and 'found nothing' in message
  assert 'tfds build glue/mrpc --file_format=array_record' in message
  data_dir, _ = prepare('rte')
  with pytest.raises(ValueError, match=r"no split 'test', found \['train', 'validation'\]"):
    glue.read('rte', 'test', 'tfds', data_dir)


def test_another_order_of_labels_is_refused(prepare, monkeypatch):
  data_dir, _ = prepare('rte')
  swapped = glue.TASKS['rte']._replace(classes=('not_entailment', 'entailment'))
  monkeypatch.setitem(glue.TASKS, 'rte', swapped)
  with pytest.raises(ValueError, match=r"glue/rte.*expected label names \('not_.*found \('entail"):
    glue.read('rte', 'train', 'tfds', data_dir)
