"""PEFT's tensor files: names inside the wrapped model, and a note that is damaged."""

import json
import shutil

import numpy as np
import pytest
from safetensors import numpy as writer

from lora_jax.adapters import peft, peft_file
from lora_jax.pretrained import safetensors
from tests.adapters.toys import ADAPTERS, config_of, export_of


def test_names_are_those_inside_the_wrapped_model():
  tensors, note = peft_file.read(ADAPTERS / 'peft.bert.biases')
  assert note is None
  assert 'bert.encoder.layer.1.output.dense.bias' in tensors  # Of its base_layer.
  parts = ('base_model.', 'base_layer', 'original_module', 'modules_to_save')
  assert not [name for name in tensors if any(part in name for part in parts)]


@pytest.mark.parametrize('change', [{'ranks': {'x': 0}}, {'more': 1}, {'method': {'name': 'none'}}])
def test_a_damaged_note_is_named(change, tmp_path):
  peft.write(export_of('bert.plain'), tmp_path)
  path = tmp_path / peft_file.TENSORS
  stored = safetensors.Tensors(path)
  note = json.loads(stored.metadata[peft_file.NOTE]) | change
  tensors = {name: np.array(x) for name, x in stored.items()}
  writer.save_file(tensors, path, metadata={peft_file.NOTE: json.dumps(note)})
  with pytest.raises(ValueError, match=rf"{peft_file.TENSORS}: lora_jax's note in the header is"):
    peft_file.read(tmp_path)


def copied(tmp_path):
  return shutil.copytree(ADAPTERS / 'peft.bert.patterns', tmp_path / 'copy')


def rewrite(folder, change):
  """Writes the tensors that `change(name, tensor)` gives, by name."""
  stored = safetensors.Tensors(folder / peft_file.TENSORS)
  tensors = dict(change(name, np.array(x)) for name, x in stored.items())
  writer.save_file(tensors, folder / peft_file.TENSORS)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('end', ['value.lora_B.weight', 'classifier.bias', 'embedding_A'])
def test_a_number_that_is_none_is_named(value, end, tmp_path):
  folder = copied(tmp_path)

  def poison(name, x):
    if name.endswith(end):
      x.flat[-1] = value
    return name, x

  rewrite(folder, poison)
  with pytest.raises(ValueError, match=f'{peft_file.TENSORS}: NaN or infinity in .*{end}'):
    peft.read(folder, config_of('bert'))


def test_tensors_of_whole_numbers_are_refused(tmp_path):
  folder = copied(tmp_path)
  rewrite(folder, lambda name, x: (name, x.astype(np.int8) if 'lora_B' in name else x))
  with pytest.raises(ValueError, match=r'expected floating-point tensors, but .*lora_B.* is int8'):
    peft.read(folder, config_of('bert'))


@pytest.mark.parametrize('adapter', ['default', 'mine'])
def test_a_state_dict_of_pytorch_is_named_as_such(adapter, tmp_path):
  folder = copied(tmp_path)

  def runtime(name, x):
    if 'lora_embedding' in name:
      return f'{name}.{adapter}', x
    return name.replace('.weight', f'.{adapter}.weight') if 'lora_' in name else name, x

  rewrite(folder, runtime)
  with pytest.raises(ValueError, match=rf'\.{adapter}.* state dict of PyTorch.*save_pretrained'):
    peft.read(folder, config_of('bert'))
