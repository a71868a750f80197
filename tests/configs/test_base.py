"""Every config has every field, reads its argument and flags, and refuses what is unknown."""

import inspect

import pytest
from absl import flags
from ml_collections import config_flags

from configs import (
  _base,
  compare,
  dart,
  demo,
  e2e,
  glue,
  gpt3,
  low_data,
  matrices,
  pretrain,
  rank,
  rates,
  sizes,
  webnlg,
)
from lora_jax import methods
from tests.configs.toys import leaves

NLG = (e2e, webnlg, dart)


ALL = [(glue, f'task={task},preset={preset}') for task in glue.TASKS for preset in
       ('paper', 'script', 'small')] + [
  (glue, 'model=roberta-large'), (glue, 'model=roberta-large,preset=adapter_setup'),
  (glue, 'model=deberta-v2-xxlarge'), (glue, 'preset=compare'),
  (glue, 'method=full,preset=small'), (glue, 'tiny=true'),
  (e2e, ''), (e2e, 'model=gpt2-large,preset=script'), (e2e, 'model=fresh,method=full'),
  (e2e, 'model=gpt2-large,method=adapter_l'), (e2e, 'tiny=true'),
  (e2e, 'model=runs/pretrain,targets=all'), (e2e, 'model=llama-3-8b'),
  (webnlg, ''), (webnlg, 'preset=script'), (webnlg, 'tiny=true'), (dart, ''),
  (dart, 'method=full,preset=small'), (dart, 'tiny=true'), (pretrain, ''), (pretrain, 'tiny=true'),
  (gpt3, ''), (gpt3, 'task=samsum,method=full'), (gpt3, 'task=mnli_text,tiny=true'),
  (demo, ''), (demo, 'model=runs/demo/pretrain,rank=8'), (rank, 'task=e2e'),
]  # fmt: skip


@pytest.mark.parametrize(('module', 'arg'), ALL)
def test_a_config_has_every_field_is_locked_and_holds_plain_values(module, arg):
  config = module.get_config(arg)
  assert config.is_locked
  fields = {path for path, _ in leaves(config)}
  assert {path for path, _ in leaves(_base.base())} <= fields
  extra = {path.split('.')[0] for path in fields - {path for path, _ in leaves(_base.base())}}
  assert extra <= {'method', 'model'}
  for path, value in leaves(config):
    plain = value if isinstance(value, tuple) else (value,)
    assert all(isinstance(item, int | float | str | None) for item in plain), path
  assert (config.method.name == 'full') == (set(config.method) == {'name'})
  assert ('fresh' in config.model) == (config.model.name == 'fresh')
  with pytest.raises(AttributeError, match='weight_dekay'):
    config.optim.weight_dekay = 0.1


@pytest.mark.parametrize('module', [glue, *NLG])
def test_tiny_is_a_toy_from_scratch_unless_a_model_is_named(module):
  toy = module.get_config('tiny=true')
  assert toy.model.name == 'fresh' and toy.model.fresh.num_layers == 2
  assert toy.data.max_length <= toy.model.fresh.max_positions
  assert toy.data.limit * toy.train.epochs <= 20 * toy.train.batch_size  # Steps.
  assert toy.paper_table == ''
  named = module.get_config('tiny=true,model=/models/toy')
  assert named.model.name == '/models/toy' and named.data.limit == toy.data.limit


@pytest.mark.parametrize(
  ('arg', 'model', 'task'),
  [
    ('model=/data/models/mini', '/data/models/mini', 'mrpc'),
    ('model=./a=1/b,task=rte', './a=1/b', 'rte'),
    ('task=rte,model=runs/r=8,lr=1e-3,seed=2', 'runs/r=8,lr=1e-3,seed=2', 'rte'),
    ('model=/odd,name/x,task=cola,preset=small', '/odd,name/x', 'cola'),
    ('model=C:/models/x', 'C:/models/x', 'mrpc'),
    ('model=FacebookAI/roberta-large', 'FacebookAI/roberta-large', 'mrpc'),
  ],
)
def test_a_folder_may_hold_commas_and_equals_signs(arg, model, task):
  config = glue.get_config(arg)
  assert (config.model.name, config.task) == (model, task)


@pytest.mark.parametrize(
  ('module', 'arg', 'message'),
  [
    (glue, 'tsk=mrpc', "unknown key 'tsk'.*Did you mean 'task'"),
    (glue, 'model=/a/b,taks=rte', "unknown key 'taks'.*Did you mean 'task'"),
    (glue, 'task=rte,lr=3', "unknown key 'lr'.*Known: task, model"),
    (glue, 'mrpc', "expected key=value, found 'mrpc'"),
    (glue, 'task=rte,', "expected key=value, found ''"),
    (glue, 'task=rte,task=cola', 'task is given twice'),
    (glue, 'task=STS-B', "unknown task 'STS-B'. Did you mean 'stsb'"),
    (glue, 'task=zzz', 'Known: cola, sst2'),
    (glue, 'method=lroa', "Did you mean 'lora'"),
    (glue, 'preset=papr', "Did you mean 'paper'"),
    (glue, 'model=roberta-bse', r"Did you mean 'roberta-base'.*\./roberta-bse"),
    (glue, 'preset=adapter_setup', 'model=roberta-large; found method=lora, model=roberta-base'),
    (glue, 'preset=adapter_setup,model=roberta-large,method=full', 'found method=full'),
    (glue, 'tiny=yes', "tiny is true or false, found 'yes'"),
    (e2e, 'model=gpt2-meduim', "Did you mean 'gpt2-medium'"),
    (e2e, 'task=webnlg', "unknown task 'webnlg'"),
    (e2e, 'preset=smal', "Did you mean 'small'.*Known: paper, script, llm, small"),
    (webnlg, 'modle=gpt2', "unknown key 'modle'.*Did you mean 'model'"),
    (webnlg, 'method=lroa', "Did you mean 'lora'"),
    (dart, 'task=drt', "unknown task 'drt'. Did you mean 'dart'"),
    (dart, 'targets=qkvo', "unknown targets 'qkvo'.*Known: qv, all"),
    (e2e, 'targets=all,method=full', 'targets=all is for method=lora, found method=full'),
    (pretrain, 'tokeniezr=x', "unknown key 'tokeniezr'.*Did you mean 'tokenizer'"),
    (pretrain, 'tiny=maybe', "tiny is true or false, found 'maybe'"),
    (demo, 'rnak=4', "unknown key 'rnak'.*Did you mean 'rank'"),
    (demo, 'model=x,rank=r4', "rank='r4': expected a whole number"),
    (demo, 'model=x,method=full,rank=8', 'rank=8 is for method=lora .*, found method=full'),
    (demo, 'rank=8', 'rank=8 is for method=lora on a pretrained model, found model=fresh'),
  ],
)
def test_what_is_unknown_is_refused_with_the_nearest_name(module, arg, message):
  with pytest.raises(ValueError, match=message):
    module.get_config(arg)


@pytest.mark.parametrize(
  ('module', 'seeds'),
  [(glue, 5), (gpt3, 3), (pretrain, 1), *((module, 3) for module in NLG)],
)
def test_a_sweep_yields_overrides_that_the_config_takes(module, seeds):
  runs = list(module.sweep())
  assert runs == [{'seed': seed} for seed in range(seeds)] == list(module.sweep('task=x'))
  config = module.get_config()
  config.update_from_flattened_dict(runs[-1])
  assert config.seed == seeds - 1


@pytest.mark.parametrize(
  'module',
  [compare, dart, demo, e2e, glue, gpt3, low_data, matrices, pretrain, rank, rates, sizes, webnlg],
)
def test_every_config_has_the_one_protocol(module):
  for function in (module.get_config, module.sweep):
    assert list(inspect.signature(function).parameters) == ['arg']


def test_flags_set_fields_and_refuse_unknown_ones(monkeypatch):
  monkeypatch.chdir(glue.__file__.rpartition('/configs/')[0])

  def parse(*args):
    values = flags.FlagValues()
    monkeypatch.setattr('sys.argv', ['train', *args])  # config_flags finds the overrides there.
    config_flags.DEFINE_config_file('config', flag_values=values)
    values(['train', *args])
    return values.config

  config = parse(
    '--config=configs/glue.py:task=cola,model=/a/b=c,preset=small',
    '--config.optim.lr=3e-4',
    '--config.model.hidden_dropout=0.2',
    "--config.method.targets=('.*/(query|key)', '.*/value')",
    "--config.method.train=('.*/bias',)",
    '--config.method.alpha=4',
  )
  assert (config.task, config.model.name, config.optim.lr) == ('cola', '/a/b=c', 3e-4)
  assert (config.model.hidden_dropout, config.model.attention_dropout) == (0.2, None)
  assert config.method.targets == ('.*/(query|key)', '.*/value')
  assert (config.method.train, config.method.alpha) == (('.*/bias',), 4.0)
  with pytest.raises(AttributeError, match='Did you mean "warmup_ratio"'):
    parse('--config=configs/glue.py', '--config.optim.warmup_rati=0.1')


@pytest.mark.parametrize('name', _base.METHODS)
def test_every_method_can_be_made_of_its_section(name):
  section = _base.method(name, _base.lora(rank=8, alpha=16))
  assert section.pop('name') == name
  method = methods.make(name, **section)
  assert method.virtual == (section.get('prefix', 0), section.get('infix', 0))
  for part in name.split('+'):
    assert part in methods.METHODS
  assert set(_base.METHODS) >= set(methods.METHODS)
