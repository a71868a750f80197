"""Scores of real system outputs equal the published ones to every digit that was published.

../shared/data/README.md has them: the E2E challenge's (Dusek et al., 2020) and the DART baseline's.
"""

import shutil
import zipfile

import pytest

from lora_jax.data import scored_texts
from lora_jax.metrics import text

needs_java = pytest.mark.skipif(not shutil.which('java'), reason='needs java')

# BLEU, NIST, METEOR, ROUGE-L, CIDEr as published; NIST as pymteval has it (published: of tgen).
PUBLISHED = {
  'baseline-output': (0.6925, 8.4781, 0.4703, 0.7257, 2.3987, 8.4781),
  'tgen': (0.6593, 8.6094, 0.4483, 0.6850, 2.2338, 8.5923),
  'slug': (0.6619, 8.6130, 0.4454, 0.6772, 2.2615, 8.5824),
  'harv': (0.6496, 8.5268, 0.4386, 0.6872, 2.0850, 8.4615),
  'sheff2': (0.5436, 5.7462, 0.3561, 0.6152, 1.4130, 5.4649),
  'tnt1': (0.6561, 8.5105, 0.4517, 0.6839, 2.2183, 8.5081),
  'chen': (0.5859, 5.4383, 0.3836, 0.6714, 1.5790, 5.1265),
}
# Java takes its time: these are always scored with it.
QUICK = ('baseline-output', 'tnt1')


@pytest.fixture(scope='module')
def unpacked(shared_data, tmp_path_factory):
  folder = tmp_path_factory.mktemp('published')
  for name in ('e2e-dataset', 'e2e-system-outputs', 'dart-v1.1.1'):
    with zipfile.ZipFile(shared_data / f'{name}.zip') as archive:
      archive.extractall(folder)
  return folder


def texts(unpacked, system):
  split = 'devset' if system == 'baseline-output' else 'testset_w_refs'
  (output,) = unpacked.rglob(f'{system}.t[sx][vt]')
  references = scored_texts.read_references([str(unpacked / f'{split}.csv')])
  predictions = scored_texts.read_predictions(str(output))
  return scored_texts.align(predictions, references), references.texts


@pytest.mark.real_data
@pytest.mark.parametrize('system', PUBLISHED)
def test_bleu_and_nist_of_e2e(system, unpacked):
  report = text.score('e2e', *texts(unpacked, system), ['bleu', 'nist', 'nist_pymteval'])
  bleu, nist, *_, nist_pymteval = PUBLISHED[system]
  assert {name: round(value, 4) for name, value in report.scores.items()} == {
    'bleu': bleu,
    'nist': nist,
    'nist_pymteval': nist_pymteval,
  }
  is_dev = system == 'baseline-output'
  assert (report.segments, report.references) == ((547, 4672) if is_dev else (630, 4693))


@needs_java
@pytest.mark.real_data
@pytest.mark.parametrize(
  'system',
  [s if s in QUICK else pytest.param(s, marks=pytest.mark.slow) for s in PUBLISHED],
)
def test_meteor_rouge_and_cider_of_e2e(system, unpacked):
  report = text.score('e2e', *texts(unpacked, system), ['meteor', 'rouge_l', 'cider'])
  found = tuple(round(value, 4) for value in report.scores.values())
  assert (list(report.scores), found) == (
    ['meteor', 'rouge_l', 'cider'],
    PUBLISHED[system][2:5],
  )
  assert not report.unavailable and 'version' in report.versions['java']


def dart(unpacked):
  folder = unpacked / 'system_outputs'
  files = [str(folder / f'all-delex-reference{i}.lex') for i in range(3)]
  references = scored_texts.read_references(files)
  predictions = scored_texts.read_predictions(str(folder / 'bart-large_dart.txt'))
  return scored_texts.align(predictions, references), references.texts


@pytest.mark.real_data
def test_bleu_of_dart(unpacked):
  report = text.score('dart', *dart(unpacked), ['bleu', 'bleu_filled'])
  assert round(100 * report.scores['bleu'], 2) == 48.56
  # As the paper's authors count: a missing reference does not shorten the expected length.
  assert round(100 * report.scores['bleu_filled'], 2) == 47.60
  assert (report.segments, report.references) == (5097, 5097 * 3 - 1476 - 2570)
  assert report.settings['empty_references'] == 1476 + 2570


@needs_java
@pytest.mark.slow
@pytest.mark.real_data
def test_meteor_and_ter_of_dart(unpacked):
  report = text.score('dart', *dart(unpacked), ['meteor', 'ter'])
  assert {name: round(value, 2) for name, value in report.scores.items()} == {
    'meteor': 0.39,
    'ter': 0.45,
  }
