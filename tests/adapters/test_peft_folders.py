"""Folders of PEFT with more than factors and heads: all dense layers, and tables of words."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from safetensors import numpy as writer

from lora_jax import methods, stacking, tree
from lora_jax.adapters import native, peft, peft_file
from lora_jax.adapters.adapter import attach
from lora_jax.pretrained import safetensors
from tests.adapters import toys
from tests.adapters.toys import ADAPTERS, config_of, export_of

RESIZED = 'peft.roberta.resized'  # Of a base of 65 words, unlike the toy.


def copy_of(case, tmp_path, **changes):
  folder = shutil.copytree(ADAPTERS / case, tmp_path / 'copy')
  values = json.loads((folder / peft.CONFIG).read_text()) | changes
  (folder / peft.CONFIG).write_text(json.dumps(values))
  return folder


@pytest.mark.parametrize(
  'case, said',
  [
    ('bert.plain', ['pooler']),
    ('bert.all', ['pooler', "bias='all'"]),
    ('roberta.adapted', ["bias='lora_only'"]),
    ('bert.dora', ['pooler', 'DoRA. Export a merged model for vLLM, or the nearest plain LoRA']),
    ('gpt2.vera', ['VeRA']),
    ('gpt2.qv', []),
  ],
)
def test_what_vllm_does_not_take_is_said(case, said, tmp_path):
  peft.write(export_of(case), tmp_path)
  lines = peft.vllm_limits(tmp_path)
  assert len(lines) == len(said)
  assert all(word in line and 'vLLM' in line for word, line in zip(said, lines))


def test_all_dense_layers_but_the_head(tmp_path):
  folder = copy_of('peft.bert.lookahead', tmp_path, target_modules='all-linear')
  shape = {'intermediate.dense': (40, 24), 'output.dense': (24, 40)}
  tensors = {
    name: np.array(x)
    for name, x in safetensors.Tensors(folder / peft_file.TENSORS).items()
    if 'classifier' in name
  }
  ends = ('attention.self.query', 'attention.self.key', 'attention.self.value')
  ends = (*ends, 'attention.output.dense', *shape)
  modules = [f'bert.encoder.layer.{i}.{end}' for i in range(2) for end in ends]
  for module in (*modules, 'bert.pooler.dense'):
    inner = 'attention' in module or 'pooler' in module
    out, into = (24, 24) if inner else shape['.'.join(module.split('.')[-2:])]
    tensors[f'base_model.model.{module}.lora_A.weight'] = np.ones((4, into), np.float32)
    tensors[f'base_model.model.{module}.lora_B.weight'] = np.ones((out, 4), np.float32)
  writer.save_file(tensors, folder / peft_file.TENSORS)
  adapter = peft.read(folder, config_of('bert'))
  toys.fits(adapter)
  assert sum(path.endswith('lora_a') for path in tree.flatten(adapter.trainable)) == 13


def test_words_that_were_added_come_with_the_adapter():
  config = dataclasses.replace(config_of('roberta'), vocab_size=65)
  adapter = peft.read(ADAPTERS / RESIZED, config)
  assert adapter.trainable['embeddings']['word']['embedding'].shape == (65, 24)
  model, params = toys.model_of('roberta')
  model = model.clone(config=dataclasses.replace(model.config, vocab_size=65))
  trained = tree.flatten(adapter.trainable)
  frozen = {path: x for path, x in tree.flatten(params).items() if path not in trained}
  inputs, valid = toys.inputs_of('roberta')
  method = methods.make(**adapter.method)
  found = toys.computed(model, method, tree.unflatten(frozen), adapter.trainable, inputs)
  np.testing.assert_allclose(found[valid], toys.expected(RESIZED), atol=1e-5, rtol=0)
  with pytest.raises(ValueError, match=r'on 65 word embeddings, the base has 61: resize the base'):
    peft.read(ADAPTERS / RESIZED, config_of('roberta'))


def test_words_with_factors_are_saved_beside_them(tmp_path):
  folder = copy_of('peft.bert.patterns', tmp_path)
  table = np.full((61, 24), 0.5, np.float32)
  prefix = 'base_model.model.bert.embeddings.word_embeddings'
  stored = dict(safetensors.Tensors(folder / peft_file.TENSORS))
  writer.save_file({**stored, f'{prefix}.base_layer.weight': table}, folder / peft_file.TENSORS)
  adapter = peft.read(folder, config_of('bert'))
  toys.fits(adapter)
  np.testing.assert_array_equal(adapter.trainable['embeddings']['word']['embedding'], table)
  peft.write(adapter, tmp_path / 'again')
  again = safetensors.Tensors(tmp_path / 'again' / peft_file.TENSORS)
  np.testing.assert_array_equal(again[f'{prefix}.base_layer.weight'], table)
  saved = json.loads((tmp_path / 'again' / peft.CONFIG).read_text())['modules_to_save']
  assert not any('word' in module for module in saved or ())
  toys.same(peft.read(tmp_path / 'again', config_of('bert')), adapter)


def test_the_output_layer_of_gpt2_is_its_table_of_words(tmp_path):
  folder = copy_of('peft.gpt2.fused', tmp_path)
  stored = dict(safetensors.Tensors(folder / peft_file.TENSORS))
  table = np.full((61, 24), 0.5, np.float32)
  prefix = 'base_model.model'
  tied = {f'{prefix}.transformer.wte.weight': table, f'{prefix}.lm_head.weight': table}
  writer.save_file({**stored, **tied}, folder / peft_file.TENSORS)
  adapter = peft.read(folder, config_of('gpt2'))
  toys.fits(adapter)
  writer.save_file(
    {**stored, **tied, f'{prefix}.lm_head.weight': 2 * table}, folder / peft_file.TENSORS
  )
  with pytest.raises(ValueError, match=r'holds a lm_head\.weight that is not wte\.weight'):
    peft.read(folder, config_of('gpt2'))


def changed(folder, added=(), left_out=(), **values):
  """The folder of PEFT with other tensors and config, without this package's note."""
  stored = {k: np.array(x) for k, x in safetensors.Tensors(folder / peft_file.TENSORS).items()}
  stored = {k: x for k, x in stored.items() if not any(name in k for name in left_out)}
  writer.save_file({**stored, **dict(added)}, folder / peft_file.TENSORS, metadata={'format': 'pt'})
  config = json.loads((folder / peft.CONFIG).read_text()) | values
  (folder / peft.CONFIG).write_text(json.dumps(config))
  return folder


@pytest.mark.parametrize(
  'family, module', [('gpt2', 'transformer.wte'), ('llama', 'model.embed_tokens')]
)
def test_tied_words_have_factors_here_alone(family, module, tmp_path):
  """PEFT adapts the table and not the output layer that is tied to it: other logits."""
  targets = ('.*/query', 'embeddings/word')
  with pytest.raises(ValueError, match='PEFT cannot compute factors on embeddings/word'):
    peft.write(toys.make(family, targets=targets, train=()), tmp_path / 'x')
  with pytest.raises(ValueError, match='unties embeddings/word'):
    peft.write(toys.make(family, targets='.*/query', train='embeddings/word/.*'), tmp_path / 'x')
  peft.write(toys.make(family, targets='.*/query', train=()), tmp_path)
  name = f'base_model.model.{module}'
  factors = {
    f'{name}.lora_embedding_A': np.ones((4, 61)),
    f'{name}.lora_embedding_B': np.ones((24, 4)),
  }
  folder = changed(shutil.copytree(tmp_path, tmp_path / 'factors'), factors)
  with pytest.raises(ValueError, match=r'Factors on .* are not read: .*the output layer, tied'):
    peft.read(folder, config_of(family))
  table = {f'{name}.weight': np.ones((61, 24), np.float32)}
  end = module.rpartition('.')[2]
  folder = changed(shutil.copytree(tmp_path, tmp_path / 'copy'), table, modules_to_save=[end])
  with pytest.raises(ValueError, match=f'modules_to_save trained a copy of {end}, beside which'):
    peft.read(folder, config_of(family))
  # The same table without a copy: words were added, and the output layer has them, too.
  changed(folder, modules_to_save=None)
  assert 'embeddings/word/embedding' in tree.flatten(peft.read(folder, config_of(family)).trainable)


def test_a_trained_copy_inside_of_another_module_is_not_taken_for_the_base(tmp_path):
  peft.write(toys.make('bert', targets='.*/query'), tmp_path)
  name = 'base_model.model.classifier'
  held = np.array(safetensors.Tensors(tmp_path / peft_file.TENSORS)[f'{name}.weight'])
  for copy in (f'{name}.modules_to_save.weight', f'{name}.modules_to_save.default.weight'):
    folder = shutil.copytree(tmp_path, tmp_path / copy)
    adapter = peft.read(changed(folder, {copy: held}), config_of('bert'))
    leaves = tree.flatten(adapter.trainable)
    np.testing.assert_array_equal(leaves['classifier/kernel'], held.T)
    with pytest.raises(ValueError, match=r'modules_to_save\..*weight is the trained copy of a mod'):
      peft.read(changed(folder, {copy: held + 1}), config_of('bert'))


def test_layers_that_are_alike_have_patterns_that_scanned_ones_match(tmp_path):
  made = toys.make('llama', targets='.*/(query|value)', rank={'.*/query': 2, '.*': 4}, train=())
  peft.write(made, tmp_path)
  adapter = peft.read(changed(tmp_path), config_of('llama'))
  assert adapter.method['rank'] == {'.*/attention/value': 4, '.*': 2}
  model, params = toys.model_of('llama')
  stacked = stacking.stack(params, model.config.num_layers)
  attach(adapter, model.clone(scan=True), stacked)


@pytest.mark.parametrize('family', ['gpt2', 'llama'])
def test_a_language_models_folder_becomes_the_native_format(family, tmp_path):
  """Without a head there are 0 labels in all families."""
  made = toys.make(family, targets='.*/(key|output)')
  peft.write(made, tmp_path / 'peft')
  native.save_adapter(tmp_path / 'native', peft.read(tmp_path / 'peft'))
  toys.same(native.read(tmp_path / 'native'), made)


def test_the_biases_of_a_llama_come_back(tmp_path):
  made = toys.make('llama-biased', targets='.*/(key|output)', bias='adapted')
  peft.write(made, tmp_path)
  held = safetensors.Tensors(tmp_path / peft_file.TENSORS)
  for name in ('k_proj', 'o_proj'):
    assert f'base_model.model.model.layers.1.self_attn.{name}.base_layer.bias' in held
  toys.same(peft.read(tmp_path), made)


def test_a_head_or_the_task_says_that_a_llama_classifies(tmp_path):
  base = config_of('llama-classifier')
  peft.write(toys.make('llama-classifier', targets=('.*/query', 'score'), train=()), tmp_path)
  adapter = peft.read(changed(tmp_path, task_type=None), base)
  assert (adapter.task, adapter.num_labels) == ('classification', 3)
  assert 'score/lora_a' in tree.flatten(adapter.trainable)
  folder = changed(
    shutil.copytree(tmp_path, tmp_path / 'x'), left_out=['score'], task_type='SEQ_CLS'
  )
  assert peft.read(folder, base).task == 'classification'
  assert peft.read(changed(folder, task_type=None), base).task == 'lm'
