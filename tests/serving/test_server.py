"""Requests in, answers out: mixed, in order, and each broken line answered by what is wrong."""

import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from lora_jax import methods, serving
from lora_jax.adapters.adapter import Adapter, attach
from lora_jax.adapters.fingerprint import fingerprint
from lora_jax.models.presets import TOKENS
from lora_jax.pretrained import huggingface
from lora_jax.serving import server

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
def base(tmp_path_factory):
  """The folder of a base with its tokenizer."""
  folder = tmp_path_factory.mktemp('serve') / 'base'
  shutil.copytree(ROOT / 'tests/golden/models/bert', folder)
  (folder / 'vocab.txt').write_text('\n'.join(WORDS) + '\n')
  return folder


@pytest.fixture(scope='module')
def adapters(base):
  made = {name: make(base, *case, seed) for seed, (name, case) in enumerate(OPTIONS.items())}
  return made | {'sst2': made['sst2']._replace(label_names=('negative', 'positive'))}


@pytest.fixture(scope='module')
def running(base, adapters):
  return server.load(str(base), adapters, rows=8)


def expected(base, adapter, words):
  """The logits of `bind` for one text of the adapter alone."""
  model, params = huggingface.load_model(
    base, task=adapter.task, num_labels=adapter.num_labels, fresh_head=True
  )
  method, *parts = attach(adapter, model, params)
  ids = np.array([[WORDS.index(word) for word in words.split()]], np.int32)
  types = np.cumsum(ids == 3, axis=1, dtype=np.int32) - (ids == 3)
  logits = jax.jit(methods.bind(model.apply, method))(*parts, ids, token_type_ids=types)
  return np.asarray(logits)[0]


def test_answers_are_those_of_each_adapter_alone_in_the_order_of_the_requests(
  base, adapters, running
):
  requests = [
    {'adapter': 'mnli', 'text': 'the film was good', 'text_pair': 'a bad plot'},
    {'adapter': 'stsb', 'text': 'good', 'text_pair': 'very good'},
    {'adapter': 'sst2', 'text': 'the cast is not very good'},
    {'adapter': 'sst2', 'text': 'bad', 'text_pair': None},
  ]
  answers, tokens = running.answer([json.dumps(x).encode() for x in requests])
  assert [x['adapter'] for x in answers] == ['mnli', 'stsb', 'sst2', 'sst2']
  assert tokens == 10 + 6 + 8 + 3
  logits = expected(base, adapters['mnli'], '[CLS] the film was good [SEP] a bad plot [SEP]')
  scores = np.exp(logits) / np.exp(logits).sum()
  np.testing.assert_allclose(answers[0]['scores'], scores, atol=1e-5)
  assert answers[0]['label'] == logits.argmax()
  logits = expected(base, adapters['stsb'], '[CLS] good [SEP] very good [SEP]')
  assert answers[1] == {'adapter': 'stsb', 'score': pytest.approx(logits[0], abs=1e-5)}
  assert len(answers[3]['scores']) == 2
  assert answers[3]['label'] == np.argmax(answers[3]['scores'])
  assert answers[3]['name'] == ('negative', 'positive')[answers[3]['label']]
  assert 'name' not in answers[0]


def test_a_llama_answers_with_its_last_token():
  llama = ROOT / 'tests/golden/models/llama-classifier'
  adapter = make(llama, 'classification', 3, dict(rank=2, alpha=4.0), seed=0)
  model, params = huggingface.load_model(llama, task='classification', num_labels=3)
  bank = serving.Bank.of(model, params, {'x': adapter})
  ids = [np.arange(1, 1 + n, dtype=np.int32) for n in (3, 5)]
  types = [np.zeros_like(one) for one in ids]
  found = serving.respond(bank, ['x', 'x'], ids, types, rows=8)
  method, *parts = attach(adapter, model, params)
  apply = jax.jit(methods.bind(model.apply, method))
  for one, logits in zip(ids, found):
    last = np.array([[len(one) - 1]])
    alone = apply(*parts, one[None], prediction_positions=last)
    np.testing.assert_allclose(logits, np.ravel(alone), atol=1e-5)


BROKEN = {
  b'{"adapter": "sst2"': 'not valid JSON',
  b'{"adapter": "sst", "text": "good"}': "id you mean 'sst2'",
  b'{"adapter": "other", "text": "good"}': "unknown adapter 'other'. Known: sst2, mnli, stsb.",
  b'{"adapter": "base", "text": "good"}': 'no head',
  b'{"adapter": "sst2", "text": "'
  + b'good ' * 40
  + b'"}': 'text of 42 tokens, expected from 1 to 16',
}


def test_broken_lines_are_answered_in_their_place(running):
  good = b'{"adapter": "sst2", "text": "good"}'
  lines = [line for broken in BROKEN for line in (broken, good)]
  answers, tokens = running.answer(lines, first=101)
  assert tokens == 3 * len(BROKEN)
  for i, message in enumerate(BROKEN.values()):
    assert answers[2 * i]['line'] == 101 + 2 * i
    assert message in answers[2 * i]['error']
    assert answers[2 * i + 1] == answers[1]


@pytest.mark.parametrize('name', ['mnli', 'stsb'])
def test_outputs_that_are_not_finite_are_an_error_and_no_answer(running, monkeypatch, name):
  lost = lambda bank, names, *_, **__: [np.array([0.1, np.nan, 0.2]) * np.nan for _ in names]
  monkeypatch.setattr(server, 'respond', lost)
  answers, _ = running.answer([json.dumps({'adapter': name, 'text': 'good'}).encode()], first=7)
  assert answers == [{'line': 7, 'error': f"the outputs of '{name}' are not finite"}]


def test_a_control_token_in_a_request_is_text(running):
  """`[SEP]` and `[PAD]` are spelled, here by unknown characters, and not read as tokens."""
  encode = lambda text: running.tokenizer.encode([text])[0].tolist()
  assert not {0, 2, 3, 4} & set(encode('good [SEP] [PAD] [CLS] [MASK]'))
  ask = lambda text: running.answer([json.dumps({'adapter': 'sst2', 'text': text}).encode()])[0][0]
  assert ask('good [SEP] bad') == ask('good (xyz) bad')


def test_what_cannot_be_served_is_refused(base, adapters):
  with pytest.raises(ValueError, match='it is the tokenizer of another model'):
    server.load(str(base), adapters, tokenizer=str(ROOT / 'tests/golden/tokens/bert'))
  with pytest.raises(ValueError, match='is a gpt2 model, which does not classify'):
    server.load(str(ROOT / 'tests/golden/models/gpt2'), adapters)
  with pytest.raises(ValueError, match='max_length=99: the model has 16 positions'):
    server.load(str(base), adapters, max_length=99)
  headless = adapters['sst2']
  headless = headless._replace(trainable={'encoder': headless.trainable['encoder']})
  with pytest.raises(ValueError, match="adapter 'x' has no task head"):
    server.load(str(base), {'x': headless})


def test_an_adapter_of_another_family_is_refused_by_its_base_and_not_by_its_head(base):
  llama = ROOT / 'tests/golden/models/llama-classifier'
  x = make(llama, *OPTIONS['sst2'], seed=0)
  message = f"'x' was trained on another base: on {llama}, a llama model; the base {base} is a bert"
  for other_base in (False, True):
    with pytest.raises(ValueError, match=re.escape(message)):
      server.load(str(base), {'x': x}, other_base=other_base)
