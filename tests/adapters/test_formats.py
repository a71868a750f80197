"""Adapters in any format are read by the files that are there."""

import shutil

import numpy as np
import pytest

from lora_jax.adapters import formats, hub, peft
from lora_jax.adapters.native import save_adapter
from lora_jax.pretrained import pytorch_writer
from tests.adapters import toys
from tests.adapters.toys import ADAPTERS, config_of, export_of


@pytest.fixture
def saved(tmp_path):
  """One adapter in this project's format and PEFT's."""
  adapter = export_of('bert.plain')
  save_adapter(tmp_path / 'native', adapter)
  peft.write(adapter, tmp_path / 'peft')
  return tmp_path


def test_each_format_is_recognized(saved, monkeypatch):
  monkeypatch.setattr(hub, 'pull', lambda name, revision: saved / name.split('/')[1])
  for source in (saved / 'native', str(saved / 'peft'), 'hub:me/native', 'hub:me/peft@main'):
    toys.same(formats.load_adapter(source), export_of('bert.plain'))
  model, params = toys.model_of('bert')
  found = formats.load_adapter(saved / 'peft', model=model, params=params)
  toys.same(found, export_of('bert.plain'))
  path, config = ADAPTERS / 'loralib.roberta' / 'adapter.bin', config_of('roberta')
  found = formats.load_adapter(path, config=config, alpha=6)
  folder = saved / 'loralib'
  folder.mkdir()
  shutil.copy(path, folder)
  toys.same(formats.load_adapter(folder, config=config, alpha=6), found)


def test_what_is_none_of_them_is_named(saved):
  with pytest.raises(FileNotFoundError, match='no such folder or file'):
    formats.load_adapter(saved / 'nowhere')
  with pytest.raises(ValueError, match=r'alpha=2 is for loralib files'):
    formats.load_adapter(saved / 'native', alpha=2)
  with pytest.raises(ValueError, match=r'loralib file ends in .bin.*Name its folder instead'):
    formats.load_adapter(saved / 'native' / 'adapter.json')
  with pytest.raises(ValueError, match=r'is not an adapter: .*It holds: native, peft'):
    formats.load_adapter(saved)
  (saved / 'checkpoints').mkdir()
  with pytest.raises(ValueError, match=r'is a run directory, not an adapter \(--workdir='):
    formats.load_adapter(saved)
  pytorch_writer.write(saved / 'x.bin', {'x': np.zeros(1)})
  with pytest.raises(
    ValueError, match=r'does not store its base: name the base \(load_adapter.*--base'
  ):
    formats.load_adapter(saved / 'x.bin')
