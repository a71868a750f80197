import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lora_jax.data import corpus, e2e, load_task, load_tokenizer, sources

WIKITEXT = """ \n = First title = \n \n A 17th @-@ place <unk> of 30 @,@ 000 , or 1 @.@ 5 .
 They don 't , and Don 't say ' so ' .\n \n = = A part = = \n \n = Played , W = \n It ended .
 \n = Second ( 2 @-@ 3 ) = \n \n Another .\n"""
FIRST = (
  ' First title\n\n A 17th - place _ of 30,000 , or 1.5 .\n\n'
  " They do n't , and Do n't say ' so ' .\n\n A part\n\n Played , W\n\n It ended ."
)
WEBNLG = {
  'category': 'City',
  'modifiedtripleset': [{'subject': 'a', 'property': 'b', 'object': 'c'}],
  'lexicalisations': [
    {'comment': 'good', 'lex': "It's a well-known city, isn't it?"},
    {'comment': 'toFix', 'lex': 'Not this.'},
  ],
}
TEXTS = [
  FIRST,
  ' Second ( 2 - 3 )\n\n Another .',
  " a : b : c\n\n It 's a well - known city , is n't it ?",
]


@pytest.fixture
def gpt2(request):
  return load_tokenizer(request.path.parents[1] / 'golden' / 'tokens' / 'gpt2')


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'wikitext-2').mkdir()
  for wikitext, webnlg in (('train', 'train'), ('valid', 'dev')):
    (tmp_path / 'wikitext-2' / f'{wikitext}.txt').write_text(WIKITEXT)
    (tmp_path / f'{webnlg}.json').write_text(json.dumps({'entries': [{'1': WEBNLG}]}))
  return tmp_path


def joined(dataset, tokenizer):
  """The texts that a dataset's sequences hold, put together again."""
  tokens = np.concatenate([ids[1:] for ids in dataset.ids])
  ends = np.flatnonzero(tokens == tokenizer.eos_id)
  assert ends[-1] == len(tokens) - 1
  return [tokenizer.decode(part[part != tokenizer.eos_id]) for part in np.split(tokens, ends)[:-1]]


def test_both_sources_are_brought_into_the_form_of_e2e(folder):
  texts = corpus.read('train', 'files', folder)
  assert texts == TEXTS
  spaced = [line for text in texts[1:] for line in text.split('\n\n')]
  assert all(e2e.tokenize(line) == line.strip() for line in spaced)


@pytest.mark.parametrize('length', [2, 3, 16, 1000])
def test_sequences_are_full_and_every_token_is_a_target_once(length, gpt2):
  data = corpus.chunks(TEXTS, gpt2, length)
  assert joined(data, gpt2) == TEXTS
  assert all(ids[0] == gpt2.eos_id and ids.dtype == np.int32 for ids in data.ids)
  assert set(data.lengths[:-1]) <= {length} and 1 < data.lengths[-1] <= length
  assert data.target_starts.tolist() == [1] * len(data)
  assert data.num_predictions.sum() == sum(len(ids) + 1 for ids in gpt2.encode(TEXTS))


def test_the_task_has_no_prompts_and_a_limit(folder, gpt2):
  make = lambda **options: load_task('corpus', gpt2, data_dir=str(folder), max_length=8, **options)
  whole, some, others = make(), make(limit=5), make(limit=5, seed=1)
  assert (whole.kind, whole.metric, whole.scoring, whole.prompts) == ('lm', 'loss', '', {})
  assert list(whole.evals) == ['dev'] and joined(whole.evals['dev'], gpt2) == TEXTS
  assert len(whole.train) > len(some.train) == 5
  kept = {ids.tobytes() for ids in some.train.ids}
  assert kept <= {ids.tobytes() for ids in whole.train.ids}
  assert kept != {ids.tobytes() for ids in others.train.ids}


def test_general_text_is_one_more_split_of_a_language_model(folder, gpt2):
  (folder / 'e2e-dataset').mkdir()
  for name in ('trainset', 'devset'):
    (folder / f'e2e-dataset/{name}.csv').write_text('mr,ref\nname[A],A is it .\n')
  options = dict(data_dir=str(folder), max_length=16)
  task = load_task('e2e', gpt2, **options, general=2)
  assert list(task.evals) == ['dev', 'general']
  expected = corpus.chunks([FIRST], gpt2, 16).take(range(2))
  for found, ids in zip(task.evals['general'].ids, expected.ids, strict=True):
    np.testing.assert_array_equal(found, ids)
  rest = load_task('e2e', gpt2, **options, general=99).evals['general']
  assert joined(rest, gpt2) == TEXTS[:2], 'all of it, where there is less'
  assert list(load_task('e2e', gpt2, **options).evals) == ['dev']
  with pytest.raises(FileNotFoundError, match=r'No wikitext-2/valid\.txt\. Looked for'):
    load_task('synthetic/recipes', gpt2, data_dir='/', max_length=16, general=1)
  (folder / 'RTE').mkdir()
  for split in ('train', 'dev'):
    text = 'index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n'
    (folder / f'RTE/{split}.tsv').write_text(text)
  with pytest.raises(ValueError, match=r'rte is a classification: config\.eval\.general_text'):
    load_task('rte', gpt2, **options, general=1)


def test_a_text_that_is_no_wikitext_is_refused(gpt2):
  text = '\n\nPlain prose.\n = Title = \n'
  with pytest.raises(ValueError, match=r"^w.txt, line 3: .*found 'Plain prose.'"):
    corpus.articles(sources.Text('w.txt', text))
  for empty in ('', '\n \n'):
    with pytest.raises(ValueError, match=r'w.txt: expected articles, found an empty file'):
      corpus.articles(sources.Text('w.txt', empty))
  lines = ' = Title = \n\n Some text . \n'
  crlf = sources.Text('w.txt', lines.replace('\n', '\r\n'))
  assert corpus.articles(crlf) == corpus.articles(sources.Text('w.txt', lines)) != []
  with pytest.raises(ValueError, match='at least 2 for a corpus, found 1'):
    corpus.chunks(TEXTS, gpt2, 1)
  with pytest.raises(ValueError, match="corpus has no split 'valid'"):
    corpus.read('valid', 'files', '.')
  with pytest.raises(FileNotFoundError, match=r'No wikitext-2/train.txt. Looked for'):
    corpus.read('train', 'files', '/')


def test_the_command_writes_what_the_library_trains(folder):
  options = [f'--data_dir={folder}', f'--out={folder}/out', '--vocab_size=270']
  command = [sys.executable, '-m', 'experiments.tokenizer', *options]
  subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True)
  written = load_tokenizer(folder / 'out')
  assert written.backend.to_str() == corpus.train_tokenizer(folder, 270).backend.to_str()


@pytest.mark.real_data
def test_real_files(shared_data):
  texts = {split: corpus.read(split, 'files', shared_data) for split in ('dev', 'test')}
  assert [len(texts[split]) - 60 for split in texts] == [871, 1862]
  assert all(' : ' not in text.split('\n\n')[0] for text in texts['dev'][:60])
  entries = [text.split('\n\n') for split in texts for text in texts[split][60:]]
  assert all(' : ' in triples for triples, *_ in entries)
  assert sum(len(lines) - 1 for lines in entries) == 2258 + 4928
  everything = ''.join(t for split in texts for t in texts[split])
  assert not any(mark in everything for mark in ('<unk>', '@-@', '@,@', '@.@', " n 't", ' = = '))
  assert all(paragraph.startswith(' ') for t in texts['dev'] for paragraph in t.split('\n\n'))


@pytest.mark.real_data
@pytest.mark.slow
def test_the_vocabulary_of_the_corpus(shared_data):
  tokenizer = corpus.train_tokenizer(shared_data)
  assert (tokenizer.vocab_size, tokenizer.eos_id) == (8192, 0)
  assert [len(tokenizer.encode([x])[0]) for x in ('\n\n The', ' _', ' restaurant')] == [2, 1, 1]
  task = load_task('corpus', tokenizer, data_dir=str(shared_data), max_length=256)
  assert (len(task.train), len(task.evals['dev'])) == (13018, 1387)
  assert joined(task.evals['dev'], tokenizer) == corpus.read('dev', 'files', shared_data)
