"""The configs say what the paper and the authors' scripts say, and refuse what they do not know."""

import re

import pytest
from absl import flags
from ml_collections import config_dict, config_flags

from configs import base, dart, demo, e2e, glue, gpt3, pretrain, rank, webnlg
from lora_jax import methods

NLG = (e2e, webnlg, dart)
ALL = [(glue, f'task={task},preset={preset}') for task in glue.TASKS for preset in
       ('paper', 'script', 'small')] + [
  (glue, 'model=roberta-large'), (glue, 'model=roberta-large,preset=dagger'),
  (glue, 'model=deberta-v2-xxlarge'), (glue, 'preset=compare'),
  (glue, 'method=full,preset=small'), (glue, 'tiny=true'),
  (e2e, ''), (e2e, 'model=gpt2-large,preset=script'), (e2e, 'model=fresh,method=full'),
  (e2e, 'model=gpt2-large,method=adapter_l'), (e2e, 'tiny=true'),
  (e2e, 'model=runs/pretrain,targets=all'),
  (webnlg, ''), (webnlg, 'preset=script'), (webnlg, 'tiny=true'), (dart, ''),
  (dart, 'method=full,preset=small'), (dart, 'tiny=true'), (pretrain, ''), (pretrain, 'tiny=true'),
  (gpt3, ''), (gpt3, 'task=samsum,method=full'), (gpt3, 'task=mnli_text,tiny=true'),
  (demo, ''), (demo, 'model=runs/demo/pretrain,rank=8'), (rank, 'task=e2e'),
]  # fmt: skip


def leaves(config, prefix=''):
  for key, value in config.items():
    if isinstance(value, config_dict.ConfigDict):
      yield from leaves(value, f'{prefix}{key}.')
    else:
      yield prefix + key, value


@pytest.mark.parametrize(('module', 'arg'), ALL)
def test_a_config_has_every_field_is_locked_and_holds_plain_values(module, arg):
  config = module.get_config(arg)
  assert config.is_locked
  fields = {path for path, _ in leaves(config)}
  assert {path for path, _ in leaves(base.base())} <= fields
  extra = {path.split('.')[0] for path in fields - {path for path, _ in leaves(base.base())}}
  assert extra <= {'method', 'model'}
  for path, value in leaves(config):
    plain = value if isinstance(value, tuple) else (value,)
    assert all(isinstance(item, int | float | str | None) for item in plain), path
  assert (config.method.name == 'full') == (set(config.method) == {'name'})
  assert ('fresh' in config.model) == (config.model.name == 'fresh')
  with pytest.raises(AttributeError, match='weight_dekay'):
    config.optim.weight_dekay = 0.1


# The tables typed a second time, by columns, as paper.md has them: lr, batch, epochs, length.
COLUMNS = ('mnli', 'sst2', 'mrpc', 'cola', 'qnli', 'qqp', 'rte', 'stsb')
ROWS = {
  'roberta-base,preset=paper': (
    '5e-4 5e-4 4e-4 4e-4 4e-4 5e-4 5e-4 4e-4',
    '16 16 16 32 32 16 32 16',
    '30 60 30 80 25 25 80 40',
    '512 512 512 512 512 512 512 512',
  ),
  'roberta-base,preset=script': (
    '5e-4 5e-4 4e-4 4e-4 4e-4 5e-4 5e-4 4e-4',
    '128 128 128 64 256 128 256 128',
    '30 60 30 80 25 25 80 40',
    '512 512 512 512 512 512 512 512',
  ),
  'roberta-large,preset=paper': (
    '3e-4 4e-4 3e-4 2e-4 2e-4 3e-4 4e-4 2e-4',
    '4 4 4 4 4 4 8 8',
    '10 10 20 20 10 20 20 30',
    '128 128 512 128 512 512 512 512',
  ),
  'roberta-large,preset=script': (
    '3e-4 4e-4 3e-4 3e-4 2e-4 3e-4 4e-4 3e-4',
    '32 64 32 32 32 32 64 32',
    '10 10 20 20 10 20 20 10',
    '128 512 512 128 512 512 512 128',
  ),
  'roberta-large,preset=dagger': (
    '3e-4 4e-4 3e-4 2e-4 2e-4 3e-4 4e-4 2e-4',
    '4 4 4 4 4 4 4 4',
    '10 10 20 20 10 20 20 10',
    '128 128 128 128 128 128 128 128',
  ),
}


@pytest.mark.parametrize('row', ROWS)
def test_glue_settings_are_those_of_table_9_and_of_the_scripts(row):
  found = []
  for task in COLUMNS:
    c = glue.get_config(f'task={task},model={row}')
    found.append((c.optim.lr, c.train.batch_size, c.train.epochs, c.data.max_length))
    assert c.cell == ('table 2 †' if 'dagger' in row else 'table 2')
    assert (c.method.rank, c.optim.warmup_ratio, c.optim.schedule) == (8, 0.06, 'linear')
    assert c.method.alpha == (8 if row == 'roberta-base,preset=paper' else 16)
    assert (c.optim.weight_decay, c.optim.clip) == (0.1, 1.0)
  assert [*zip(*found)] == [tuple(float(x) for x in column.split()) for column in ROWS[row]]


def test_small_encoders_train_at_the_settings_of_the_independent_run():
  for task, epochs in (('mrpc', 10), ('stsb', 8), ('cola', 10), ('rte', 10)):
    c = glue.get_config(f'task={task},model=/models/minilm,preset=small')
    assert (c.optim.lr, c.optim.weight_decay, c.optim.warmup_ratio) == (1e-3, 0.1, 0.06)
    assert (c.train.batch_size, c.train.epochs, c.optim.clip) == (32, epochs, 1.0)
    assert (c.method.rank, c.method.alpha, c.data.max_length) == (8, 16, 128)
    assert c.cell == ''


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
  weight_decay, dropout, smoothing, length_penalty, cell = TABLE_11[module]
  assert (c.experiment, c.task, c.cell) == (*[module.__name__.rpartition('.')[2]] * 2, cell)
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
    'preset', 'seed', 'eval.every_steps', 'checkpoint.every_steps',
  }  # fmt: skip
  assert ('decode.length_penalty' in changed) == (module is e2e)


@pytest.mark.parametrize('module', NLG)
def test_a_model_that_is_no_gpt2_by_name_is_small(module):
  for name in ('runs/pretrain', './gpt2-mine', 'fresh'):
    assert module.get_config(f'model={name}').preset == 'small'
  for name in ('gpt2', '/models/gpt2-medium/', 'openai-community/gpt2-xl'):
    assert module.get_config(f'model={name}').preset == 'paper'
  assert module.get_config('model=runs/pretrain,preset=paper').optim.lr == 2e-4
  lora, full = (module.get_config(f'model=runs/pretrain,method={m}') for m in ('lora', 'full'))
  assert lora.cell == full.cell == ''
  assert (lora.method.rank, lora.method.alpha, lora.method.dropout) == (4, 32, 0)
  # What the two differ in besides the method is the rate alone.
  differing = {path for path, value in leaves(lora) if dict(leaves(full)).get(path) != value}
  assert {path for path in differing if not path.startswith('method.')} == {'optim.lr'}
  # The positions that pretraining has trained.
  assert lora.data.max_length <= pretrain.get_config().data.max_length


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
  assert e2e.get_config('targets=all').cell == ''


def test_the_base_model_is_trained_on_the_corpus_and_its_vocabulary():
  c = pretrain.get_config('tokenizer=runs/v=8k,x/tokenizer')
  assert (c.task, c.model.name, c.method.name) == ('corpus', 'fresh', 'full')
  assert c.data.tokenizer == 'runs/v=8k,x/tokenizer'
  fresh = c.model.fresh
  assert (fresh.num_layers, fresh.hidden_size, fresh.num_heads) == (6, 256, 4)
  assert (fresh.vocab_size, fresh.max_positions) == (8192, 512)
  assert c.train.batch_size * c.data.max_length == 2048
  toy = pretrain.get_config('tiny=true')
  assert toy.data.limit and toy.model.fresh.num_layers == 2
  assert toy.data.max_length <= toy.model.fresh.max_positions
  assert list(pretrain.sweep()) == [{'seed': 0}]


def test_the_demo_decodes_the_domain_it_is_adapted_to_within_its_positions():
  base_model, adapted = demo.get_config(), demo.get_config('model=runs/demo/pretrain')
  assert adapted.decode.max_tokens + 44 <= base_model.model.fresh.max_positions


def test_a_fresh_gpt2_is_the_small_one_with_gpt2s_vocabulary():
  fresh = e2e.get_config('model=fresh,method=full').model.fresh
  assert fresh.to_dict() == dict(
    family='gpt2', vocab_size=50257, hidden_size=256, num_layers=6, num_heads=4,
    intermediate_size=1024, max_positions=512,
  )  # fmt: skip


@pytest.mark.parametrize('module', [glue, *NLG])
def test_tiny_is_a_toy_from_scratch_unless_a_model_is_named(module):
  toy = module.get_config('tiny=true')
  assert toy.model.name == 'fresh' and toy.model.fresh.num_layers == 2
  assert toy.data.max_length <= toy.model.fresh.max_positions
  assert toy.data.limit * toy.train.epochs <= 20 * toy.train.batch_size  # Steps.
  assert toy.cell == ''
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


def test_a_folder_of_roberta_large_takes_its_rows():
  assert glue.get_config('model=/m/roberta-large/').train.epochs == 20
  assert glue.get_config('model=/m/my-encoder').train.epochs == 30


@pytest.mark.parametrize(
  ('module', 'arg', 'message'),
  [
    (glue, 'tsk=mrpc', "Unknown key 'tsk'.*Did you mean task"),
    (glue, 'model=/a/b,taks=rte', "Unknown key 'taks'.*Did you mean task"),
    (glue, 'task=rte,lr=3', "Unknown key 'lr'.*Known: task, model"),
    (glue, 'mrpc', "Expected key=value, found 'mrpc'"),
    (glue, 'task=rte,', "Expected key=value, found ''"),
    (glue, 'task=rte,task=cola', 'task is given twice'),
    (glue, 'task=STS-B', "Unknown task 'STS-B'. Did you mean stsb"),
    (glue, 'task=zzz', 'Known: cola, sst2'),
    (glue, 'method=lroa', 'Did you mean lora'),
    (glue, 'preset=papr', 'Did you mean paper'),
    (glue, 'model=roberta-bse', r'Did you mean roberta-base.*\./roberta-bse'),
    (glue, 'preset=dagger', 'model=roberta-large; found method=lora, model=roberta-base'),
    (glue, 'preset=dagger,model=roberta-large,method=full', 'found method=full'),
    (glue, 'tiny=yes', "tiny is true or false, found 'yes'"),
    (e2e, 'model=gpt2-meduim', 'Did you mean gpt2-medium'),
    (e2e, 'task=webnlg', "Unknown task 'webnlg'"),
    (e2e, 'preset=smal', 'Did you mean small.*Known: paper, script, small'),
    (webnlg, 'modle=gpt2', "Unknown key 'modle'.*Did you mean model"),
    (webnlg, 'method=lroa', 'Did you mean lora'),
    (dart, 'task=drt', "Unknown task 'drt'. Did you mean dart"),
    (dart, 'targets=qkvo', "Unknown targets 'qkvo'.*Known: qv, all"),
    (e2e, 'targets=all,method=full', 'targets=all is for method=lora, found method=full'),
    (pretrain, 'tokeniser=x', "Unknown key 'tokeniser'.*Did you mean tokenizer"),
    (pretrain, 'tiny=maybe', "tiny is true or false, found 'maybe'"),
    (demo, 'rnak=4', "Unknown key 'rnak'.*Did you mean rank"),
  ],
)
def test_what_is_unknown_is_refused_with_the_nearest_name(module, arg, message):
  with pytest.raises(ValueError, match=message):
    module.get_config(arg)


@pytest.mark.parametrize(('module', 'seeds'), [(glue, 5), *((module, 3) for module in NLG)])
def test_a_sweep_yields_overrides_that_the_config_takes(module, seeds):
  runs = list(module.sweep())
  assert [run['seed'] for run in runs] == list(range(seeds))
  runs = list(module.sweep(range(2), (1e-3, 1e-4)))
  assert [(r['optim.lr'], r['seed']) for r in runs] == [(1e-3, 0), (1e-3, 1), (1e-4, 0), (1e-4, 1)]
  config = module.get_config()
  config.update_from_flattened_dict(runs[-1])
  assert (config.seed, config.optim.lr) == (1, 1e-4)


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


@pytest.mark.parametrize('name', base.METHODS)
def test_every_method_can_be_made_of_its_section(name):
  section = base.method(name, base.lora(rank=8, alpha=16))
  assert section.pop('name') == name
  method = methods.make(name, **section)
  assert method.virtual == (section.get('prefix', 0), section.get('infix', 0))
  for part in name.split('+'):
    assert part in methods.METHODS
  assert set(base.METHODS) >= set(methods.METHODS)


# Table 9, Adpt-P and Adpt-H on RoBERTa-large: lr, epochs, bottleneck.
@pytest.mark.parametrize(
  'arg, expected',
  [
    ('method=adapter_p,task=mnli', (3e-4, 5, 16)),
    ('method=adapter_p,task=mnli,bottleneck=64', (3e-5, 10, 64)),
    ('method=adapter_p,task=sst2,bottleneck=64', (3e-5, 20, 64)),
    ('method=adapter_h,task=sst2', (3e-4, 5, 8)),
    ('method=adapter_h,task=stsb,bottleneck=64', (3e-4, 10, 64)),
    ('method=adapter_h,task=rte', (3e-4, 20, 8)),
  ],
)
def test_the_adapters_of_table_9(arg, expected):
  config = glue.get_config(f'model=roberta-large,preset=dagger,{arg}')
  assert (config.optim.lr, config.train.epochs, config.method.bottleneck) == expected
  assert (config.train.batch_size, config.data.max_length, config.cell) == (32, 128, 'table 2 †')


@pytest.mark.parametrize(
  'arg, message',
  [
    ('method=bitfit', 'preset=paper has no settings of method=bitfit'),
    ('model=roberta-large,preset=dagger,method=bitfit', "table 9's rows of method=lora"),
    ('model=roberta-large,preset=dagger,method=adapter_h,bottleneck=9', 'Known: 8, 64'),
    ('preset=small,method=adapter_h,bottleneck=9', 'bottleneck picks a row of preset=dagger'),
  ],
)
def test_settings_that_the_paper_does_not_have(arg, message):
  with pytest.raises(ValueError, match=message):
    glue.get_config(arg)


# Tables 12, 15 and 17: argument -> lr, batch, epochs, method's options.
GPT3 = {
  'method=full': (5e-6, 128, 2, {}),
  'method=bitfit': (1.6e-3, 128, 2, {}),
  'method=prefix_embed': (5e-4, 128, 2, dict(prefix=256, infix=8)),
  'method=prefix_layer': (1e-4, 128, 2, dict(prefix=8, infix=8)),
  'method=adapter_h,size=high': (1e-4, 128, 2, dict(bottleneck=8)),
  'method=lora': (2e-4, 128, 2, dict(rank=1, alpha=1.0)),
  'method=lora,size=high': (2e-4, 128, 2, dict(rank=8, alpha=8.0)),
  'method=lora+prefix_embed,size=high': (2e-4, 128, 2, dict(rank=64, prefix=8, infix=4)),
  'task=mnli_text,examples=100': (2e-4, 20, 40, dict(rank=1)),
  'task=mnli_text,examples=10k,method=prefix_embed': (4e-4, 100, 4, dict(prefix=64)),
  'task=mnli_text,examples=1k,method=prefix_layer': (5e-5, 20, 40, dict(prefix=8, infix=8)),
  'task=mnli_text,method=prefix_layer': (1e-4, 128, 2, dict(prefix=8, infix=8)),
}


@pytest.mark.parametrize('arg', GPT3)
def test_gpt3s_settings_are_the_papers(arg):
  config = gpt3.get_config(arg)
  lr, batch_size, epochs, options = GPT3[arg]
  assert config.optim.lr == lr and config.optim.weight_decay == 0.1
  assert (config.train.batch_size, config.train.epochs) == (batch_size, epochs)
  assert options.items() <= config.method.to_dict().items()
  tokens = config.optim.warmup_steps * batch_size * config.data.max_length
  assert abs(tokens - 250_000) <= batch_size * config.data.max_length / 2
  methods.make(config.method.name, **{k: v for k, v in config.method.items() if k != 'name'})


def test_gpt3s_mistakes_are_answered_with_what_there_is():
  for arg, message in {
    'task=wikisq': "Unknown task 'wikisq'. Did you mean wikisql",
    'method=adapter_d': 'Did you mean adapter_h',
    'method=full,size=high': 'method=full has one in tables 4 and 15',
    'size=big': 'method=lora has low, high in tables 4 and 15',
    'examples=1k': 'table 16 is of task=mnli_text, found wikisql',
  }.items():
    with pytest.raises(ValueError, match=re.escape(message)):
      gpt3.get_config(arg)
