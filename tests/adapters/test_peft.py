"""PEFT's format: theirs is computed here as there, ours comes back to the last bit."""

import json
import pathlib

import numpy as np
import pytest
from safetensors import numpy as writer

from lora_jax import tree
from lora_jax.adapters import peft, peft_file
from lora_jax.methods.initial import starts_at_zero
from lora_jax.pretrained import load_model, names, safetensors
from tests.adapters import toys
from tests.adapters.toys import (
  ADAPTERS,
  EXPORTS,
  base_of,
  config_of,
  copy_of,
  export_of,
  make,
  model_of,
)

RESIZED = 'peft.roberta.resized'  # Of a base of 65 words, unlike the toy.
THEIRS = sorted(path.name for path in ADAPTERS.glob('peft.*') if path.name != RESIZED)
# PEFT wrapped another model, or left something out that it trained.
OTHER_KEYS = ('peft.bert.bare', 'peft.bert.converted')
SEEDED = 'peft.llama.vera'  # PEFT left the shared factors to their seed; they are written here.
# PEFT saves the output layer itself beside its factors; both at once are not written here.
OUTPUT = 'peft.qwen3.output'


def read(case):
  return peft.read(ADAPTERS / case, config_of(base_of(case)))


def shapes(folder):
  return {name: x.shape for name, x in safetensors.Tensors(folder / peft_file.TENSORS).items()}


def fields(folder):
  return json.loads((folder / peft.CONFIG).read_text())


@pytest.mark.parametrize('case', THEIRS)
def test_theirs_is_computed_as_there(case):
  adapter = read(case)
  toys.fits(adapter)
  np.testing.assert_allclose(toys.logits(adapter), toys.expected(case), atol=1e-5, rtol=0)
  assert adapter.base == f'toys/{base_of(case)}'


@pytest.mark.parametrize(
  'case',
  [case for case in THEIRS if 'gpt2' not in case and case not in (*OTHER_KEYS, OUTPUT, SEEDED)],
)
def test_export_of_theirs_has_their_tensors(case, tmp_path):
  peft.write(read(case), tmp_path)
  theirs = safetensors.Tensors(ADAPTERS / case / peft_file.TENSORS)
  theirs = {
    name: x for name, x in theirs.items() if not any(part in name for part in peft_file.COPIES)
  }
  found = safetensors.Tensors(tmp_path / peft_file.TENSORS)
  assert found.keys() == theirs.keys()
  for name, x in theirs.items():
    np.testing.assert_array_equal(found[name], x, err_msg=name)
  # Nothing is left to PEFT's defaults, and what it says of itself it says in the same way.
  ours, fields_of_theirs = fields(tmp_path), fields(ADAPTERS / case)
  assert ours.keys() <= fields_of_theirs.keys()
  for name in ('r', 'lora_alpha', 'bias', 'use_rslora', 'task_type', 'fan_in_fan_out'):
    assert ours.get(name) == fields_of_theirs.get(name), name


@pytest.mark.parametrize('case', [case for case in THEIRS if case != OUTPUT])
def test_theirs_without_the_note_comes_back(case, tmp_path):
  """A fused pair becomes three with one a, which are exported as blocks of the same update."""
  adapter = read(case)
  peft.write(adapter, tmp_path)
  toys.same(peft.read(tmp_path), adapter)
  strip_note(tmp_path)
  again = peft.read(tmp_path, adapter.config)
  if 'gpt2' not in case:
    toys.same(again, adapter)
  toys.same_updates(again, adapter)


def strip_note(folder):
  """As PEFT does when it loads and saves an adapter."""
  tensors = {
    name: np.array(x) for name, x in safetensors.Tensors(folder / peft_file.TENSORS).items()
  }
  writer.save_file(tensors, folder / peft_file.TENSORS, metadata={'format': 'pt'})


@pytest.mark.parametrize('case', EXPORTS)
def test_ours_comes_back_to_the_last_bit(case, tmp_path):
  adapter = export_of(case)
  peft.write(adapter, tmp_path)
  again = peft.read(tmp_path)
  toys.same(again, adapter)
  assert again.method == adapter.method
  assert sorted(path.name for path in tmp_path.iterdir()) == [peft.CONFIG, peft_file.TENSORS]
  # Read as a stranger's it has the same function.
  strip_note(tmp_path)
  stranger = peft.read(tmp_path, adapter.config)
  toys.fits(stranger)
  toys.same_updates(stranger, adapter)


def test_query_and_value_of_gpt2_are_blocks_of_one_pair(tmp_path):
  adapter = export_of('gpt2.qv')
  peft.write(adapter, tmp_path)
  tensors = safetensors.Tensors(tmp_path / peft_file.TENSORS)
  leaves = tree.flatten(adapter.trainable)
  for layer in range(2):
    name = f'base_model.model.transformer.h.{layer}.attn.c_attn'
    a, b = (np.array(tensors[f'{name}.lora_{x}.weight']) for x in 'AB')
    assert (a.shape, b.shape) == ((8, 24), (72, 8))
    path = f'decoder/layers_{layer}/attention'
    np.testing.assert_array_equal(a[:4], leaves[f'{path}/query/lora_a'].T)
    np.testing.assert_array_equal(b[:24, :4], leaves[f'{path}/query/lora_b'].T)
    np.testing.assert_array_equal(b[48:, 4:], leaves[f'{path}/value/lora_b'].T)
    assert not b[24:48].any() and not b[:24, 4:].any() and not b[48:, :4].any()
  values = fields(tmp_path)
  assert (values['r'], values['lora_alpha'], values['fan_in_fan_out']) == (8, 16, True)
  assert values['lora_alpha'] / values['r'] == adapter.method['alpha'] / adapter.method['rank']


def test_a_fused_pair_gives_each_third_the_same_a():
  adapter = read('peft.gpt2.fused')
  attention = adapter.trainable['decoder']['layers_1']['attention']
  theirs = safetensors.Tensors(ADAPTERS / 'peft.gpt2.fused' / peft_file.TENSORS)
  name = 'base_model.model.transformer.h.1.attn.c_attn.lora_{}.weight'
  for i, part in enumerate(('query', 'key', 'value')):
    np.testing.assert_array_equal(attention[part]['lora_a'], theirs[name.format('A')].T)
    slice_ = theirs[name.format('B')][24 * i : 24 * (i + 1)]
    np.testing.assert_array_equal(attention[part]['lora_b'], slice_.T)


@pytest.mark.parametrize(
  'case, targets, saved',
  [
    ('bert.plain', ['query', 'value'], ['pooler', 'classifier']),
    ('bert.all', ['attention.output.dense'], ['pooler', 'classifier']),
    ('bert.norms', ['query', 'value'], ['classifier', 'bert.encoder.layer.1.output.LayerNorm']),
    ('roberta.adapted', ['key', 'intermediate.dense'], ['classifier']),
    ('deberta-v2.plain', ['query_proj', 'value_proj'], ['pooler', 'classifier']),
    ('gpt2.rslora', ['c_attn', 'c_fc', 'c_proj'], None),
    ('gpt2.biases', ['c_attn'], ['transformer.ln_f']),
    ('gpt2.value', ['1.attn.c_attn'], None),
  ],
)
def test_targets_are_the_shortest_names_that_match_nothing_else(case, targets, saved, tmp_path):
  peft.write(export_of(case), tmp_path, base_name='user/base')
  values = fields(tmp_path)
  assert sorted(values['target_modules']) == sorted(targets)
  assert values['modules_to_save'] == saved
  assert values['base_model_name_or_path'] == 'user/base'


@pytest.mark.parametrize(
  'name, options, problem',
  [
    ('gpt2', dict(targets='.*/(query|value)', bias='adapted'), 'not given: attention/key'),
    ('gpt2', dict(targets='embeddings/word'), 'not the output layer as well'),
    ('gpt2', dict(targets='.*/query', train='embeddings/word/.*'), 'unties embeddings/word'),
    (
      'gpt2',
      dict(targets='.*/(query|value)', alpha={'.*/query': 9.0, '.*': 8.0}),
      'scales .*2.25.* power of two',
    ),
    ('bert', dict(targets='pooler'), 'either factors or a whole module, not both: pooler'),
    ('deberta-v2', dict(targets='relative'), 'factors on relative'),
    ('bert', dict(name='bitfit', rank=None, alpha=None), "LoRA only; the adapter is 'bitfit'"),
    ('bert', dict(targets='.*/query', train='.*/layers_0/mlp/up/kernel'), 'up/bias'),
    ('gpt2', dict(name='vera', targets=toys.QV), 'VeRA in PEFT has one pair of vectors for GPT-2'),
  ],
)
def test_what_peft_cannot_hold_is_refused_before_anything_is_written(
  name, options, problem, tmp_path
):
  options = {key: x for key, x in options.items() if x is not None}
  if options.get('name') == 'bitfit':
    adapter = make(name)._replace(method={'name': 'bitfit'})
  else:
    adapter = make(name, **options)
  with pytest.raises(ValueError, match=problem):
    peft.write(adapter, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
  'changes, problem',
  [
    (dict(use_dora=True), 'DoRA is not computed on embeddings: embeddings.word_embeddings'),
    (dict(lora_bias=True, use_qalora=True), 'lora_bias=True, use_qalora=True'),
    (dict(layer_replication=[[0, 2]]), 'layer_replication'),
    (dict(trainable_token_indices=[3]), 'trainable_token_indices'),
    (dict(target_parameters=['x.weight']), 'target_parameters'),
    (dict(a_feature_of_tomorrow=1), 'a_feature_of_tomorrow=1'),
    (dict(init_lora_weights='pissa_niter_4'), 'pissa_niter_4.*path_initial_model_for_weight_conv'),
    (dict(init_lora_weights='loftq'), "'loftq' .it changes the base"),
    (dict(init_lora_weights='lora_ga'), "'lora_ga' .it changes the base"),
    (dict(init_lora_weights='tomorrow'), "'tomorrow' .PEFT has gaussian, eva, orthogonal, mica"),
    (dict(lora_alpha=float('inf')), 'lora_alpha=inf'),
    (dict(lora_dropout='much'), "lora_dropout='much'"),
    (dict(layers_to_transform='1'), "layers_to_transform='1'"),
    (dict(layers_pattern='layer'), "layers_pattern='layer' without layers_to_transform"),
    (dict(target_modules='.*query', layers_to_transform=1), 'beside a target_modules that is one'),
    (dict(modules_to_save=['(']), r"'\(' is not a regular expression"),
    (dict(target_modules=None), 'unexpected embeddings.word_embeddings.lora_embed'),
    (dict(target_modules='all-linear'), 'missing .*self.key.lora_A'),
    (dict(peft_type='IA3'), "peft_type='IA3'; only LORA and VERA are read"),
    (dict(task_type='TOKEN_CLS'), "task_type='TOKEN_CLS'; of a bert model only SEQ_CLS and FEAT"),
    (dict(r='4'), r"values that are not read, .*: r='4'"),
    (dict(bias='some'), "bias='some'"),
    (dict(lora_alpha=-1), 'lora_alpha=-1'),
    (dict(target_modules='quer('), 'is not a regular expression'),
    (dict(target_modules=['quary']), 'target_modules matches no module'),
    (dict(rank_pattern={'value': 4}), r'value.lora_A.weight is \(3, 24\), expected \(4, 24\)'),
    (dict(target_modules=['query', 'value']), 'unexpected embeddings.word_embeddings.lora_embed'),
    (
      dict(target_modules=['query', 'value', 'key', 'word_embeddings']),
      'missing .*self.key.lora_A',
    ),
    (dict(layers_to_transform=[1]), 'unexpected .*layer.0.attention.self.query'),
    (dict(exclude_modules=['value']), 'unexpected .*self.value.lora_A'),
    (dict(bias='lora_only'), r'missing .*query.bias \(24,\)'),
  ],
)
def test_configs_that_do_not_fit(changes, problem, tmp_path):
  folder = copy_of('peft.bert.patterns', tmp_path, **changes)
  with pytest.raises(ValueError, match=problem) as error:
    peft.read(folder, config_of('bert'))
  assert str(folder) in str(error.value)


@pytest.mark.parametrize(
  'changes',
  [
    dict(target_modules=r'.*\.(query|value|word_embeddings)', layers_to_transform=None),
    *[dict(init_lora_weights=x) for x in (False, 'gaussian', 'eva', 'orthogonal', 'mica', 'MiCA')],
    dict(task_type='FEATURE_EXTRACTION', modules_to_save=['classifier']),
    dict(lora_ga_config=None, eva_config=None, use_dora=False, peft_version='0.5.0'),
    dict(modules_to_save=None),  # PEFT adds the classifier by itself.
  ],
)
def test_other_spellings_of_the_same(changes, tmp_path):
  folder = copy_of('peft.bert.patterns', tmp_path, **changes)
  toys.same(peft.read(folder, config_of('bert')), read('peft.bert.patterns'))


def test_everything_that_does_not_fit_is_in_one_message(tmp_path):
  folder = copy_of('peft.bert.patterns', tmp_path)
  tensors = {
    name: np.array(x) for name, x in safetensors.Tensors(folder / peft_file.TENSORS).items()
  }
  prefix = 'base_model.model.bert.encoder.layer'
  del tensors[f'{prefix}.0.attention.self.query.lora_B.weight']
  del tensors['base_model.model.classifier.bias']
  tensors[f'{prefix}.0.attention.self.value.lora_A.weight'] = np.zeros((24, 3), np.float32)
  tensors[f'{prefix}.7.attention.self.value.lora_A.weight'] = np.zeros((3, 24), np.float32)
  tensors['nonsense'] = np.zeros(1, np.float32)
  writer.save_file(tensors, folder / peft_file.TENSORS)
  with pytest.raises(ValueError) as error:
    peft.read(folder, config_of('bert'))
  missing, unexpected, misshapen = str(error.value).split('; ')
  assert 'layer.0.attention.self.query.lora_B.weight (24, 4)' in missing
  assert 'classifier.bias (3,)' in missing
  assert 'nonsense (1,)' in unexpected and 'layer.7' in unexpected
  assert 'value.lora_A.weight is (24, 3), expected (3, 24)' in misshapen


def test_an_alpha_of_a_bare_model_is_that_of_its_own_name():
  """PEFT matches the name inside the wrapped model, `encoder...`, from its beginning."""
  alpha = read('peft.bert.bare').method['alpha']
  assert alpha == {'encoder/layers_1/attention/query': 16.0, '.*': 8.0}
  rank = read('peft.bert.bare').method['rank']
  assert rank == {'encoder/layers_0/attention/value': 2, '.*': 4}


@pytest.mark.parametrize('case', ['peft.bert.excluded', 'peft.bert.lookahead'])
def test_a_condition_holds_for_one_name_alone(case):
  assert read(case).method['targets'] == (
    'encoder/layers_1/attention/query',
    'encoder/layers_1/attention/value',
  )


def test_the_fast_factors_are_those_of_lora_plus_in_peft(tmp_path):
  """But PEFT gives biases their rate as well, which the paper does not, and tables a rate fixed."""
  folder = ADAPTERS / 'peft.bert.patterns'
  rates = json.loads((folder / 'rates.json').read_text())
  config = config_of('bert')
  trained = tree.paths(peft.read(folder, config).trainable)
  weights = tree.paths(model_of('bert')[1])
  fast = {path for path in trained if starts_at_zero(path, weights)}
  full = lambda path: names.full_name(names.module_name(config, path.rsplit('/', 1)[0]), 'bert')
  found = {f'{full(path)}.lora_B.weight' for path in fast - {'embeddings/word/lora_a'}}
  theirs = {name.removeprefix(peft_file.PREFIX) for name, rate in rates.items() if rate == 16}
  assert found == theirs - {'classifier.modules_to_save.bias'} != set()
  assert 'embeddings/word/lora_a' in fast


def test_a_head_that_was_left_out_stays_the_base_s(caplog):
  adapter = read('peft.bert.converted')
  assert 'classifier' not in adapter.trainable
  assert (adapter.method['rank'], adapter.method['alpha']) == (8, 16.0)
  assert "lists 'classifier', the tensors lack it: it stays as the base has it" in caplog.text


def test_files_that_are_not_there_or_damaged(tmp_path):
  with pytest.raises(FileNotFoundError, match='no adapter_config'):
    peft.read(tmp_path, config_of('bert'))
  folder = copy_of('peft.bert.patterns', tmp_path)
  with pytest.raises(ValueError, match="the base's architecture: give its config"):
    peft.read(folder)
  data = (folder / peft_file.TENSORS).read_bytes()
  (folder / peft_file.TENSORS).write_bytes(data[:-10])
  with pytest.raises(ValueError, match='truncated'):
    peft.read(folder, config_of('bert'))
  (folder / peft_file.TENSORS).unlink()
  with pytest.raises(FileNotFoundError, match='has neither adapter_model'):
    peft.read(folder, config_of('bert'))
  (folder / peft.CONFIG).write_text('{"peft')
  with pytest.raises(ValueError, match='not valid JSON'):
    peft.read(folder, config_of('bert'))


def test_the_scale_of_an_export_cannot_be_changed_unnoticed(tmp_path):
  peft.write(export_of('bert.plain'), tmp_path)
  (tmp_path / peft.CONFIG).write_text(json.dumps(fields(tmp_path) | {'lora_alpha': 16}))
  with pytest.raises(ValueError, match=r'query has the scale 4.0 by .* and 2.0 by the header'):
    peft.read(tmp_path)
  strip_note(tmp_path)
  assert peft.read(tmp_path, config_of('bert')).method['alpha'] == 16.0


def test_the_pickled_file_of_older_versions_is_read(tmp_path):
  from lora_jax.pretrained import pytorch_writer

  folder = copy_of('peft.roberta.rslora', tmp_path)
  tensors = dict(safetensors.Tensors(folder / peft_file.TENSORS))
  pytorch_writer.write(folder / peft_file.PICKLED, tensors)
  (folder / peft_file.TENSORS).unlink()
  toys.same(peft.read(folder, config_of('roberta')), read('peft.roberta.rslora'))


@pytest.mark.real_data
def test_the_released_adapter_survives_the_way_there_and_back(shared_data, tmp_path):
  from lora_jax.adapters import loralib
  from lora_jax.models import presets

  path = shared_data.parent / 'checkpoints' / 'roberta_base_lora_mnli.bin'
  if not path.is_file():
    pytest.skip(f'needs the released adapter in {path}')
  config = presets.PRESETS['roberta-base'].config
  adapter = loralib.read(path, config)
  leaves = tree.flatten(adapter.trainable)
  assert (len(leaves), tree.count(adapter.trainable)) == (52, 887_811)
  assert sum(x.size for p, x in leaves.items() if '/lora_' in p) == 294_912
  assert (adapter.method['rank'], adapter.method['alpha']) == (8, 16.0)
  assert (adapter.base, adapter.num_labels) == ('roberta-base', 3)
  peft.write(adapter, tmp_path / 'peft')
  toys.same(peft.read(tmp_path / 'peft'), adapter)
  strip_note(tmp_path / 'peft')
  toys.same(peft.read(tmp_path / 'peft', config), adapter)
  loralib.write(adapter, tmp_path / pathlib.Path(path).name)
  toys.same(loralib.read(tmp_path / path.name, config), adapter)
  pair = adapter.trainable['encoder']['layers_0']['attention']['query']
  # Singular values of the update, from the small sides of the factors (README).
  small = [np.linalg.qr(x)[1] for x in (pair['lora_a'], pair['lora_b'].T)]
  values = np.linalg.svd(16 / 8 * small[0] @ small[1].T, compute_uv=False)
  np.testing.assert_allclose(values[[0, 7]], [7.63, 0.30], atol=0.005)


def test_a_llama_classifier_is_written_as_one_and_comes_back(tmp_path):
  model, _ = load_model(toys.GOLDEN / 'models' / 'llama-classifier', task='classification')
  base = make('llama')
  score = {'score/kernel': np.ones((model.config.hidden_size, 3), np.float32)}
  adapter = base._replace(
    method=base.method | {'train': model.head},
    trainable=tree.unflatten(tree.flatten(base.trainable) | score),
    config=model.config,
    task='classification',
    num_labels=3,
  )
  peft.write(adapter, tmp_path)
  assert fields(tmp_path)['task_type'] == 'SEQ_CLS'
  assert fields(tmp_path)['modules_to_save'] == ['score']
  toys.same(peft.read(tmp_path), adapter)
  strip_note(tmp_path)
  toys.same_updates(peft.read(tmp_path, model.config), adapter)
