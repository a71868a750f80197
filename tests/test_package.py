"""The wheel and the sdist, installed in a fresh environment and used from an empty folder."""

import subprocess
import tarfile
import venv
import zipfile

import pytest

import lora_jax
from tests import house

OWN_MODEL = """
import flax.linen as nn, jax, jax.numpy as jnp, lora_jax

class Net(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(nn.relu(nn.Dense(8, name='hidden')(x)))

model, x = Net(), jnp.ones((2, 4))
params = model.init(jax.random.key(0), x)['params']
method = lora_jax.lora(rank=2, alpha=2, targets='hidden')
frozen, trainable = method.init(jax.random.key(1), model, params, x)
assert (lora_jax.bind(model.apply, method)(frozen, trainable, x) == model.apply({'params': params}, x)).all()
print(lora_jax.__version__, lora_jax.__file__)
"""  # noqa: E501


class Installed:
  """A fresh virtual environment, and an empty folder to use it from."""

  def __init__(self, folder):
    venv.create(folder / 'venv', with_pip=True)
    self.bin, self.empty = folder / 'venv/bin', folder / 'empty'
    self.empty.mkdir()

  def run(self, *command, ok=True):
    done = subprocess.run(
      [self.bin / command[0], *command[1:]],
      cwd=self.empty,
      env={
        'PATH': f'{self.bin}:/usr/bin:/bin',
        'JAX_PLATFORMS': 'cpu',
        'HOME': str(self.bin.parent),
      },
      capture_output=True,
      text=True,
    )
    assert ok is None or (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout + done.stderr

  def install(self, *packages):
    done = subprocess.run(
      [self.bin / 'python', '-m', 'pip', 'install', '-q', *map(str, packages)],
      capture_output=True,
      text=True,
    )
    if done.returncode:
      pytest.skip(f'needs the package registry: {done.stderr[-300:]}')


@pytest.fixture(scope='module')
def archives(tmp_path_factory):
  """The sdist and, built from it, the wheel of the files that git would commit."""
  folder = tmp_path_factory.mktemp('build')
  tree = folder / 'tree'
  command = ['git', 'ls-files', '-co', '--exclude-standard']
  names = subprocess.run(command, cwd=house.ROOT, capture_output=True, text=True, check=True).stdout
  for name in names.splitlines():
    if (house.ROOT / name).is_file() and not name.startswith('tests/'):
      (tree / name).parent.mkdir(parents=True, exist_ok=True)
      (tree / name).write_bytes((house.ROOT / name).read_bytes())
  builder = Installed(folder)
  builder.install('build')
  builder.run('python', '-m', 'build', '-o', str(folder / 'dist'), str(tree))
  (sdist,) = (folder / 'dist').glob('*.tar.gz')
  (wheel,) = (folder / 'dist').glob('*.whl')
  return sdist, wheel


@pytest.mark.slow
def test_the_wheel_has_one_package_and_all_modules(archives):
  sdist, wheel = archives
  files = set(zipfile.ZipFile(wheel).namelist())
  assert {name.partition('/')[0] for name in files} == {
    'lora_jax', f'lora_jax-{lora_jax.__version__}.dist-info'
  }  # fmt: skip
  own = {path.relative_to(house.ROOT).as_posix() for path in house.sources()}
  inside = {
    f'lora_jax/_commands/{path.relative_to(house.ROOT).as_posix()}'
    for folder in ('configs', 'experiments')
    for path in house.sources(house.ROOT / folder)
  }
  others = {'lora_jax/py.typed', 'lora_jax/_commands/results/runs/baselines.json'}
  found = {name for name in files if name.startswith('lora_jax/')}
  assert found == own | inside | others
  with tarfile.open(sdist) as archive:
    members = {name.partition('/')[2] for name in archive.getnames()}
  assert {'CHANGELOG.md', 'CITATION.cff', 'LICENSE', 'README.md', 'pyproject.toml'} <= members


@pytest.mark.slow
def test_the_core_adapts_a_model_and_the_extras_bring_the_commands(archives, tmp_path):
  installed = Installed(tmp_path)
  installed.install(archives[1])
  said = installed.run('python', '-c', OWN_MODEL)
  assert said.startswith(f'{lora_jax.__version__} {installed.bin.parent}')
  assert 'No module named' in installed.run('python', '-c', 'import experiments', ok=False)
  assert 'Trains one run.' in installed.run('lora-jax', '--help')
  assert "pip install 'lora_jax[train]'" in installed.run('lora-jax', 'train', '--help', ok=False)
  said = installed.run('python', '-c', 'import lora_jax.report', ok=False)
  assert said.endswith("matplotlib, PIL are not installed: pip install 'lora_jax[report]'\n")
  pairs = [(seconds(installed, 'lora_jax'), seconds(installed, 'flax.linen')) for _ in range(5)]
  assert sorted(ours / theirs for ours, theirs in pairs)[2] < 1.5

  installed.install(f'{archives[1]}[train]')
  assert '--workdir' in installed.run('lora-jax', 'train', '--help', ok=None)
  config = '--config=glue:task=mrpc,tiny=true,preset=small'
  for program in (['lora-jax'], ['python', '-m', 'lora_jax']):
    said = installed.run(*program, 'train', config, '--workdir=w', ok=False)
    assert said.splitlines()[-1].endswith('give config.data.tokenizer=FOLDER_OR_ZIP')
  said = installed.run('lora-jax', 'train', '--config=gleu:task=mrpc', '--workdir=w', ok=False)
  assert "no config file 'gleu'. Did you mean 'glue'?" in said
  assert list(installed.empty.iterdir()) == []


def seconds(installed, module):
  code = f'import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)'
  return float(installed.run('python', '-c', code))
