"""The settings of GPT-2 are those of table 11 and of the authors' command."""

import re

import pytest

from configs import _base_gpt2, dart, e2e, pretrain, webnlg
from lora_jax.cost import counts as cost_counts
from lora_jax.models import presets
from tests.configs.toys import leaves

NLG = (e2e, webnlg, dart)


# Table 11: weight decay, dropout, label smoothing, length penalty; then the table of results.
TABLE_11 = {
  e2e: (0.01, 0.1, 0.1, 0.9, 'table 3'),
  webnlg: (0.01, 0.1, 0.1, 0.8, 'table 14'),
  dart: (0.0, 0.0, 0.0, 0.8, 'table 13'),
}


@pytest.mark.parametrize('module', NLG)
@pytest.mark.parametrize('size', ['medium', 'large'])
def test_settings_of_gpt2_are_those_of_table_11(module, size):
  c = module.get_config(f'model=gpt2-{size}')
  weight_decay, dropout, smoothing, length_penalty, table = TABLE_11[module]
  assert (c.experiment, c.task, c.paper_table) == (*[module.__name__.rpartition('.')[2]] * 2, table)
  assert (c.method.rank, c.method.alpha, c.method.dropout) == (4, 32, dropout)
  assert c.method.targets == ('.*/(query|value)',)
  assert (c.optim.lr, c.optim.warmup_steps, c.optim.schedule) == (2e-4, 500, 'linear')
  assert (c.optim.eps, c.optim.beta1, c.optim.beta2, c.optim.clip) == (1e-6, 0.9, 0.999, 0)
  assert (c.optim.weight_decay, c.train.label_smoothing) == (weight_decay, smoothing)
  assert (c.train.batch_size, c.train.epochs) == (8, 5)
  assert (c.model.hidden_dropout, c.model.attention_dropout, c.data.max_length) == (0, 0, 512)
  d = c.decode
  assert (d.strategy, d.beams, d.length_penalty) == ('beam', 10, length_penalty)
  assert (d.no_repeat_ngram, d.max_tokens, d.final) == (4, 64, 'test')
  assert d.stop == ('<|endoftext|>', '\n\n')

  s = module.get_config(f'model=gpt2-{size},preset=script')
  assert (s.seed, s.eval.every_steps, s.checkpoint.every_steps) == (110, 2000, 1000)
  assert s.decode.length_penalty == 0.8
  changed = {path for (path, a), (_, b) in zip(leaves(c), leaves(s)) if a != b}
  assert changed - {'decode.length_penalty'} == {
    'preset',
    'seed',
    'eval.every_steps',
    'checkpoint.every_steps',
  }
  assert ('decode.length_penalty' in changed) == (module is e2e)


@pytest.mark.parametrize('module', NLG)
def test_a_model_that_is_no_gpt2_by_name_has_settings_of_our_own(module):
  assert module.get_config('model=fresh').preset == 'small'
  for name in ('models/smollm2', './gpt2-mine', 'smollm2-135m', '/models/a.gguf'):
    assert module.get_config(f'model={name}').preset == 'llm'
  for name in ('gpt2', '/models/gpt2-medium/', 'openai-community/gpt2-xl'):
    assert module.get_config(f'model={name}').preset == 'paper'
  assert module.get_config('model=runs/pretrain,preset=paper').optim.lr == 2e-4


@pytest.mark.parametrize('module', NLG)
@pytest.mark.parametrize('preset', _base_gpt2.OWN)
def test_methods_differ_in_the_rate_alone(module, preset):
  of = lambda method: module.get_config(f'model=runs/base,method={method},preset={preset}')
  lora, full = of('lora'), of('full')
  assert lora.paper_table == full.paper_table == ''
  assert (lora.method.rank, lora.method.alpha, lora.method.dropout) == (4, 32, 0)
  differing = {path for path, value in leaves(lora) if dict(leaves(full)).get(path) != value}
  assert {path for path in differing if not path.startswith('method.')} == {'optim.lr'}
  if preset == 'small':  # The positions that pretraining has trained.
    assert lora.data.max_length <= pretrain.get_config().data.max_length


def test_a_base_of_any_llama_is_named_as_its_preset():
  families = {name for name, preset in presets.PRESETS.items() if preset.config.family == 'llama'}
  assert families == set(_base_gpt2.LLAMAS)


def test_methods_on_smollm2_are_about_as_large_as_lora():
  counts = {}
  for method in ('lora', *_base_gpt2.LLM_SIZES):
    section = e2e.get_config(f'model=smollm2-135m,method={method}').method.to_dict()
    options = {name: section[name] for name in section if name not in ('name', 'train')}
    counts[method] = cost_counts.summarize_preset('smollm2-135m', method, options, True).trainable
  assert all(0.9 < count / counts['lora'] < 1.1 for count in counts.values()), counts


def test_targets_are_attention_matrices_and_nothing_of_the_mlp():
  paths = [f'decoder/layers_0/{name}' for name in (
    'attention/query', 'attention/key', 'attention/value', 'attention/output', 'mlp/up', 'mlp/down',
    'mlp/output', 'attention_norm',
  )]  # fmt: skip
  matched = lambda arg: [
    path.rpartition('/')[2]
    for path in paths
    if any(re.fullmatch(pattern, path) for pattern in e2e.get_config(arg).method.targets)
  ]
  assert matched('targets=qv') == matched('') == ['query', 'value']
  assert matched('targets=all') == ['query', 'key', 'value', 'output']
  assert e2e.get_config('targets=all').paper_table == ''


def test_a_fresh_gpt2_is_the_small_one_with_gpt2s_vocabulary():
  fresh = e2e.get_config('model=fresh,method=full').model.fresh
  assert fresh.to_dict() == dict(
    family='gpt2', vocab_size=50257, hidden_size=256, num_layers=6, num_heads=4,
    intermediate_size=1024, max_positions=512,
  )  # fmt: skip


def test_the_papers_own_adapters_of_gpt2_take_table_11():
  config = e2e.get_config('model=gpt2-large,method=adapter_l')
  assert (config.method.bottleneck, config.paper_table) == (8, 'table 3')
  large = e2e.get_config('model=gpt2-large,method=adapter_l,bottleneck=248')
  assert (large.method.bottleneck, large.optim.lr, large.optim.warmup_steps) == (248, 2e-4, 500)
  assert (large.train.batch_size, large.train.epochs, large.optim.weight_decay) == (8, 5, 0.01)
  for module, table in ((webnlg, 'table 14'), (dart, 'table 13')):
    assert module.get_config('model=gpt2-large,method=adapter_l').paper_table == table
