"""Merged models as Hugging Face folders: read back the same, and with their config (transformers
computes the same with them: make_adapters.py check)."""

import json

import jax
import ml_dtypes
import numpy as np
import pytest

from lora_jax import tree
from lora_jax.pretrained import huggingface, load_model, safetensors
from tests.adapters import toys
from tests.adapters.toys import GOLDEN, make

TASKS = {
  'bert': 'classification',
  'bert-regression': 'regression',
  'roberta': 'classification',
  'deberta-v2': 'classification',
  'deberta-v2-regression': 'regression',
  'gpt2': 'lm',
  'llama-biased': 'lm',
}


def same(found, expected):
  found, expected = tree.flatten(found), tree.flatten(expected)
  assert found.keys() == expected.keys()
  for path in expected:
    assert found[path].dtype == expected[path].dtype
    np.testing.assert_array_equal(found[path], expected[path], err_msg=path)


@pytest.mark.parametrize('case', TASKS)
@pytest.mark.parametrize('scan', [False, True])
def test_saved_is_loaded(case, scan, tmp_path):
  model, params = load_model(GOLDEN / 'models' / case, task=TASKS[case], scan=scan)
  tokenizer = tmp_path / 'vocab.txt'
  tokenizer.write_text('a\nb\n')
  huggingface.save_model(tmp_path / 'out', model, params, tokenizer_files=[tokenizer])
  again, found = load_model(tmp_path / 'out', task=TASKS[case], scan=scan)
  same(found, params)
  assert again.config == model.config
  names = ['config.json', 'model.safetensors', 'vocab.txt']
  assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == names
  # By the names that transformers gave them.
  original = safetensors.read(GOLDEN / 'models' / case)
  written = safetensors.read(tmp_path / 'out')
  assert written.keys() == original.keys()
  for name, x in original.items():
    np.testing.assert_array_equal(written[name], x, err_msg=name)
  # Every key that both have, and that transformers needs, says the same.
  golden = json.loads((GOLDEN / 'models' / case / 'config.json').read_text())
  saved = json.loads((tmp_path / 'out' / 'config.json').read_text())
  both = saved.keys() & golden.keys()
  assert {'architectures', 'model_type', 'vocab_size'} <= both
  both -= {'bos_token_id', 'eos_token_id', 'transformers_version'}
  assert {key: saved[key] for key in both} == {key: golden[key] for key in both}
  labels = None if TASKS[case] == 'lm' else len(saved['id2label'])
  assert labels == getattr(model, 'num_labels', None)


def test_a_merged_adapter_is_a_model(tmp_path):
  adapter = make('bert', targets=r'.*/(query|value)')
  model, method, frozen = toys.parts_of(adapter)
  merged = method.merge(frozen, adapter.trainable)
  huggingface.save_model(tmp_path, model, merged)
  same(load_model(tmp_path, task='classification')[1], jax.tree.map(np.asarray, merged))
  with pytest.raises(ValueError, match=r'unexpected .*query/lora_a.*method.merge'):
    huggingface.save_model(tmp_path / 'x', model, tree.join(frozen, adapter.trainable))
  del merged['classifier']['bias']
  with pytest.raises(ValueError, match='missing classifier/bias'):
    huggingface.save_model(tmp_path / 'x', model, merged)
  with pytest.raises(FileNotFoundError, match=r'tokenizer files that do not exist: .*vocab'):
    huggingface.save_model(tmp_path / 'x', model, merged, tokenizer_files=[tmp_path / 'vocab.txt'])
  assert not (tmp_path / 'x').exists()


def test_low_precision_stays(tmp_path):
  model, params = load_model(GOLDEN / 'models/gpt2', task='lm', param_dtype='bfloat16')
  huggingface.save_model(tmp_path, model, params)
  same(load_model(tmp_path, task='lm', param_dtype='bfloat16')[1], params)
  assert json.loads((tmp_path / 'config.json').read_text())['torch_dtype'] == 'bfloat16'
  assert safetensors.read(tmp_path)['transformer.wte.weight'].dtype == ml_dtypes.bfloat16
