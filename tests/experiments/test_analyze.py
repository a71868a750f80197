"""The command on run directories whose adapters are known: what it writes, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import optax
import pytest

from configs import demo
from lora_jax.data import synthetic
from lora_jax.report import analysis_figures as figures
from lora_jax.train import checkpoints
from lora_jax.train.step import init_state

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / 'tests' / 'golden'
LORALIB = str(GOLDEN / 'adapters' / 'loralib.roberta' / 'adapter.bin')
# All calls in one process: importing JAX costs more than all of them.
DRIVER = """
import json, sys
from absl import flags
from experiments import analyze
done = []
for argv in json.loads(sys.argv[1]):
  flags.FLAGS.unparse_flags()
  for name in ('runs', 'out', 'layers', 'matrices', 'of', 'base', 'other_base', 'weights', 'alpha'):
    flags.FLAGS[name].unparse()
  try:
    flags.FLAGS(['analyze', *argv])
    analyze.main()
    done.append('')
  except (ValueError, OSError) as error:
    done.append(f'{error}')
print('done', json.dumps(done))
"""


def factors(rank, width, scanned=False):
  """Random factors of query and value in two layers of a GPT-2."""
  random = np.random.default_rng(rank)
  stack = (2,) if scanned else ()
  draw = lambda *shape: random.standard_normal((*stack, *shape)).astype(np.float32)
  layer = lambda: {
    'attention': {
      name: {'lora_a': draw(width, rank), 'lora_b': draw(rank, width)}
      for name in ('query', 'value')
    }
  }
  names = ['layers'] if scanned else ['layers_0', 'layers_1']
  return {'decoder': {name: layer() for name in names}}


LORA = dict(name='lora', alpha=3.0, targets=['.*/(query|value)'])
CASES = {  # Width, whether scanned, method, what was trained.
  'r2': (16, False, LORA | {'rank': 2}, factors(2, 16)),
  'rank=4,seed=0': (16, True, LORA | {'rank': 4}, factors(4, 16, scanned=True)),
  'wide': (24, False, LORA | {'rank': 2}, factors(2, 24)),
  'bitfit': (16, False, {'name': 'bitfit'}, {'final_norm': {'bias': np.ones(16, np.float32)}}),
}


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """Run directories of `CASES`, and one that was never trained."""
  folder = tmp_path_factory.mktemp('runs')
  synthetic.train_tokenizer(300).save(folder / 'tokenizer')
  for name, (width, scanned, method, trainable) in CASES.items():
    config = demo.get_config(f'tokenizer={folder}/tokenizer')
    with config.unlocked():
      config.task, config.data.limit, config.method = 'synthetic/recipes', 8, method
      config.model.scan = scanned
      sizes = dict(vocab_size=300, hidden_size=width, intermediate_size=32)
      config.model.fresh.update(**sizes, num_layers=2, num_heads=2)
    (folder / name).mkdir()
    (folder / name / 'config.json').write_text(config.to_json_best_effort())
    saved = checkpoints.Checkpoints(folder / name)
    saved.save(init_state(trainable, optax.sgd(0.1), 0), {}, score=1.0)
    saved.close()
  (folder / 'untrained').mkdir()
  (folder / 'untrained' / 'config.json').write_text((folder / 'r2' / 'config.json').read_text())
  return folder


@pytest.fixture(scope='module')
def done(runs):
  """What each call said, by name, '' for success."""
  calls = {
    'one': ['r2'],
    'without base': ['r2', '--noweights', '--matrices=query'],
    'two': ['rank=4,seed=0', 'r2'],
    'b': ['rank=4,seed=0', 'r2', '--of=b', '--layers=1'],
    'layer': ['r2', 'rank=4,seed=0', '--layers=1,7'],
    'no number': ['r2', '--layers=last'],
    'matrix': ['r2', '--matrices=querry', '--noweights'],
    'no factors': ['bitfit'],
    'bases': ['r2', 'wide'],
    'bases all the same': ['r2', 'wide', '--other_base'],
    'three': ['r2', 'rank=4,seed=0', 'wide'],
    'bucket': ['r2', '--out=gs://bucket/figures'],
    'untrained': ['untrained'],
    'no run': ['nowhere'],
    'adapter': [LORALIB, f'--base={GOLDEN / "models/roberta"}', '--alpha=6'],
    'adapter alone': [LORALIB],
  }
  argvs = []
  for name, words in calls.items():
    paths = [f'--runs={runs / word}' for word in words if not word.startswith('--')]
    options = [word for word in words if word.startswith('--')]
    argvs.append([*paths, f'--out={runs / "out" / name}', *options])
  command = [sys.executable, '-c', DRIVER, json.dumps(argvs)]
  ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert ran.returncode == 0, ran.stderr[-3000:]
  return dict(zip(calls, json.loads(ran.stdout.rpartition('done ')[2])))


def report(runs, name):
  return json.loads((runs / 'out' / name / 'analysis.json').read_text())


@pytest.mark.parametrize(
  'name, pictures',
  [
    ('one', ['figure8', 'layers', 'spectra']),
    ('without base', ['layers', 'spectra']),
    ('two', ['figure3', 'figure6']),
    ('b', ['figure3', 'figure6']),
    ('adapter', ['layers', 'spectra']),
  ],
)
def test_numbers_and_pictures(runs, done, name, pictures):
  assert done[name] == ''
  drawn = (runs / 'out' / name).glob('*.png')
  assert sorted(path.stem for path in drawn) == pictures
  assert all(len(path.read_bytes()) > 5000 for path in (runs / 'out' / name).glob('*.png'))


def test_one_run_says_what_it_is(runs, done):
  found = report(runs, 'one')
  assert (found['experiment'], found['kind']) == ('analysis', 'single')
  (run,) = found['runs']
  assert (run['run'], run['ranks'], run['seed']) == ('r2', [2], 0)
  scale = run['method']['alpha'] / 2
  assert run['scales'] == [scale]
  rows = found['measured']['table7']
  assert {row['scale'] for row in rows} == {scale}
  assert {(row['layer'], row['matrix']) for row in rows} == {
    (layer, matrix) for layer in (0, 1) for matrix in ('query', 'value')
  }
  for row in rows:
    assert row['amplification'] == pytest.approx(row['update'] / row['on_update'], rel=1e-4)
    assert row['on_update'] < row['on_weight'] < row['weight']
  table = (runs / 'out' / 'one' / 'table7.md').read_text()
  assert len([line for line in table.splitlines() if line.startswith('|')]) == 2 + 4


def test_two_runs_are_compared_smaller_rank_first_scanned_or_not(runs, done):
  found = report(runs, 'two')
  assert [run['ranks'] for run in found['runs']] == [[2], [4]]
  assert [entry['ranks'] for entry in found['measured']['maps']] == [[2, 4]] * 4
  assert found['measured']['control'][0]['ranks'] == [2, 4]
  phi = np.array(found['measured']['maps'][0]['phi'])
  assert phi.shape == (2, 4)
  assert 0 <= phi.min() <= phi.max() <= 1


@pytest.mark.parametrize(
  'name, words',
  [
    ('layer', ['layers [7]', '0, 1']),
    ('no number', ["'last'"]),
    ('matrix', ["'querry'", 'query']),
    ('no factors', ['bitfit', 'lora_a']),
    ('bases', ['different bases', '--other_base']),
    ('bases all the same', ['different bases', '(16, 16)', '(24, 24)']),
    ('three', ['one or two', '3']),
    ('bucket', ['gs://bucket/figures', 'local folder']),
    ('untrained', ['no checkpoints', 'experiments.train']),
    ('adapter alone', ['adapter.bin', 'or --base']),
    ('no run', ['is not a run directory']),
  ],
)
def test_mistakes_are_named(runs, done, name, words):
  assert all(word in done[name] for word in words), done[name]
  assert not (runs / 'out' / name).exists()


def test_pictures_are_drawn_from_the_json_alone(runs, done, tmp_path):
  assert [path.name for path in figures.draw(report(runs, 'two'), tmp_path)] == [
    'figure3.png',
    'figure6.png',
  ]
  with pytest.raises(ValueError, match=r'analysis\.json'):
    figures.draw({'experiment': 'glue'}, tmp_path)
