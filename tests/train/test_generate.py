"""Texts of a run: decoded while it trains, at its end, from its directory, and as a base's."""

import copy
import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from lora_jax import generation
from lora_jax.data import dataset, fast_tokenizer
from lora_jax.metrics import text
from lora_jax.train import curve, estimate, generate, job, loop, mesh, partial_texts, rundir
from lora_jax.train.partial_texts import PartialTexts

ROOT = Path(__file__).resolve().parents[2]
DECODE = {'decode.beams': 2, 'decode.max_tokens': 24, 'decode.batch_size': 16}
LEARNS = {'train.batch_size': 8, 'train.epochs': 2, 'optim.lr': 2e-2, **DECODE}


@pytest.fixture(scope='module')
def finished(tmp_path_factory, make_language_model):
  """A finished run that decoded four contexts at each epoch and all of `test` at its end."""
  workdir = tmp_path_factory.mktemp('generated') / 'run'
  config = make_language_model(**LEARNS, **{'decode.contexts': 4, 'decode.final': 'test'})
  return workdir, loop.train(config, workdir)


@pytest.fixture(scope='module')
def loaded(finished):
  """That run's job, its best parameters and its generator, compiled once for all."""
  work, trainable = job.load_run(finished[0], 'best')
  return work, trainable, generate.make_generator(work, work.config.decode, mesh.make_mesh(1))


def test_a_run_decodes_and_says_how(finished):
  workdir, result = finished
  assert [0 <= record['dev/bleu'] <= 1 for record in result['history']] == [True, True]
  generated = result['generated']
  prompts = job.load_prompts(rundir.read_config(workdir), 'test')
  texts = (workdir / 'predictions-test.txt').read_text().splitlines()
  assert generated['split'] == 'test'
  assert generated['contexts'] == len(texts) == len(prompts.contexts) > 100
  assert generated['decode'] | {'beams': 2, 'max_tokens': 24} == generated['decode']
  # The scores are those of the file.
  assert generated['scores'] == text.score('synthetic', texts, prompts.references).scores
  references = (workdir / 'references-test.txt').read_text().rstrip('\n').split('\n\n')
  assert [group.split('\n') for group in references] == prompts.references
  for example in generated['examples']:
    assert example['generated'] == texts[prompts.contexts.index(example['context'])]
  assert len(generated['examples']) == 3
  assert result['seconds']['decoding'] > generated['seconds'] > 0
  assert any(b'examples/0' in path.read_bytes() for path in (workdir / 'tensorboard').iterdir())


def test_a_directory_gives_the_texts_again(finished, tmp_path):
  workdir, result = finished
  decode = rundir.read_config(workdir).decode
  report = generate.generate_run(workdir, decode, split='test', out=tmp_path / 'texts.txt')
  assert (tmp_path / 'texts.txt').read_text() == (workdir / 'predictions-test.txt').read_text()
  assert report['scores'] == result['generated']['scores']


def test_the_command_prints_scores_and_takes_changes(finished, tmp_path):
  workdir, out = finished[0], tmp_path / 'texts.txt'

  def command(*changes):
    words = ['-m', 'experiments.generate', f'--workdir={workdir}', f'--out={out}', *changes]
    return subprocess.run(
      [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=300
    )

  report = json.loads(command('--decode=beams=1,max_tokens=3', '--split=dev').stdout)
  assert report['decode'] | {'beams': 1, 'max_tokens': 3} == report['decode']
  assert report['split'] == 'dev'
  texts = out.read_text().splitlines()
  references = job.load_prompts(rundir.read_config(workdir), 'dev').references
  assert report['scores'] == text.score('synthetic', texts, references).scores
  assert len(texts) == report['contexts'] and max(len(text.split()) for text in texts) <= 3
  ended = command('--decode=beems=1')
  assert ended.returncode == 1 and "Did you mean 'beams'" in ended.stderr


def test_texts_that_are_there_are_not_replaced(finished, tmp_path, monkeypatch):
  monkeypatch.setattr(job, 'load_run', lambda *_, **__: pytest.fail('a model was loaded'))
  workdir, out = finished[0], tmp_path / 'texts.txt'
  generate_to = functools.partial(
    generate.generate_run, workdir, rundir.read_config(workdir).decode, split='test'
  )
  out.write_text('another text\n')
  with pytest.raises(FileExistsError, match=r'texts\.txt exists already\. Name a new file'):
    generate_to(out=out)
  beside = tmp_path / 'references-test.txt'
  beside.write_text('of another task\n')
  with pytest.raises(FileExistsError, match=r'-test\.txt holds the references of another task'):
    generate_to(out=tmp_path / 'more.txt')
  assert out.read_text() == 'another text\n' and beside.read_text() == 'of another task\n'
  assert not (tmp_path / 'more.txt').exists()


def interrupted(*_):
  raise KeyboardInterrupt


def test_killed_while_it_decodes_at_its_end(finished, tmp_path, make_language_model, monkeypatch):
  """What it has decoded is not decoded again, and the texts are the same.

  Killed twice: the second time when all is scored, before there is a result.json.
  """
  workdir, result = finished
  config = make_language_model(**LEARNS, **{'decode.contexts': 4, 'decode.final': 'test'})
  kept, keep, read, known = [], PartialTexts.keep, PartialTexts.read, []

  def killed(self, texts, total):
    keep(self, texts, total)
    kept.append(len(texts))
    if len(kept) == 4:
      raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(partial_texts, 'SECONDS', 0)
    patch.setattr(PartialTexts, 'keep', killed)
    with pytest.raises(KeyboardInterrupt):
      loop.train(config, tmp_path / 'run')
  assert 0 < kept[-1] < result['generated']['contexts']
  assert not (tmp_path / 'run' / 'result.json').exists()
  partial = json.loads((tmp_path / 'run' / 'predictions-test.txt.partial').read_text())
  monkeypatch.setattr(PartialTexts, 'read', lambda *args: known.append(read(*args)) or known[-1])
  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(curve, 'draw', interrupted)
    loop.train(config, tmp_path / 'run')
  assert (tmp_path / 'run' / 'predictions-test.txt').exists()
  resumed = loop.train(config, tmp_path / 'run')
  assert [len(texts) for texts in known] == [kept[-1], result['generated']['contexts']]
  assert resumed['history'] == result['history']
  assert resumed['generated']['scores'] == result['generated']['scores']
  assert resumed['seconds']['decoding'] > resumed['generated']['seconds'] > partial['seconds'] > 0
  name = 'predictions-test.txt'
  assert (tmp_path / 'run' / name).read_text() == (workdir / name).read_text()
  assert not (tmp_path / 'run' / f'{name}.partial').exists()


def test_the_best_checkpoint_is_decoded(finished, loaded):
  """The texts are those of the checkpoint, not of what came after it."""
  workdir, _ = finished
  work, trainable, texts = loaded
  prompts = generate.subset(job.load_prompts(work.config, 'test'), 8)
  saved = (workdir / 'predictions-test.txt').read_text().splitlines()
  contexts = job.load_prompts(work.config, 'test').contexts
  expected = [saved[contexts.index(context)] for context in prompts.contexts]
  assert texts(work.frozen, trainable, prompts) == expected
  assert texts(work.frozen, work.trainable, prompts) != expected  # Untrained.


def test_long_contexts_keep_their_end(loaded, caplog, monkeypatch):
  work, trainable, texts = loaded
  room = work.config.data.max_length - 24
  ids = np.tile(job.load_prompts(work.config, 'test').ids[0], 20)
  assert len(ids) > room

  def decoded(ids):
    prompts = dataset.Prompts(['context'], [ids], [['reference']])
    return texts(work.frozen, trainable, prompts)

  assert decoded(ids) == decoded(ids[-room:])
  assert '1 of 1 contexts have more than' in caplog.text and 'max_length leaves' in caplog.text
  caplog.clear()
  # The model has room for more than the data's length.
  config = copy.deepcopy(work.config)
  with config.unlocked():
    config.data.max_length = 64
    config.decode.limit = 'model'
  decode = config.decode
  lengths, plan = [], generation.decode.plan
  keep = lambda found, *args: lengths.append(found) or plan(found, *args)
  monkeypatch.setattr(generation.decode, 'plan', keep)
  shown = []
  monkeypatch.setattr(generate.display, 'Decoding', lambda: lambda *counts: shown.append(counts))
  texts = generate.make_generator(work._replace(config=config), decode, mesh.make_mesh(1))
  decoded(ids[:room])
  assert lengths == [[room]] and not caplog.text
  assert shown == [(0, 1), (1, 1)]
  decode.max_tokens = work.model.config.max_positions
  with pytest.raises(ValueError, match=r'leaves no room.*positions\). Lower it; .*limit=model'):
    generate.make_generator(work, decode, mesh.make_mesh(1))


def test_texts_do_not_depend_on_what_a_length_costs(loaded, monkeypatch):
  """A length costs this model more than all padding; without the cost there are three."""
  work, trainable, one_length = loaded
  prompts = generate.subset(job.load_prompts(work.config, 'test'), 6)
  ids = [np.tile(ids, 10)[:length] for ids, length in zip(prompts.ids, (9, 30, 64, 65, 80, 100))]
  prompts = prompts._replace(ids=ids)
  shapes, plan = [], generation.decode.plan
  keep = lambda *args, **kwargs: shapes.append(found := plan(*args, **kwargs)) or found
  monkeypatch.setattr(generation.decode, 'plan', keep)
  expected = one_length(work.frozen, trainable, prompts)
  monkeypatch.setattr(estimate, 'length_tokens', lambda *_, **__: 0.0)
  least_padding = generate.make_generator(work, work.config.decode, mesh.make_mesh(1))
  assert least_padding(work.frozen, trainable, prompts) == expected
  assert [len(found) for found in shapes] == [1, 3]
  assert len({*expected}) > 1


def test_a_prefix_is_decoded_with(tmp_path, make_language_model):
  method = dict(name='prefix_embed', prefix=2, infix=1, train=())
  own = {'decode.beams': 1, 'decode.final': 'test', 'train.epochs': 1, 'data.max_length': 120}
  config = make_language_model(**LEARNS | own | {'method': method})
  loop.train(config, tmp_path / 'run')
  work, trainable = job.load_run(tmp_path / 'run', 'best')
  prompts = generate.subset(job.load_prompts(config, 'test'), 3)
  found = generate.make_generator(work, config.decode, mesh.make_mesh(1))
  texts = found(work.frozen, trainable, prompts)
  # The first token, from the whole sequence at once: prefix, context, infix.
  for ids, written in zip(prompts.ids, texts):
    whole = np.concatenate([[512, 513], ids, [514]]).astype(np.int32)
    logits = work.apply(work.frozen, trainable, whole[None])[0, -1]
    first = work.task.tokenizer.decode([int(logits.argmax())])
    assert written.startswith(first.strip())


def test_a_model_that_runs_merged_is_merged_before_it_decodes(make_language_model):
  method = dict(name='intrinsic', dimension=50, variant='did', head='trained', subspace=0, train=())
  own = {'decode.beams': 1, 'decode.max_tokens': 4, 'decode.contexts': 1, 'data.max_length': 120}
  config = make_language_model(**DECODE | own | {'method': method})
  work = job.load(config)
  trainable = {'intrinsic': {'coordinates': np.linspace(-3, 3, 50, dtype=np.float32)}}
  prompts = generate.subset(job.load_prompts(config, 'test'), 1)
  once = work._replace(apply=lambda *args, **kwargs: pytest.fail('P x is computed in the decoder'))
  texts = generate.make_generator(once, config.decode, mesh.make_mesh(1))
  (written,) = texts(work.frozen, trainable, prompts)
  apply = jax.jit(work.apply)
  first = lambda trained: int(apply(work.frozen, trained, prompts.ids[0][None])[0, -1].argmax())
  assert first(trainable) != first(work.trainable), 'the base would write another token'
  assert written.startswith(work.task.tokenizer.decode([first(trainable)]).strip())


def test_parts_are_scored_by_themselves(loaded):
  work, _, _ = loaded
  part = np.array([True, False, True])
  prompts = dataset.Prompts(
    ['a', 'b', 'c'],
    [np.ones(1, np.int32)] * 3,
    [['x y z w v'], ['p q r s t'], ['k l m n o']],
    {'seen': part, 'unseen': ~part, 'nowhere': part & ~part},
  )
  report = generate.score(work.task, prompts, ['x y z w v', 'q p', 'k l m n o'])
  assert report['parts']['seen'] == pytest.approx({'bleu': 1.0})
  assert report['parts']['unseen']['bleu'] == 0
  assert report['parts'].keys() == {'seen', 'unseen'}
  assert 0 < report['scores']['bleu'] < 1
  few = generate.subset(prompts, 2)
  assert few.contexts == ['a', 'c'] and few.groups['seen'].tolist() == [True, True]


PLAIN = {
  ' A b . <|endoftext|> more': 'A b .',
  ' A b\n\nC d': 'A b',
  ' A\nb  c ': 'A b c',
  '': '',
}


@pytest.mark.parametrize('written', PLAIN)
def test_a_text_is_one_line_before_the_first_stop(written):
  texts = ['a b c d A C . more', '\n\n \n']
  tokenizer = fast_tokenizer.train_byte_level(texts, 280, 'toy')
  (ids,) = tokenizer.encode([written])
  assert generate.plain(tokenizer, ids, ('<|endoftext|>', '\n\n')) == PLAIN[written]


def test_a_run_that_generates_no_text_is_refused_before_anything_is_loaded(make_config, tmp_path):
  config = make_config()
  (tmp_path / 'config.json').write_text(config.to_json_best_effort())
  message = (
    rf'is a run of sst2, a classification task: .* experiments\.evaluate --workdir={tmp_path}$'
  )
  with pytest.raises(ValueError, match=message):
    generate.generate_run(tmp_path, config.decode, split='dev', out=tmp_path / 'out.txt')


def test_mistakes(finished, make_config, make_language_model, tmp_path):
  with pytest.raises(ValueError, match=re.escape('sst2 has no contexts to generate from')):
    loop.train(make_config(**{'decode.final': 'test'}), tmp_path / 'glue')
  with pytest.raises(ValueError, match='max_tokens=128 leaves no room for a context'):
    loop.train(
      make_language_model(**{'decode.max_tokens': 128, 'decode.contexts': 1}), tmp_path / 'room'
    )
  with pytest.raises(ValueError, match=r"no split 'tset'.*Did you mean 'test'"):
    loop.train(make_language_model(**{'decode.final': 'tset'}), tmp_path / 'split')
  with pytest.raises(ValueError, match=r'config.decode.stop: .* found an empty text'):
    loop.train(
      make_language_model(**{'decode.stop': ('\n', ''), 'decode.contexts': 1}), tmp_path / 'stop'
    )
  assert not list(tmp_path.iterdir())  # Nothing is left of a run that could not have ended.
  config = rundir.read_config(finished[0])
  assert json.loads(config.to_json_best_effort())['decode']['final'] == 'test'
