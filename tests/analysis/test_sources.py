"""Adapters are told from run directories; runs without checkpoints are refused."""

import json
from pathlib import Path

import pytest

from lora_jax.analysis import sources

GOLDEN = Path(__file__).resolve().parents[1] / 'golden'
LORALIB = str(GOLDEN / 'adapters' / 'loralib.roberta' / 'adapter.bin')


def test_adapters_are_files_names_on_the_hub_and_folders_with_a_description(tmp_path):
  assert sources.is_adapter(LORALIB) and sources.is_adapter('hub:user/name')
  assert not sources.is_adapter(str(tmp_path)) and not sources.is_adapter('gs://bucket/run')
  (tmp_path / 'adapter_config.json').write_text('{}')
  assert sources.is_adapter(str(tmp_path))


def test_an_adapter_needs_the_architecture_of_its_base_alone():
  found = sources.read_adapter(LORALIB, str(GOLDEN / 'models/roberta'), alpha=6.0)
  assert found.facts['run'] == 'adapter.bin' and found.facts['trained'] == ['query', 'value']
  assert {update.rank for update in found.updates} == set(found.facts['ranks'])


def test_a_run_without_checkpoints_is_refused(tmp_path):
  config = {'task': 'rte', 'method': {'name': 'lora'}, 'model': {'name': 'x'}}
  (tmp_path / 'config.json').write_text(json.dumps(config))
  with pytest.raises(ValueError, match=r'has no checkpoints\. Train it first'):
    sources.read_run(str(tmp_path), 'best')
