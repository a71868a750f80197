"""`lora-jax COMMAND` and `python -m lora_jax COMMAND`: the commands of an installed package."""

import sys

import pytest

from lora_jax import __main__, __version__
from tests import house


def said(monkeypatch, capsys, *arguments):
  monkeypatch.setattr(sys, 'argv', ['lora-jax', *arguments])
  __main__.main()
  return capsys.readouterr().out


def test_the_overview_has_a_sentence_for_each_command(monkeypatch, capsys):
  text = said(monkeypatch, capsys)
  found = __main__.commands(house.ROOT)
  assert {'train', 'sweep', 'report'} <= found.keys() and '_cli' not in found
  assert found['train'] == 'Trains one run.'
  assert all(f'  {name} ' in text and meaning in text for name, meaning in found.items())
  assert said(monkeypatch, capsys, '--help') == text
  assert said(monkeypatch, capsys, '--version') == f'lora_jax {__version__}\n'


def test_a_wrong_command_is_answered_with_the_nearest(monkeypatch, capsys):
  with pytest.raises(SystemExit) as stopped:
    said(monkeypatch, capsys, 'trian')
  assert stopped.value.code == 2
  assert capsys.readouterr().err.startswith("error: no command 'trian'. Did you mean 'train'?")


@pytest.fixture
def planted(tmp_path, monkeypatch):
  """A folder of commands as a wheel has it."""
  folder = tmp_path / '_commands'
  (folder / 'experiments').mkdir(parents=True)
  monkeypatch.setattr(__main__, 'INSTALLED', folder)
  monkeypatch.setattr(sys, 'path', [*sys.path])
  monkeypatch.delenv('PYTHONPATH', raising=False)
  return folder


def test_a_command_is_the_main_module_with_its_flags(planted, monkeypatch, capsys):
  (planted / 'experiments/say.py').write_text('"""Says it: `x`."""')
  code = 'import os, sys; print(__name__, sys.argv[1:], os.environ["PYTHONPATH"], sys.path[0])'
  monkeypatch.setattr(
    __main__.runpy, 'run_module', lambda name, **_: exec(code, {'__name__': name})
  )
  assert said(monkeypatch, capsys, 'say', '--a=1').split() == [
    'experiments.say', "['--a=1']", str(planted), str(planted)
  ]  # fmt: skip


def test_a_missing_extra_ends_a_command_in_one_line(planted, monkeypatch, capsys):
  (planted / 'experiments/say.py').write_text('"""Says it."""')

  def fail(*args, **kwargs):
    raise __main__.MissingExtra("tqdm is not installed: pip install 'lora_jax[train]'")

  monkeypatch.setattr(__main__.runpy, 'run_module', fail)
  with pytest.raises(SystemExit) as stopped:
    said(monkeypatch, capsys, 'say')
  assert stopped.value.code == 1
  assert capsys.readouterr().err == "error: tqdm is not installed: pip install 'lora_jax[train]'\n"
