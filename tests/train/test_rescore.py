"""The texts of a finished run, scored again."""

import json

import pytest

from lora_jax.train import loop, rescore, rundir


@pytest.fixture(scope='module')
def run(make_language_model, tmp_path_factory):
  """A run that decoded a few texts, on a machine that could compute no score."""
  folder = tmp_path_factory.mktemp('decoded') / 'run'
  decode = {'decode.final': 'test', 'decode.beams': 1, 'decode.max_tokens': 4}
  one_step = {'train.epochs': 1, 'data.limit': 32, 'optim.warmup_ratio': 0.0}
  loop.train(make_language_model(**one_step, **decode), folder)
  found = json.loads((folder / 'result.json').read_text())
  found['generated'] |= {'scores': {}, 'unavailable': {'bleu': 'no Java'}}
  (folder / 'result.json').write_text(json.dumps(found))
  return folder


def test_the_scores_of_its_texts_are_put_into_the_result(run):
  before = rundir.read_result(run)
  path = rundir.predictions(run, 'test')
  references = run / 'references-test.txt'
  groups = references.read_text().split('\n\n')
  assert len(groups) == len(path.read_text().splitlines()) == before['generated']['contexts']
  path.write_text(''.join(group.strip().splitlines()[0] + '\n' for group in groups))
  found = rescore.rescore(run)
  assert found['scores'] == {'bleu': pytest.approx(1)} and not found['unavailable']
  after = rundir.read_result(run)
  assert after['generated'] == json.loads(json.dumps(found))
  same = {name: value for name, value in before.items() if name != 'generated'}
  assert same == {name: value for name, value in after.items() if name != 'generated'}
  assert after['generated']['decode'] == before['generated']['decode']


def test_texts_that_are_not_all_there_are_refused(run, tmp_path, finished):
  path = rundir.predictions(run, 'test')
  text = path.read_text()
  path.write_text('one\n')
  with pytest.raises(ValueError, match=r'predictions-test\.txt: 1 texts for the \d+ contexts'):
    rescore.rescore(run)
  path.unlink()
  with pytest.raises(ValueError, match=r'is missing: decode again with experiments.generate'):
    rescore.rescore(run)
  path.write_text(text)
  with pytest.raises(ValueError, match='decoded no texts at its end'):
    rescore.rescore(finished[0])
  with pytest.raises(ValueError, match='is not a run directory'):
    rescore.rescore(tmp_path)


def test_a_score_that_this_machine_cannot_compute_is_not_lost(run, monkeypatch):
  before = (run / 'result.json').read_text()
  found = json.loads(before)
  found['generated']['scores']['bleu'] = 0.5
  (run / 'result.json').write_text(json.dumps(found))
  unable = {'scores': {}, 'unavailable': {'bleu': 'no `java` on PATH'}}
  monkeypatch.setattr(rescore.generate, 'score', lambda *_: unable)
  with pytest.raises(ValueError, match='has bleu, which this machine cannot compute: no `java` on'):
    rescore.rescore(run)
  assert rundir.read_result(run)['generated']['scores'] == {'bleu': 0.5}
  (run / 'result.json').write_text(before)
