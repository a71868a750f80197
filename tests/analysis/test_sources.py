"""Adapters are told from run directories; runs without checkpoints are refused."""

import json
from pathlib import Path

import pytest

from lora_jax import provenance
from lora_jax.analysis import sources
from lora_jax.train import loop

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


def test_runs_on_two_bases_of_one_name_are_told_apart_by_their_files(make_config, tmp_path):
  loop.train(make_config(**{'train.epochs': 1, 'optim.warmup_ratio': 0.0}), tmp_path)
  assert not sources.read_run(str(tmp_path), 'best').weights  # It is on a fresh base.
  record = provenance.read_record(tmp_path)
  entry = next(iter(record.values()))
  names = ('base/model.safetensors', 'base/config.json', 'tokenizer/vocab.txt')
  (tmp_path / provenance.FILE).write_text(json.dumps(dict.fromkeys(names, entry)))
  one = sources.read_run(str(tmp_path), 'best')
  assert one.weights == {'base/model.safetensors': entry['sha256']}
  sources.check_bases(one, one)
  sources.check_bases(one, one._replace(weights={}))  # As of an adapter.
  other = one._replace(weights={'base/model.safetensors': '0' * 64})
  with pytest.raises(ValueError, match=r'different bases of one name, .*: base/model\.safetensors'):
    sources.check_bases(one, other)
