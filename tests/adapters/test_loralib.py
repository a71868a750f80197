"""loralib's files: the authors' layouts, their scale, and what cannot be one of them."""

import numpy as np
import pytest

from lora_jax import tree
from lora_jax.adapters import loralib
from lora_jax.models import presets
from lora_jax.pretrained import pytorch, pytorch_writer
from tests.adapters import toys
from tests.adapters.toys import ADAPTERS, base_of, config_of, make

THEIRS = {'loralib.roberta': 6, 'loralib.gpt2': 16, 'loralib.gpt2.snapshot': 16}  # Their alphas.
QV = r'.*/(query|value)'


def path_of(case):
  return ADAPTERS / case / 'adapter.bin'


def read(case, **options):
  options = {'alpha': THEIRS[case]} | options
  return loralib.read(path_of(case), config_of(base_of(case)), **options)


def held(path, key=None):
  return {name: np.array(x) for name, x in pytorch.Tensors(path, key).items()}


@pytest.mark.parametrize('case', THEIRS)
def test_theirs_is_computed_as_there(case):
  adapter = read(case)
  toys.fits(adapter)
  np.testing.assert_allclose(toys.logits(adapter), toys.expected(case), atol=1e-5, rtol=0)


def test_both_layouts_of_gpt2_are_the_same_adapter():
  toys.same(read('loralib.gpt2.snapshot'), read('loralib.gpt2'))


def test_query_lies_above_value():
  tensors = held(path_of('loralib.gpt2'), 'model_state_dict')
  attention = read('loralib.gpt2').trainable['decoder']['layers_1']['attention']
  name = 'module.transformer.h.1.attn.c_attn.lora_{}'
  a, b = tensors[name.format('A')], tensors[name.format('B')]
  assert (a.shape, b.shape) == ((4, 24), (48, 2))
  assert attention.keys() == {'query', 'value'}
  for part, rows in (('query', 0), ('value', 1)):
    np.testing.assert_array_equal(attention[part]['lora_a'], a[2 * rows : 2 * rows + 2].T)
    np.testing.assert_array_equal(attention[part]['lora_b'], b[24 * rows : 24 * rows + 24].T)


@pytest.mark.parametrize('case', THEIRS)
def test_written_again_it_holds_the_same_tensors(case, tmp_path):
  adapter, snapshot = read(case), 'snapshot' in case
  assert loralib.write(adapter, tmp_path / 'x.bin', snapshot=snapshot) == THEIRS[case]
  key = 'model_state_dict' if 'gpt2' in case else None
  found, expected = held(tmp_path / 'x.bin', key), held(path_of(case), None if snapshot else key)
  if snapshot:  # The golden is flat.
    found = {name.removeprefix(loralib.ROOT): x for name, x in found.items()}
    expected = {name.removeprefix(loralib.ROOT): x for name, x in expected.items()}
  assert found.keys() == expected.keys()
  for name, x in expected.items():
    np.testing.assert_array_equal(found[name], x, err_msg=name)


@pytest.mark.parametrize(
  'name, options, alpha, read_options',
  [
    ('bert', dict(targets=(QV, 'embeddings/word')), 8.0, {}),
    ('deberta-v2', dict(targets=QV, bias='adapted'), 8.0, {}),
    ('roberta', dict(targets=QV, rank=4, rslora=True), 16.0, {}),
    ('bert', dict(targets='.*/(query|output)', rank={'.*/query': 2, '.*': 4}, bias='all'), 8.0, {}),
    ('gpt2', dict(targets=('.*/(query|key|value)', '.*/up'), bias='adapted'), 8.0, {}),
    ('gpt2', dict(targets='.*/value'), 8.0, dict(fused=('value',))),
    ('gpt2', dict(targets='.*/(query|key)'), 8.0, dict(fused=('query', 'key'))),
  ],
)
def test_there_and_back_to_the_last_bit(name, options, alpha, read_options, tmp_path):
  adapter = make(name, **options)
  assert loralib.write(adapter, tmp_path / 'x.bin') == alpha
  again = loralib.read(
    tmp_path / 'x.bin', adapter.config, alpha=alpha, base_name=adapter.base, **read_options
  )
  toys.same(again, adapter)
  toys.fits(again)
  toys.same_updates(again, adapter)


@pytest.mark.parametrize(
  'name, options, problem',
  [
    ('bert', dict(targets=QV, alpha={'.*/query': 4.0, '.*': 8.0}), r'need one alpha.*\[4.0, 8.0\]'),
    ('gpt2', dict(targets=QV, rank={'.*/query': 2, '.*': 4}), r'one rank for all of it.*\[2, 4\]'),
    ('gpt2', dict(targets=QV, bias='adapted'), 'not given: attention/key'),
    ('gpt2', dict(targets='embeddings/word'), 'loralib cannot compute factors on embeddings/word'),
  ],
)
def test_what_loralib_cannot_hold(name, options, problem, tmp_path):
  with pytest.raises(ValueError, match=problem):
    loralib.write(make(name, **options), tmp_path / 'x.bin')
  assert not list(tmp_path.iterdir())


def test_the_scale_is_not_guessed(tmp_path):
  with pytest.raises(ValueError, match=r'stores no scale.* give alpha'):
    read('loralib.roberta', alpha=None)
  with pytest.raises(ValueError, match='alpha=-1: expected a positive number'):
    read('loralib.roberta', alpha=-1)
  # A name of the release tells its scale, if the rank is the release's, too.
  config = config_of('roberta')
  adapter = make('roberta', targets=QV, rank=8)
  loralib.write(adapter, tmp_path / 'roberta_base_lora_mrpc.bin')
  found = loralib.read(tmp_path / 'roberta_base_lora_mrpc.bin', config)
  assert (found.method['alpha'], found.base) == (16.0, 'roberta-base')
  loralib.write(make('roberta', targets=QV), tmp_path / 'roberta_large_lora_rte.bin')
  with pytest.raises(ValueError, match=r'ranks \[4\]; the release has 8'):
    loralib.read(tmp_path / 'roberta_large_lora_rte.bin', config)


def test_the_table_of_the_release_names_presets():
  scales = {r.base: r.alpha / r.rank for r in loralib.RELEASES.values()}
  encoders = dict.fromkeys(('roberta-base', 'roberta-large', 'deberta-v2-xxlarge'), 2)
  assert scales == encoders | {'gpt2-medium': 8, 'gpt2-large': 8}
  assert scales.keys() <= presets.PRESETS.keys()


def changed(tmp_path, case, **changes):
  key = 'model_state_dict' if case == 'loralib.gpt2' else None
  tensors = held(path_of(case), key) | changes.get('more', {})
  tensors = {name: x for name, x in tensors.items() if name not in changes.get('less', ())}
  pytorch_writer.write(tmp_path / 'x.bin', tensors, key)
  return tmp_path / 'x.bin'


LAYER = 'roberta.encoder.layer.0.attention.self'


@pytest.mark.parametrize(
  'less, more, problems',
  [
    (
      [f'{LAYER}.query.lora_B', 'classifier.dense.bias'],
      {f'{LAYER}.value.lora_B': np.zeros((4, 24), np.float32), 'x.y': np.zeros(2, np.float32)},
      [
        r'missing classifier.dense.bias \(24,\), encoder.layer.0.attention.self.query.lora_B',
        r'unexpected x.y \(2,\)',
        r'value.lora_B is \(4, 24\), expected \(24, 4\)',
      ],
    ),
    ([], {f'{LAYER}.key.bias': np.zeros(24, np.float32)}, ['neither those of the adapted modules']),
    ([], {f'{LAYER}.query.weight': np.zeros((24, 24), np.float32)}, ['missing .*query.bias']),
    ([], {LAYER[8:] + '.query.lora_A': np.zeros((4, 24), np.float32)}, ['two tensors are encoder']),
    ([], {f'{LAYER}.query.lora_A': np.zeros((0, 24), np.float32)}, ['without a rank: .*query']),
    ([], {f'{LAYER}.query.lora_A': np.zeros((), np.float32)}, ['without a rank: .*query']),
    ([], {'classifier.out_proj.weight': np.zeros(2, np.float32)}, [r'expected \(labels, width\)']),
  ],
)
def test_tensors_that_do_not_fit(less, more, problems, tmp_path):
  path = changed(tmp_path, 'loralib.roberta', less=less, more=more)
  for problem in problems:
    with pytest.raises(ValueError, match=problem):
      loralib.read(path, config_of('roberta'), alpha=6)


def test_a_state_dict_of_the_full_model_is_named_as_such(tmp_path):
  weight = {
    f'{LAYER}.query.weight': np.zeros((24, 24), np.float32),
    f'{LAYER}.query.bias': np.zeros(24, np.float32),
  }
  path = changed(tmp_path, 'loralib.roberta', more=weight)
  with pytest.raises(ValueError, match='Is this a state dict of the full model'):
    loralib.read(path, config_of('roberta'), alpha=6)


def test_files_of_other_models(tmp_path):
  with pytest.raises(ValueError, match='no factors of a gpt2 model'):
    loralib.read(path_of('loralib.roberta'), config_of('gpt2'), alpha=6)
  with pytest.raises(ValueError, match='Choose one by key: model_state_dict'):
    loralib.read(path_of('loralib.gpt2'), config_of('roberta'), alpha=6)
  with pytest.raises(ValueError, match=r"fused=\('value', 'query'\).*in this order"):
    read('loralib.gpt2', fused=('value', 'query'))
  with pytest.raises(ValueError, match=r'4 rows|\(4, 24\), expected'):
    read('loralib.gpt2', fused=('query', 'key', 'value'))
  half = {n: x for n, x in held(path_of('loralib.gpt2.snapshot')).items() if 'v_proj' not in n}
  pytorch_writer.write(tmp_path / 'x.bin', half)
  with pytest.raises(ValueError, match='no factors of a gpt2 model'):
    loralib.read(tmp_path / 'x.bin', config_of('gpt2'), alpha=6)


def test_the_snapshot_has_names_for_query_and_value_of_gpt2_alone(tmp_path):
  for adapter in (make('roberta', targets=QV), make('gpt2', targets='.*/(query|key)', train=())):
    with pytest.raises(ValueError, match="needs factors of GPT-2's query and value alone"):
      loralib.write(adapter, tmp_path / 'x.bin', snapshot=True)


def test_dora_is_refused_and_not_written_without_its_lengths(tmp_path):
  with pytest.raises(ValueError, match=r'loralib has no DoRA.*Export to PEFT'):
    loralib.write(make('bert', targets=QV, dora=True), tmp_path / 'x.bin')
  assert not (tmp_path / 'x.bin').exists()


def test_a_flat_file_of_gpt2_is_read(tmp_path):
  pytorch_writer.write(tmp_path / 'x.bin', held(path_of('loralib.gpt2'), 'model_state_dict'))
  found = loralib.read(tmp_path / 'x.bin', config_of('gpt2'), alpha=16)
  toys.same(found, read('loralib.gpt2'))
  assert tree.count(found.trainable) == 2 * 2 * (24 + 24) * 2


@pytest.mark.parametrize('name', [f'{LAYER}.query.lora_B', 'classifier.dense.bias'])
def test_a_number_that_is_none_is_named(name, tmp_path):
  broken = held(path_of('loralib.roberta'))[name]
  broken.flat[0] = np.inf
  path = changed(tmp_path, 'loralib.roberta', more={name: broken})
  with pytest.raises(ValueError, match=f'x.bin: NaN or infinity in {name}'):
    loralib.read(path, config_of('roberta'), alpha=6)
