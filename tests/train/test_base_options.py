"""What a config says of its base is read, or refused by the field's name."""

import json

import jax.numpy as jnp
import pytest

from lora_jax import quantization, tree
from lora_jax.cost import memory, shapes
from lora_jax.data import tasks
from lora_jax.models import presets
from lora_jax.train import base_options, config_check, job
from tests.cost import toys
from tests.pretrained import gguf_toys


def test_a_models_arguments_are_the_configs(make_config):
  config = make_config(**{'model.param_dtype': 'bfloat16', 'model.attention_dropout': 0.5})
  found = base_options.model_arguments(config, tasks.without_data('sst2'))
  assert found['param_dtype'] == jnp.bfloat16 and found['dtype'] == jnp.float32
  assert (found['num_labels'], found['scan'], found['attention_dropout']) == (2, True, 0.5)
  with config.unlocked():
    del config.model.quantize  # A run of an older version.
  assert base_options.quantization_of(config) == 'none'


def test_an_architecture_is_a_presets_a_fresh_one_a_folders_or_a_runs(tmp_path):
  config = toys.config()
  assert base_options.architecture(config).vocab_size == 64
  named = memory.changed(config, **{'model.name': 'gpt2-medium'})
  assert base_options.architecture(named) == presets.PRESETS['gpt2-medium'].config
  (tmp_path / 'checkpoints').mkdir()
  (tmp_path / 'config.json').write_text(json.dumps(json.loads(named.to_json_best_effort())))
  run = memory.changed(config, **{'model.name': str(tmp_path)})
  assert base_options.architecture(run) == presets.PRESETS['gpt2-medium'].config
  with pytest.raises(ValueError, match=r"'gpt2-medum' is neither .* Did you mean 'gpt2-medium'"):
    base_options.architecture(memory.changed(config, **{'model.name': 'gpt2-medum'}))


def test_the_architecture_of_a_gguf_file_and_of_its_folder(tmp_path):
  gguf_toys.write(tmp_path / 'model.gguf', 'llama-untied')
  for name in (tmp_path, tmp_path / 'model.gguf'):
    config = memory.changed(toys.config(), **{'model.name': str(name)})
    assert base_options.architecture(config).family == 'llama'


def test_another_dtype_or_head_is_named(make_config):
  with pytest.raises(ValueError, match=r"config.model.dtype='f8': choose one of float32"):
    base_options.model_options(make_config(**{'model.dtype': 'f8'}))
  with pytest.raises(ValueError, match=r"config.model.head='keeps'. Did you mean 'keep'"):
    base_options.head_choice(make_config(**{'model.head': 'keeps'}))


def test_a_quantization_that_does_not_fit_is_refused_with_what_to_do(make_config):
  with pytest.raises(
    ValueError, match=r"quantize='int4': expected one of none, int8, nf4, file. Frozen kernels"
  ):
    config_check.check_config(make_config(**{'model.quantize': 'int4'}))
  with pytest.raises(ValueError, match=r"codes of a GGUF file, and 'fresh' is none. Choose one of"):
    shapes.abstract_job(make_config(**{'model.quantize': 'file'}))
  words = r'the method trains \S*key/kernel, .*, but the codes of a quantized kernel'
  with pytest.raises(ValueError, match=words):
    shapes.abstract_job(make_config('full', **{'model.quantize': 'int8'}))
  with pytest.raises(ValueError, match=r'dora=True is not computed for quantized weights'):
    shapes.abstract_job(make_config(**{'model.quantize': 'int8', 'method.dora': True}))


@pytest.mark.parametrize('format, ratio', [('int8', 0.27), ('nf4', 0.15)])
def test_a_plans_base_is_as_small_as_the_codes(make_config, format, ratio):
  fresh = dict(family='bert', vocab_size=64, hidden_size=256, num_layers=2, num_heads=4,
               intermediate_size=512, max_positions=32)  # fmt: skip
  work = shapes.abstract_job(make_config(**{'model.fresh': fresh, 'model.quantize': format}))
  exact = shapes.abstract_job(make_config(**{'model.fresh': fresh}))
  assert work.summary.frozen == exact.summary.frozen
  kernels = quantization.kernels(work.frozen)
  assert tree.nbytes(kernels) < ratio * 4 * tree.count(kernels)
  saved = 4 * tree.count(kernels) - tree.nbytes(kernels)
  assert exact.summary.frozen_bytes - work.summary.frozen_bytes == saved
  assert tree.count(kernels) == 2 * (4 * 256 * 256 + 2 * 256 * 512)


def test_biases_beside_codes_are_trained(make_config):
  work = shapes.abstract_job(make_config('bitfit', **{'model.quantize': 'nf4'}))
  assert quantization.kernels(work.frozen) and not quantization.kernels(work.trainable)
  assert isinstance(work, job.Job)
