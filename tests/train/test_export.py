"""Export: a run in every format, every format in every other, and the command's mistakes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from lora_jax import tree
from lora_jax.adapters import adapter as adapters
from lora_jax.adapters import formats, peft
from lora_jax.data import load_tokenizer
from lora_jax.models import presets
from lora_jax.pretrained import huggingface
from lora_jax.train import checkpoints, export, job, warm_start, writers
from lora_jax.train.step import init_state
from tests.adapters import toys

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / 'results/runs/mrpc-all-MiniLM-L6-v2-lora-seed0.json'
CONFIG = presets.architecture(
  'bert', vocab_size=17, hidden_size=8, num_layers=2, num_heads=2, max_positions=32
)


def drawn(shapes, seed):
  draw = np.random.default_rng(seed).standard_normal
  return jax.tree.map(lambda x: 0.2 * draw(x.shape).astype(np.float32), shapes)


def save_base(path, vocabulary, seed):
  """A model's folder, drawn without compiling anything."""
  model = huggingface.make_model(CONFIG, task='classification', num_labels=2)
  shapes = jax.eval_shape(model.init, jax.random.key(0), presets.TOKENS)['params']
  huggingface.save_model(path, model, drawn(shapes, seed))
  shutil.copy(vocabulary, path)
  return path


@pytest.fixture(scope='module')
def base(folder, tmp_path_factory):
  return save_base(tmp_path_factory.mktemp('model') / 'base', folder / 'vocab' / 'vocab.txt', 0)


@pytest.fixture(scope='module')
def make_run(base, make_config, tmp_path_factory):
  """A run directory as training leaves it: config, checkpoint, result."""

  def make(method='lora', **overrides):
    workdir = tmp_path_factory.mktemp('runs') / 'run'
    paths = {'model.name': str(base), 'model.scan': True, 'data.tokenizer': ''}
    config = make_config(method, **paths, **overrides)
    work = job.load(config)
    workdir.mkdir()
    writers.write_json(workdir / 'config.json', json.loads(config.to_json_best_effort()))
    saved = checkpoints.Checkpoints(workdir)
    optimizer = optax.sgd(1.0)
    for step, score in ((1, 0.9), (2, 0.1)):  # The first is the best, the second the last.
      now = init_state(drawn(work.trainable, step), optimizer, 0)
      saved.save(now._replace(step=jax.numpy.int32(step)), {}, score)
    saved.close()
    return workdir

  return make


@pytest.fixture(scope='module')
def run(make_run):
  workdir = make_run()
  shutil.copy(RESULT, workdir / 'result.json')
  return workdir


@pytest.fixture(scope='module')
def exported(run, tmp_path_factory):
  """The run in each format."""
  root = tmp_path_factory.mktemp('exported')
  for name in export.FORMATS:
    export.export_run(run, root / name, format=name)
  export.export_run(run, root / 'last', which='last')
  return root


def same(found, expected):
  found, expected = tree.flatten(found), tree.flatten(expected)
  assert found.keys() == expected.keys()
  for path in expected:
    np.testing.assert_array_equal(found[path], expected[path], err_msg=path)


def test_a_run_is_written_in_every_format(exported):
  files = {path.name: {file.name for file in path.iterdir()} for path in exported.iterdir()}
  assert files == {
    'adapter': {'adapter.json', 'adapter.safetensors', 'README.md'},
    'last': {'adapter.json', 'adapter.safetensors', 'README.md'},
    'peft': {'adapter_config.json', 'adapter_model.safetensors', 'config.json', 'README.md'},
    'loralib': {'lora.bin', 'README.md'},
    'merged': {'config.json', 'model.safetensors', 'vocab.txt', 'README.md'},
  }
  best, last = (formats.load_adapter(exported / name) for name in ('adapter', 'last'))
  path = 'encoder/layers_1/attention/query/lora_b'
  assert not np.array_equal(tree.flatten(best.trainable)[path], tree.flatten(last.trainable)[path])
  assert 'This is the last checkpoint' in (exported / 'last' / 'README.md').read_text()
  said = {'adapter': 'load_adapter(', 'peft': 'PeftModel', 'loralib': '--alpha=16.0'}
  for name, words in said.items():
    assert words in (exported / name / 'README.md').read_text()


def test_the_merged_model_is_the_base_with_the_adapter(exported, base):
  model, params = huggingface.load_model(base, task='classification')
  found = formats.load_adapter(exported / 'adapter')
  method, frozen, trainable = adapters.attach(found, model, params)
  same(
    huggingface.load_model(exported / 'merged', task='classification')[1],
    method.merge(frozen, trainable),
  )


PAIRS = [('adapter', name) for name in export.FORMATS]  # From one, and to it: the rest follows.
PAIRS += [('peft', 'adapter'), ('loralib', 'adapter'), ('peft', 'loralib')]


@pytest.mark.parametrize('first, second', PAIRS)
def test_a_format_becomes_another(first, second, exported, base, tmp_path):
  alpha = {'loralib': 16.0}
  report = export.export_adapter(
    exported / first, tmp_path / 'out', format=second, base=str(base), alpha=alpha.get(first)
  )
  assert report['files'] == sorted(path.name for path in (tmp_path / 'out').iterdir())
  if second == 'merged':
    found, expected = (
      huggingface.load_model(path, task='classification')[1]
      for path in (tmp_path / 'out', exported / 'merged')
    )
    return same(found, expected)
  expected = formats.load_adapter(exported / 'adapter')
  found = formats.load_adapter(tmp_path / 'out', config=CONFIG, alpha=alpha.get(second))
  same(found.trainable, expected.trainable)
  assert (found.task, found.num_labels) == ('classification', 2)
  assert (found.method['rank'], found.method['alpha']) == (8, 16.0)
  if second != 'loralib':
    assert found.fingerprint == expected.fingerprint


@pytest.mark.parametrize('kind', ['peft', 'loralib'])
def test_warm_start_takes_other_tools_files(kind, exported, make_config, base, tmp_path):
  paths = {'model.name': str(base), 'model.scan': False, 'data.tokenizer': ''}
  work = job.load(make_config(**paths))
  source = exported / kind
  if kind == 'loralib':  # Its scale is known by its name.
    source = tmp_path / 'roberta_base_lora_sst2.bin'
    shutil.copy(exported / kind / 'lora.bin', source)
    _, dropped = warm_start.warm_start(work, source)  # It names no classes.
    assert {path.split('/')[0] for path in dropped} == {'classifier'}
    work = work._replace(config=make_config(**paths, **{'model.head': 'keep'}))
  started, dropped = warm_start.warm_start(work, source)
  assert not dropped
  same(started, formats.load_adapter(exported / 'adapter').trainable)
  other = work._replace(config=make_config(**paths, **{'method.alpha': 8.0}))
  with pytest.raises(ValueError, match=r'alpha: 16\.0 in the source, 8\.0 in this config'):
    warm_start.warm_start(other, source)


def test_what_a_format_cannot_hold_is_an_error_and_leaves_nothing(make_run, tmp_path):
  workdir = make_run('adapter_h')
  for name, words in (('peft', 'LoRA only'), ('loralib', 'LoRA only'), ('merged', 'nonlinearity')):
    with pytest.raises(ValueError, match=words):
      export.export_run(workdir, tmp_path / 'out', format=name)
  export.export_run(workdir, tmp_path / 'adapter')
  assert not (tmp_path / 'adapter' / 'README.md').exists(), 'the run has not ended'
  with pytest.raises(FileExistsError):
    export.export_run(workdir, tmp_path / 'adapter')
  with pytest.raises(ValueError, match=r"unknown format 'perft'. Did you mean 'peft'"):
    export.export_run(workdir, tmp_path / 'out', format='perft')
  assert [path.name for path in tmp_path.iterdir()] == ['adapter']


@pytest.mark.parametrize('write', [export.export_run, export.export_adapter])
def test_a_dtype_is_that_of_a_merged_model(write, tmp_path):
  with pytest.raises(ValueError, match=r"dtype=bfloat16 .* format=peft: .* format='merged'"):
    write(tmp_path / 'nowhere', tmp_path / 'out', format='peft', dtype='bfloat16')


def test_the_nearest_plain_lora_of_any_run_is_written_with_its_error(
  make_run, base, tmp_path, caplog
):
  workdir = make_run(**{'method.dora': True, 'method.rank': 2})
  shutil.copy(RESULT, workdir / 'result.json')
  plain = export.export_run(workdir, tmp_path / 'plain', format='peft', rank=3)
  assert [line for line in plain['warnings'] if 'DoRA' in line] == []
  assert 'a plain LoRA of rank 3 misses 0.' in caplog.text
  assert 'It misses 0.' in (tmp_path / 'plain' / 'README.md').read_text()
  method = formats.load_adapter(tmp_path / 'plain').method
  assert (method['rank'], method['dora']) == (3, False)
  # DoRA moves all columns of a matrix of 8 x 8.
  error = plain['lora_error']
  assert 0 < error['overall'] < error['worst'] < 1
  assert error['worst_matrix'].startswith('encoder/layers_')
  export.export_run(workdir, tmp_path / 'dora')
  again = export.export_adapter(
    tmp_path / 'dora', tmp_path / 'exact', base=str(base), format='peft', rank=8
  )
  assert again['lora_error']['overall'] < 1e-6


def test_a_card_has_the_alpha_of_its_file(make_run, tmp_path):
  """The update of PiSSA has twice the rank, and so twice the alpha."""
  workdir = make_run(**{'method.init': 'pissa'})
  shutil.copy(RESULT, workdir / 'result.json')
  report = export.export_run(workdir, tmp_path / 'out', format='loralib')
  assert report['alpha'] == 32.0
  assert '--alpha=32.0' in (tmp_path / 'out' / 'README.md').read_text()


def test_what_a_method_only_keeps_is_not_counted(make_run, tmp_path):
  counts = {
    changes: export.export_run(
      make_run(**dict([changes])), tmp_path / changes[0], format='adapter'
    )['parameters']
    for changes in (('method.train_a', False), ('method.init', 'pissa'), ('method.bias', 'none'))
  }
  fa, pissa, plain = counts.values()
  factors = 2 * 2 * 2 * 8 * 8  # a and b of query and value in two layers, of rank 8.
  assert (plain - fa, pissa) == (factors // 2, plain)


def test_another_base_is_refused(exported, folder, tmp_path):
  other = save_base(tmp_path / 'other', folder / 'vocab' / 'vocab.txt', 1)
  write = lambda **how: export.export_adapter(
    exported / 'adapter', tmp_path / 'out', base=str(other), format='merged', **how
  )
  with pytest.raises(ValueError, match=r'not the base.*values of 2. of its 2. parameters'):
    write()
  write(other_base=True)


@pytest.mark.parametrize('damage', ['is cut', 'is of nothing', 'is of an older version'])
def test_a_damaged_result_is_named_before_a_model_is_loaded(damage, tmp_path):
  whole = json.loads(RESULT.read_text())
  older = {key: value for key, value in whole.items() if key != 'cpu'}
  text, words = {
    'is cut': (RESULT.read_text()[:500], 'not valid JSON'),
    'is of nothing': ('{}', "expected 'metric' to be a str"),
    'is of an older version': (json.dumps(older), 'has no cpu'),
  }[damage]
  (tmp_path / 'result.json').write_text(text)
  with pytest.raises(ValueError, match=rf'{tmp_path}/result\.json.*{words}.*Remove the file'):
    export.export_run(tmp_path, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


MISTAKES = {
  'nothing': ((), ['--workdir=RUN', '--adapter=']),
  'both': (('--workdir=a', '--adapter=b'), ['one of']),
  'flags of the other': (('--workdir=a', '--alpha=2', '--base=x'), ['only with --adapter: --base']),
  'no run': (('--workdir=nowhere',), ['nowhere is not a run directory']),
  'no adapter': (('--adapter=nowhere',), ['nowhere: there is no such folder']),
  'a run as adapter': (('--adapter=RUN',), ['is a run directory', '--workdir=']),
  'a run as base': (('--adapter=ADAPTER', '--base=RUN'), ['--format=merged']),
  'no base': (('--adapter=LORALIB',), ['--base']),
  'no base to merge': (('--adapter=ADAPTER', '--format=merged'), ['--base']),
  'no alpha': (('--adapter=LORALIB', '--base=BASE'), ['no scale', 'alpha']),
  'an alpha too much': (('--adapter=ADAPTER', '--alpha=2'), ['stores its scale']),
  'a base misspelt': (('--adapter=ADAPTER', '--base=roberta-bas'), ["Did you mean 'roberta-base'"]),
  'a truncated file': (('--adapter=CUT',), ['truncated', 'adapter.safetensors']),
  'a model': (('--adapter=BASE',), ['is not an adapter', 'model.safetensors']),
  'a file of it': (('--adapter=ADAPTER/adapter.json',), ['Name its folder']),
  'a repository': (('--workdir=RUN', '--push=me'), ['expected user/name']),
  'no network': (('--adapter=hub:nobody/nothing',), ['could not be fetched', 'network']),
  'a rank alone': (('--workdir=RUN', '--rank=8'), ['--as_lora and --rank go together']),
  'a rank below 0': (('--workdir=RUN', '--rank=-8'), ['--rank=-8']),
  'no rank': (('--workdir=RUN', '--as_lora'), ['--as_lora --rank=8', 'rank=0']),
  'a format': (('--workdir=RUN', '--format=perft'), ['adapter|peft|loralib|merged']),
}


@pytest.mark.slow
@pytest.mark.parametrize('case', MISTAKES)
def test_a_mistake_of_the_command_is_one_message(case, exported, run, base, tmp_path):
  given, words = MISTAKES[case]
  cut = tmp_path / 'cut'
  shutil.copytree(exported / 'adapter', cut)
  (cut / 'adapter.safetensors').write_bytes((cut / 'adapter.safetensors').read_bytes()[:-10])
  places = dict(RUN=run, BASE=base, CUT=cut, ADAPTER=exported / 'adapter')
  places['LORALIB'] = exported / 'loralib'
  arguments = [*given, f'--out={tmp_path / "out"}']
  for name, path in places.items():
    arguments = [argument.replace(f'={name}', f'={path}') for argument in arguments]
  command = [sys.executable, '-m', 'experiments.export', *arguments]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode in (1, 2)
  assert all(word in done.stderr for word in words), done.stderr
  assert 'Traceback' not in done.stderr
  assert not (tmp_path / 'out').exists()


def test_the_command_prints_what_it_wrote(exported, tmp_path):
  command = [sys.executable, '-m', 'experiments.export', '--format=loralib']
  arguments = [f'--adapter={exported / "peft"}', f'--out={tmp_path / "out"}']
  done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  report = json.loads(done.stdout)
  assert (report['alpha'], report['files']) == (16.0, ['lora.bin'])


def test_a_merged_llama_says_where_texts_end(tmp_path):
  """By default transformers ends a Llama's at token 2, and pads a classifier's rows with none."""
  adapter = toys.make('llama-classifier')
  model, params = toys.model_of('llama-classifier')
  base = export.LoadedBase(model, params, ROOT / 'tests/golden/tokens/gpt2')
  end = load_tokenizer(base.tokenizer).eos_id
  export._write_merged(tmp_path, adapter, base, '', tmp_path)
  values = json.loads((tmp_path / 'config.json').read_text())
  assert (values['eos_token_id'], values['pad_token_id']) == (end, end)
  assert values['model_type'] == 'llama'


def test_a_classifier_is_exported_on_the_language_model_that_it_was_trained_on(tmp_path):
  """PEFT's SEQ_CLS: the folder of the base has no head, the adapter brings it."""
  adapter = toys.make('llama-classifier')
  base = ROOT / 'tests/golden/models/llama'
  peft.write(adapter._replace(config=huggingface.read_config(base)), tmp_path / 'peft')
  export.export_adapter(tmp_path / 'peft', tmp_path / 'out', base=str(base), format='adapter')
  assert formats.load_adapter(tmp_path / 'out').num_labels == 3


def test_exports_name_the_classes(exported):
  for name in ('merged', 'peft'):
    values = json.loads((exported / name / 'config.json').read_text())
    assert values['id2label'] == {'0': 'negative', '1': 'positive'}, name
    assert (values['num_labels'], values['label2id']) == (2, {'negative': 0, 'positive': 1})
  for name in ('adapter', 'peft'):
    assert formats.load_adapter(exported / name).label_names == ('negative', 'positive')
