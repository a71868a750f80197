"""Makes peft_matching.json: which modules PEFT gives factors, with which rank and alpha.

  python tests/golden/make_peft_matching.py     # In an environment with torch, transformers, peft.

For each of a few hundred generated configs PEFT wraps a toy model, with its head or bare. Modules
are numbers in the list of those that can have factors, grouped by `rank,alpha`; an error is its
first words.
"""

import importlib.metadata
import json
import pathlib
import random
import warnings

import peft
import transformers
from peft.tuners.lora import LoraLayer

FILE = pathlib.Path(__file__).parent / 'peft_matching.json'
PACKAGES = ('torch', 'transformers', 'peft')
CASES = 60  # Of each model.
SIZES = dict(
  vocab_size=20, hidden_size=8, num_hidden_layers=12, num_attention_heads=2, intermediate_size=8
)
DEBERTA = dict(
  relative_attention=True, position_buckets=4, pos_att_type=['c2p', 'p2c'], share_att_key=True,
  norm_rel_ebd='layer_norm', position_biased_input=False, type_vocab_size=0, conv_kernel_size=3,
)  # fmt: skip
CONFIGS = {
  'bert': transformers.BertConfig(**SIZES),
  'roberta': transformers.RobertaConfig(**SIZES),
  'deberta-v2': transformers.DebertaV2Config(**SIZES, **DEBERTA),
  'gpt2': transformers.GPT2Config(vocab_size=20, n_embd=8, n_layer=12, n_head=2),
}
KINDS = {'Linear': 'linear', 'Conv1D': 'linear', 'Embedding': 'other', 'Conv1d': 'other'}


def build(family, bare):
  if bare:
    kind = transformers.AutoModel
  elif family == 'gpt2':
    kind = transformers.AutoModelForCausalLM
  else:
    kind = transformers.AutoModelForSequenceClassification
  return kind.from_config(CONFIGS[family])


def spelling(rng, name):
  """A way to write a module's name: an end of it, with anchors, wildcards or another layer."""
  parts = name.split('.')
  end = '.'.join(parts[-rng.randint(1, min(len(parts), 4)) :])
  return rng.choice(
    [
      end,
      end,
      name,
      f'^{name}',
      f'^{end}',
      f'.*{end}',
      name.replace('.', r'\.'),
      rf'.*\.{end}',
      f'{end}$',
      end[1:],
      end.upper(),
      f'bert.{name}',
      name.partition('.')[2] or name,
      rf'.*\.(1|11)\..*{parts[-1]}',
      rf'(?!.*\.0\.).*{parts[-1]}',
      rf'(?!(bert|roberta|deberta|transformer)\.).*{parts[-1]}',
    ]
  )


def fields_of(rng, modules, family, bare):
  """The fields of a config, with a taste for modules of layers."""
  names = list(modules)
  usual = {'gpt2': ['c_attn', 'c_proj', 'mlp.c_fc', 'attn.c_proj', 'wpe']}.get(
    family, ['query', 'value', 'query_proj', 'dense', 'output.dense', 'key', 'word_embeddings']
  )
  one = lambda: rng.choice([rng.choice(usual), spelling(rng, rng.choice(names))])
  some = lambda most: [one() for _ in range(rng.randint(1, most))]
  form = rng.random()
  fields = dict(r=rng.choice([2, 4]), lora_alpha=rng.choice([4, 8, 6]))
  if form < 0.6:
    fields['target_modules'] = [rng.choice(usual), *some(3)]
  elif form < 0.8:
    fields['target_modules'] = rng.choice([spelling(rng, rng.choice(names)), '.*(query|c_attn).*'])
  elif form < 0.9:
    fields['target_modules'] = rng.choice(['all-linear', 'ALL-linear'])
  if rng.random() < 0.35:
    fields['exclude_modules'] = rng.choice([some(2), spelling(rng, rng.choice(names))])
  if rng.random() < 0.3:
    layers = [1, [0], [1, 11], [], [2, 40]]
    fields['layers_to_transform'] = rng.choice(layers)
    if rng.random() < 0.6:
      fields['layers_pattern'] = rng.choice(['layer', 'h', ['h', 'layer'], '', [], 'blocks', 'r'])
  for key, numbers in (('rank_pattern', [1, 3, 6]), ('alpha_pattern', [1, 16, 3])):
    if rng.random() < 0.5:
      fields[key] = {one(): rng.choice(numbers) for _ in range(rng.randint(1, 3))}
  if rng.random() < 0.3:
    fields['modules_to_save'] = [rng.choice(['pooler', 'classifier', 'h', one(), 'wte', 'layer.1'])]
  if not bare and rng.random() < 0.5:
    fields['task_type'] = 'CAUSAL_LM' if family == 'gpt2' else 'SEQ_CLS'
  if bare and rng.random() < 0.3:
    fields['task_type'] = 'FEATURE_EXTRACTION'
  return fields


def decision(family, bare, modules, fields):
  """The modules by `rank,alpha`, or the beginning of the error."""
  model = build(family, bare)
  numbers = {name: i for i, name in enumerate(modules)}
  try:
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**json.loads(json.dumps(fields))))
  except Exception as error:  # Whatever it is, a file cannot have this config.
    return {'error': f'{type(error).__name__}: {error}'[:48]}
  groups = {}
  for name, module in wrapped.base_model.model.named_modules():
    if isinstance(module, LoraLayer):
      key = f'{module.r["default"]},{module.lora_alpha["default"]}'
      groups.setdefault(key, []).append(numbers[name])
  return {'found': groups}


def main():
  warnings.simplefilter('ignore')
  rng = random.Random(0)
  models, cases = {}, []
  for family in CONFIGS:
    for bare in (False, True):
      key = f'{family} bare' if bare else family
      every = build(family, bare).named_modules()
      kinds = {name: KINDS[kind] for name, x in every if (kind := type(x).__name__) in KINDS}
      kinds = dict(sorted(kinds.items(), key=lambda item: item[1]))  # Dense layers first.
      models[key] = {kind: [n for n, k in kinds.items() if k == kind] for kind in KINDS.values()}
      for _ in range(CASES):
        fields = fields_of(rng, kinds, family, bare)
        cases.append({'model': key, 'fields': fields, **decision(family, bare, kinds, fields)})
  versions = {name: importlib.metadata.version(name) for name in PACKAGES}
  compact = lambda x: json.dumps(x, separators=(',', ':'))
  lines = ',\n'.join(map(compact, cases))
  head = f'"versions":{compact(versions)},\n"models":{compact(models)}'
  FILE.write_text(f'{{{head},\n"cases":[\n{lines}\n]}}\n')


if __name__ == '__main__':
  main()
