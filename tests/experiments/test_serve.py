"""Requests in, answers out: mixed, in order, and each broken line answered by what is wrong."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import serve
from lora_jax import methods
from lora_jax.adapters.adapter import Adapter, attach
from lora_jax.adapters.fingerprint import fingerprint
from lora_jax.adapters.native import save_adapter
from lora_jax.models.presets import TOKENS
from lora_jax.pretrained import huggingface

ROOT = Path(__file__).resolve().parents[2]
SPECIAL = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
WORDS = (*SPECIAL, 'good', 'bad', 'film', 'plot', 'the', 'a', 'was', 'is', 'very', 'not', 'cast')
OPTIONS = {  # (task, labels, options of lora)
  'sst2': ('classification', 2, dict(rank=2, alpha=4.0)),
  'mnli': ('classification', 3, dict(rank=3, alpha=8.0, targets='.*/(query|output|up)')),
  'stsb': ('regression', 1, dict(rank=1, alpha=1.0, rslora=True)),
}


def make(base, task, labels, options, seed):
  model, params = huggingface.load_model(base, task=task, num_labels=labels, fresh_head=True)
  options = dict(name='lora', train=model.head, **options)
  init = methods.make(**options).init
  shapes = jax.eval_shape(lambda p: init(jax.random.key(0), model, p, TOKENS)[1], params)
  draw = np.random.default_rng(seed).standard_normal
  trained = jax.tree.map(lambda x: 0.3 * draw(x.shape).astype(np.float32), shapes)
  known = fingerprint(params, model.config)
  return Adapter(options, trained, model.config, task, labels, str(base), known)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A base with its tokenizer, and an artefact of each adapter."""
  folder = tmp_path_factory.mktemp('serve')
  shutil.copytree(ROOT / 'tests/golden/models/bert', folder / 'base')
  (folder / 'base' / 'vocab.txt').write_text('\n'.join(WORDS) + '\n')
  for seed, (name, case) in enumerate(OPTIONS.items()):
    save_adapter(folder / name, make(folder / 'base', *case, seed))
  return folder


@pytest.fixture(scope='module')
def server(folder):
  named = {name: str(folder / name) for name in OPTIONS}
  return serve.load(str(folder / 'base'), named, rows=8)


def expected(folder, name, words):
  """The logits of `bind` for one text of the adapter alone."""
  task, labels, _ = OPTIONS[name]
  model, params = huggingface.load_model(
    folder / 'base', task=task, num_labels=labels, fresh_head=True
  )
  method, *parts = attach(serve.read_adapter(name, str(folder / name)), model, params)
  ids = np.array([[WORDS.index(word) for word in words.split()]], np.int32)
  types = np.cumsum(ids == 3, axis=1, dtype=np.int32) - (ids == 3)
  return np.asarray(jax.jit(methods.bind(model.apply, method))(*parts, ids, token_type_ids=types))[
    0
  ]


def test_answers_are_those_of_each_adapter_alone_in_the_order_of_the_requests(folder, server):
  requests = [
    {'adapter': 'mnli', 'text': 'the film was good', 'text_pair': 'a bad plot'},
    {'adapter': 'stsb', 'text': 'good', 'text_pair': 'very good'},
    {'adapter': 'sst2', 'text': 'the cast is not very good'},
    {'adapter': 'sst2', 'text': 'bad', 'text_pair': None},
  ]
  answers, tokens = serve.answer(server, [json.dumps(x).encode() for x in requests])
  assert [x['adapter'] for x in answers] == ['mnli', 'stsb', 'sst2', 'sst2']
  assert tokens == 10 + 6 + 8 + 3
  logits = expected(folder, 'mnli', '[CLS] the film was good [SEP] a bad plot [SEP]')
  scores = np.exp(logits) / np.exp(logits).sum()
  np.testing.assert_allclose(answers[0]['scores'], scores, atol=1e-5)
  assert answers[0]['label'] == logits.argmax()
  logits = expected(folder, 'stsb', '[CLS] good [SEP] very good [SEP]')
  assert answers[1] == {'adapter': 'stsb', 'score': pytest.approx(logits[0], abs=1e-5)}
  assert len(answers[3]['scores']) == 2
  assert answers[3]['label'] == np.argmax(answers[3]['scores'])


BROKEN = {
  b'{"adapter": "sst2"': 'no JSON',
  b'\n': 'no JSON',
  b'{"adapter": "sst2", "text": "\xff"}': 'no JSON',
  b'["sst2", "good"]': 'expected an object with adapter, text, text_pair, found list',
  b'{"adapter": "sst2"}': "no 'text'",
  b'{"adapter": "sst2", "text": 3}': "'text' is int, expected a string",
  b'{"adapter": "sst2", "text": "a", "txt_pair": "b"}': "did you mean 'text_pair'",
  b'{"adapter": "sst", "text": "good"}': "Did you mean 'sst2'",
  b'{"adapter": "base", "text": "good"}': 'no head',
  b'{"adapter": "sst2", "text": "\\ud800"}': 'surrogate',
  b'{"adapter": "sst2", "text": "' + b'good ' * 40 + b'"}': 'text of 42 tokens, the most are 16',
}


def test_broken_lines_are_answered_in_their_place(server):
  good = b'{"adapter": "sst2", "text": "good"}'
  lines = [line for broken in BROKEN for line in (broken, good)]
  answers, tokens = serve.answer(server, lines, first=101)
  assert tokens == 3 * len(BROKEN)
  for i, message in enumerate(BROKEN.values()):
    assert answers[2 * i]['line'] == 101 + 2 * i
    assert message in answers[2 * i]['error']
    assert answers[2 * i + 1] == answers[1]


def test_lines_are_taken_as_they_come():
  lines = [b'%d\n' % i for i in range(10)]
  windows = list(serve.windows(io.BytesIO(b''.join(lines)), 4, wait=5.0))
  assert windows == [lines[:4], lines[4:8], lines[8:]]
  read, write = os.pipe()
  with os.fdopen(read, 'rb') as stream, os.fdopen(write, 'wb', buffering=0) as end:
    found = serve.windows(stream, 4, wait=0.05)
    end.write(b'one\n')
    assert next(found) == [b'one\n']  # Nobody waits for a full batch.
    end.write(b'two\nthree')
    end.close()
    assert list(found) == [[b'two\n', b'three']]
  assert list(serve.windows(io.BytesIO(b''), 4)) == []


MISTAKES = {
  'not of the form NAME=FOLDER': (['sst2'], {}),
  "'a' is there twice": (['a=b', 'a=c'], {}),
  'is empty': ([], {}),
  "adapter 'x': .*is no adapter": (['x=nowhere'], {}),
  'max_length=99: the model has 16': (None, {'max_length': 99}),
}


@pytest.mark.parametrize('message', MISTAKES)
def test_mistakes_say_what_is_wrong(folder, message):
  pairs, options = MISTAKES[message]
  pairs = [f'sst2={folder / "sst2"}'] if pairs is None else pairs
  with pytest.raises((ValueError, OSError), match=message):
    serve.load(str(folder / 'base'), serve.folders(pairs), **options)


def test_another_models_tokenizer_and_a_language_model_are_refused(folder):
  named = {'sst2': str(folder / 'sst2')}
  with pytest.raises(ValueError, match='it is the tokenizer of another model'):
    serve.load(str(folder / 'base'), named, tokenizer=str(ROOT / 'tests/golden/tokens/bert'))
  with pytest.raises(ValueError, match='is a gpt2 model, which classifies nothing'):
    serve.load(str(ROOT / 'tests/golden/models/gpt2'), named)


def test_the_command_answers_standard_input_and_reports(folder):
  requests = [{'adapter': name, 'text': 'good film'} for name in ('sst2', 'mnli', 'mnly')]
  adapters = [f'--adapters={name}={folder / name}' for name in OPTIONS]
  done = subprocess.run(
    [sys.executable, '-m', 'experiments.serve', f'--base={folder / "base"}',
     *adapters, '--requests=-'],
    input='\n'.join(map(json.dumps, requests)), capture_output=True, text=True, cwd=ROOT,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  answers = [json.loads(line) for line in done.stdout.splitlines()]
  assert [answer.get('adapter') for answer in answers] == ['sst2', 'mnli', None]
  assert answers[2] == {'line': 3, 'error': answers[2]['error']}
  report = json.loads(done.stderr.splitlines()[-1])
  assert report['requests'] == 3
  assert report['errors'] == 1
  assert report['tokens'] == 8
  assert report['compilations'] == 2
  assert report['requests_per_second'] > 0
