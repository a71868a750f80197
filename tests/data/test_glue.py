import re
import zipfile

import numpy as np
import pytest

from lora_jax.data import glue, load_task, load_tokenizer

# Rows of each task as its official files write them: header, rows, texts, labels.
QUOTED = 'He said " no , and left'
# fmt: off
FILES = {
  'cola': (
    None, [f'gj04\t1\t\t{QUOTED}', 'gj04\t0\t*\tThem left.'], [(QUOTED,), ('Them left.',)], [1, 0],
  ),
  'sst2': (
    'sentence\tlabel', ['good film \t1', 'bad\u2028film\t0'],
    [('good film ',), ('bad\u2028film',)], [1, 0],
  ),
  'mrpc': (
    '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String',
    [f'1\t10\t11\t{QUOTED}\tb', '0\t12\t13\tc\td'], [(QUOTED, 'b'), ('c', 'd')], [1, 0],
  ),
  'stsb': (
    'index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore',
    ['0\tg\tf\t2012\t0001\tnone\tnone\ta\tb\t5.000', '1\tg\tf\t2012\t0004\tnone\tnone\tc\td\t3.8'],
    [('a', 'b'), ('c', 'd')], [5.0, 3.8],
  ),
  'qqp': (
    'id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate',
    ['0\t1\t2\ta?\tb?\t0', '1\t3\t4\tcut off', '2\t5\t6\tc?\td?\t1'],
    [('a?', 'b?'), ('c?', 'd?')], [0, 1],
  ),
  'mnli': (
    'index\tpromptID\tgenre\tsentence1_parse\tsentence1\tsentence2\tlabel1\tgold_label',
    [
      f'{i}\t1\tg\t( a )\ta\tb\tneutral\t{label}'
      for i, label in enumerate(('entailment', 'neutral', 'contradiction'))
    ],
    [('a', 'b')] * 3, [0, 1, 2],
  ),
  'qnli': (
    'index\tquestion\tsentence\tlabel',
    ['0\tWhy?\tBecause.\tentailment', '1\tWho?\tThen.\tnot_entailment'],
    [('Why?', 'Because.'), ('Who?', 'Then.')], [0, 1],
  ),
  'rte': (
    'index\tsentence1\tsentence2\tlabel',
    [f'0\t{QUOTED}\tb\tnot_entailment', '1\tc\td\tentailment'], [(QUOTED, 'b'), ('c', 'd')], [1, 0],
  ),
  'wnli': (
    'index\tsentence1\tsentence2\tlabel', ['0\ta\tb\t1', '1\tc\td\t0'],
    [('a', 'b'), ('c', 'd')], [1, 0],
  ),
}
# fmt: on


@pytest.fixture
def gpt2(request):
  return load_tokenizer(request.path.parents[1] / 'golden' / 'tokens' / 'gpt2')


def write(folder, name, split='train', lines=None, end='\n'):
  """One official file of a task."""
  header, rows, _, _ = FILES[name]
  lines = lines or ([header] if header else []) + rows
  spec = glue.TASKS[name]
  path = folder / spec.folder / spec.splits[split][0]
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes((end.join(lines) + end).encode())
  return path


def test_the_table_is_complete():
  assert set(FILES) == set(glue.TASKS) and len(FILES) == 9


@pytest.mark.parametrize('end', ['\n', '\r\n'])
@pytest.mark.parametrize('name', FILES)
def test_reads_the_official_layout_and_the_archive(name, end, tmp_path):
  _, _, texts, labels = FILES[name]
  path = write(tmp_path, name, end=end)
  unpacked = glue.read(name, 'train', 'files', tmp_path)
  inside = glue.read(name, 'train', 'files', path.parent)
  folder = glue.TASKS[name].folder
  with zipfile.ZipFile(tmp_path / f'{folder}.zip', 'w') as archive:
    archive.write(path, f'{folder}/train.tsv')
  path.unlink()
  zipped = glue.read(name, 'train', 'files', tmp_path)
  for rows in (unpacked, inside, zipped):
    assert list(zip(*rows.texts)) == texts
    np.testing.assert_allclose(rows.labels, labels)
    assert rows.labels.dtype == (np.float32 if name == 'stsb' else np.int32)


# As Hugging Face `datasets` has them (glue.py) and as the released checkpoints were trained.
@pytest.mark.parametrize(
  'name, classes, metric',
  [
    ('cola', ('unacceptable', 'acceptable'), 'matthews'),
    ('sst2', ('negative', 'positive'), 'accuracy'),
    ('mrpc', ('not_equivalent', 'equivalent'), 'accuracy'),
    ('stsb', (), 'pearson'),
    ('qqp', ('not_duplicate', 'duplicate'), 'accuracy'),
    ('mnli', ('entailment', 'neutral', 'contradiction'), 'accuracy'),
    ('qnli', ('entailment', 'not_entailment'), 'accuracy'),
    ('rte', ('entailment', 'not_entailment'), 'accuracy'),
    ('wnli', ('not_entailment', 'entailment'), 'accuracy'),
  ],
)
def test_label_order_and_selecting_metric(name, classes, metric):
  spec = glue.TASKS[name]
  assert (spec.classes, spec.metrics[0]) == (classes, metric)


def test_mnli_has_two_dev_splits_and_the_matched_one_selects(tmp_path, bert):
  for split in ('train', 'dev_matched', 'dev_mismatched'):
    write(tmp_path, 'mnli', split)
  task = load_task('mnli', bert, data_dir=str(tmp_path))
  assert list(task.evals) == ['dev_matched', 'dev_mismatched']
  assert (task.kind, task.num_labels, task.metric) == ('classification', 3, 'accuracy')
  assert task.score(task.train.labels, np.array([0, 1, 1])) == {'accuracy': 2 / 3, 'constant': 0.0}


@pytest.fixture
def bert(request):
  return load_tokenizer(request.path.parents[1] / 'golden' / 'tokens' / 'bert')


def test_test_splits_have_no_labels(tmp_path, bert):
  write(tmp_path, 'rte')
  write(tmp_path, 'rte', 'test', ['index\tsentence1\tsentence2', '0\ta\tb'])
  write(tmp_path, 'cola', 'test', ['index\tsentence', '0\ta b'])  # with a header, unlike train
  task = load_task('rte', bert, data_dir=str(tmp_path), evals=('test',))
  assert task.evals['test'].labels is None and len(task.evals['test']) == 1
  assert glue.read('cola', 'test', 'files', tmp_path) == ((['a b'],), None)


def test_limit_keeps_a_seeded_sample_of_the_training_set_alone(tmp_path, bert):
  rows = [f'{i}\t{"a" * i}\tb\tentailment' for i in range(1, 9)]
  for split in ('train', 'dev'):
    write(tmp_path, 'rte', split, [FILES['rte'][0], *rows])
  load = lambda **kw: load_task('rte', bert, data_dir=str(tmp_path), **kw)
  few, more, other = load(limit=3), load(limit=5), load(limit=3, seed=1)
  ids = lambda task: [x.tolist() for x in task.train.ids]
  assert len(few.train) == 3 and len(few.evals['dev']) == 8
  assert ids(more)[:3] == ids(few) != ids(other)


def test_stsb_is_a_regression(tmp_path, bert):
  write(tmp_path, 'stsb')
  write(tmp_path, 'stsb', 'dev')
  task = load_task('stsb', bert, data_dir=str(tmp_path))
  assert (task.kind, task.num_labels, task.metric) == ('regression', 1, 'pearson')
  scores = task.score(np.array([1.0, 2.0]), np.array([0.1, 0.3]))
  assert set(scores) == {'pearson', 'spearman', 'constant'}


RTE, STSB, COLA = (FILES[name][0] for name in ('rte', 'stsb', 'cola'))


@pytest.mark.parametrize(
  'name, lines, message',
  [
    (
      'rte',
      [RTE, '0\ta\tb\tentailed'],
      r"line 2: unknown label 'entailed'.*one of entailment, not_",
    ),
    ('rte', [RTE, '0\ta\tb\tentailment', '1\ta\tb'], r"line 3: expected 4 tab-.*found 3: '1\\ta"),
    ('rte', [RTE, '0\ta\tb\tc\tentailment'], 'line 2: expected 4 tab-separated fields, found 5'),
    ('rte', ['index,sentence1,sentence2,label'], r'line 1: expected a header with .*sentence1, '),
    ('rte', ['index\tsentence1\tpremise\tlabel'], r"line 1: .*; sentence2 missing in \['index'"),
    (
      'cola',
      ['gj04\t1\t\ta b', 'gj04\t1\ta b'],
      'line 2: expected 4 tab-separated fields, found 3',
    ),
    ('cola', ['gj04\tyes\t\ta b'], "line 1: unknown label 'yes'"),
    ('stsb', [STSB, '\t'.join('0gfyonnab') + '\thigh'], "line 2: expected a sim.*found 'high'"),
    ('stsb', [STSB, '\t'.join('0gfyonnab') + '\t5.5'], r"line 2: .*from 0 to 5 .*found '5.5'"),
    ('stsb', [STSB, '\t'.join('0gfyonnab') + '\tnan'], 'line 2: expected a similarity'),
    ('qqp', [FILES['qqp'][0], '0\t1\t2\ta?\tb?\tmaybe'], "line 2: unknown label 'maybe'"),
  ],
)
def test_bad_rows_name_file_and_line(name, lines, message, tmp_path):
  path = write(tmp_path, name, lines=lines)
  with pytest.raises(ValueError, match=message) as error:
    glue.read(name, 'train', 'files', tmp_path)
  assert str(error.value).startswith(str(path))


# Rows of the official files, and how many belong to class 1.
@pytest.mark.real_data
@pytest.mark.parametrize(
  'name, sizes, ones',
  [
    ('cola', {'train': 8551, 'dev': 1043, 'test': 1063}, 6023),
    ('sst2', {'train': 67349, 'dev': 872, 'test': 1821}, 37569),
    ('mrpc', {'train': 3668, 'dev': 408, 'test': 1725}, 2474),
    ('stsb', {'train': 5749, 'dev': 1500, 'test': 1379}, None),
    ('qnli', {'dev': 5463}, 2761),
    ('rte', {'train': 2490, 'dev': 277, 'test': 3000}, 1241),
    ('wnli', {'train': 635, 'dev': 71, 'test': 146}, 312),
  ],
)
def test_real_files(name, sizes, ones, shared_data):
  for split, size in sizes.items():
    rows = glue.read(name, split, 'files', shared_data)
    assert all(len(column) == size for column in rows.texts)
    assert (rows.labels is None) == (split == 'test')
    if ones and split == next(iter(sizes)):
      assert np.sum(rows.labels == 1) == ones


@pytest.mark.parametrize('name', FILES)
def test_an_empty_text_or_split_is_refused_on_reading(tmp_path, name):
  header, rows, texts, _ = FILES[name]
  lines = [line.replace(texts[0][0], ' ') if QUOTED in line else line for line in rows]
  head = [header] if header else []
  if lines != rows:
    path = write(tmp_path, name, lines=[*head, *lines])
    message = f'^{re.escape(str(path))}, line {len(head) + 1}: expected a text in column'
    with pytest.raises(ValueError, match=message):
      glue.read(name, 'train', 'files', tmp_path)
  if head:
    write(tmp_path, name, lines=head)
    with pytest.raises(ValueError, match=r'train.tsv: expected rows, found none'):
      glue.read(name, 'train', 'files', tmp_path)


def test_what_is_cut_is_counted(gpt2):
  texts = ['a', 'a b c d', 'a b c d e', 'a b c d e f g']
  whole, _ = gpt2.encode_pairs(texts, max_length=64)
  rows = glue.Rows((texts,), np.array([0, 1, 0, 1], np.int32))
  for most, cut in ((64, 0), (len(whole[3]), 0), (len(whole[2]), 1), (len(whole[1]), 2)):
    assert (glue.encode(rows, gpt2, most).cut, most) == (cut, most)
  pair = glue.encode(glue.Rows((texts, texts), None), gpt2, len(whole[2]) * 2)
  assert (pair.cut, pair.left_out) == (1, 0)
