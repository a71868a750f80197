"""Makes adapters/: adapters of the toys in models/, by PEFT and by loralib, with their logits.

  python tests/golden/make_adapters.py                  # In an environment with torch,
  python tests/golden/make_adapters.py add CASE...      # transformers, peft and loralib.
  python tests/golden/make_adapters.py rates
  python tests/golden/make_adapters.py check FOLDER

The last form reads what tests/golden/make_exports.py wrote to FOLDER by lora_jax: it prints the
largest difference between our logits and those that transformers, PEFT and torch.load have of it.
Inputs are those of models/*/expected.npz. Factors and heads are random, none is zero.
"""

import importlib.metadata
import json
import pathlib
import shutil
import sys

import loralib
import numpy as np
import peft
import peft.optimizers
import torch
import transformers

HERE = pathlib.Path(__file__).parent
MODELS, FOLDER = HERE / 'models', HERE / 'adapters'
PACKAGES = ('torch', 'transformers', 'peft', 'loralib')
FIRST = 'bert.encoder.layer.1.attention.self.query'
PEFT = {  # Name, and the base in models/ before a dot: fields of PEFT's config of LoRA or VeRA.
  'bert.patterns': dict(
    r=4, lora_alpha=6, target_modules=['query', 'value', 'word_embeddings'], task_type='SEQ_CLS',
    rank_pattern={FIRST: 2, 'value': 3}, alpha_pattern={'layer.0.attention.self.value': 5},
  ),
  'bert.biases': dict(
    r=2, lora_alpha=3, target_modules=['output.dense'], task_type='SEQ_CLS', bias='all',
    modules_to_save=['pooler'], layers_to_transform=[1],
  ),
  'roberta.rslora': dict(
    r=3, lora_alpha=5, target_modules=['query', 'intermediate.dense'], use_rslora=True,
    task_type='SEQ_CLS', bias='lora_only',
  ),
  'deberta-v2.pooler': dict(
    r=4, lora_alpha=8, target_modules=['query_proj', 'value_proj'], modules_to_save=['pooler'],
    task_type='SEQ_CLS',
  ),
  'gpt2.fused': dict(
    r=4, lora_alpha=8, target_modules=['c_attn', 'mlp.c_proj', 'wpe'], task_type='CAUSAL_LM',
  ),
  'gpt2.biases': dict(r=2, lora_alpha=4, target_modules=['c_attn'], bias='lora_only'),
  'bert.bare': dict(
    r=4, lora_alpha=8, target_modules=['query', 'value', 'pooler.dense'], bias='all',
    task_type='FEATURE_EXTRACTION', alpha_pattern={'^encoder.layer.1.attention.self.query': 16},
    rank_pattern={'^encoder.layer.0.attention.self.value': 2},
  ),
  'gpt2.bare': dict(
    r=4, lora_alpha=8, target_modules=['c_attn', 'mlp.c_proj'], layers_to_transform=[1],
    layers_pattern='.*', alpha_pattern={'^h.1.attn.c_attn': 16},
  ),
  'bert.excluded': dict(
    r=4, lora_alpha=8, target_modules=['query', 'value'], task_type='SEQ_CLS',
    exclude_modules=r'bert\.encoder\.layer\.0\..*', init_lora_weights='mica',
  ),
  'bert.lookahead': dict(
    r=4, lora_alpha=8, target_modules=r'(?!bert\.encoder\.layer\.0\.).*\.(query|value)',
    task_type='SEQ_CLS',
  ),
  'bert.converted': dict(
    r=4, lora_alpha=8, target_modules=['query', 'value'], task_type='SEQ_CLS',
    init_lora_weights='pissa',
  ),
  'bert.dora': dict(
    r=4, lora_alpha=6, target_modules=['query', 'value', 'output.dense'], task_type='SEQ_CLS',
    rank_pattern={FIRST: 2}, use_dora=True,
  ),
  'gpt2.dora': dict(
    r=4, lora_alpha=8, target_modules=['c_attn', 'mlp.c_proj'], task_type='CAUSAL_LM',
    use_dora=True,
  ),
  'llama.dora': dict(
    r=2, lora_alpha=4, target_modules=['q_proj', 'down_proj'], task_type='CAUSAL_LM',
    use_dora=True, use_rslora=True,
  ),
  'roberta.resized': dict(
    r=4, lora_alpha=8, target_modules=['query', 'value'], task_type='SEQ_CLS',
  ),
  'llama.all': dict(r=4, lora_alpha=8, target_modules='all-linear', task_type='CAUSAL_LM'),
  'qwen2.biases': dict(
    r=2, lora_alpha=3, target_modules=['q_proj', 'v_proj'], bias='lora_only', task_type='CAUSAL_LM',
  ),
  'qwen3.output': dict(
    r=4, lora_alpha=8, target_modules=['k_proj', 'o_proj', 'gate_proj', 'lm_head'],
    rank_pattern={'lm_head': 2}, task_type='CAUSAL_LM',
  ),
  'bert.vera': dict(
    r=5, target_modules=['query', 'value', 'intermediate.dense', 'output.dense'],
    task_type='SEQ_CLS', projection_prng_key=5, vera_dropout=0.1,
  ),
  'gpt2.vera': dict(r=4, target_modules=['c_fc', 'mlp.c_proj'], task_type='CAUSAL_LM'),
  'llama.vera': dict(
    r=4, target_modules='all-linear', task_type='CAUSAL_LM', projection_prng_key=2**32 + 7,
    save_projection=False,
  ),
}  # fmt: skip
DECODERS = ('gpt2', 'llama', 'qwen2', 'qwen3')


def load(case):
  """The toy model of a case; the name of its base goes into PEFT's config."""
  name = case.split('.')[0]
  kind = transformers.AutoModelForSequenceClassification
  kind = transformers.AutoModelForCausalLM if name in DECODERS else kind
  return kind.from_pretrained(MODELS / name).eval(), name


def logits(model, name):
  case = np.load(MODELS / name / 'expected.npz')
  inputs = {'input_ids': case['input_ids'], 'attention_mask': case['mask']}
  if 'token_type_ids' in case:
    inputs['token_type_ids'] = case['token_type_ids']
  inputs = {key: torch.tensor(x.astype(np.int64)) for key, x in inputs.items()}
  with torch.no_grad():
    return model.eval()(**inputs).logits.numpy()


def randomise(model, seed):
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for parameter in model.parameters():
      if parameter.requires_grad:
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


def made_by_peft(case, fields, seed):
  whole, name = load(case)
  folder, kind = FOLDER / f'peft.{case}', case.split('.')[1]
  if kind == 'resized':
    whole.resize_token_embeddings(65)
  model = whole.base_model if kind == 'bare' else whole
  made = peft.VeraConfig if kind == 'vera' else peft.LoraConfig
  model = peft.get_peft_model(model, made(**fields))
  config = model.peft_config['default']
  config.base_model_name_or_path = str(MODELS / name)  # PEFT compares its number of words.
  options = {}
  if kind == 'converted':
    options['path_initial_model_for_weight_conversion'] = str(folder / 'start')
    config.init_lora_weights = True
    model.save_pretrained(folder / 'start')
    config.init_lora_weights = fields['init_lora_weights']
  randomise(model, seed)
  model.save_pretrained(folder, **options)
  if kind == 'converted':  # Only factors are saved: the head is the base's own.
    shutil.rmtree(folder / 'start')
    config = peft.PeftConfig.from_pretrained(folder)
    config.task_type = config.modules_to_save = None  # PEFT 0.21 demands the head that it left out.
    whole = peft.PeftModel.from_pretrained(load(case)[0], folder, config=config)
  path = folder / 'adapter_config.json'
  path.write_text(path.read_text().replace(str(MODELS), 'toys'))
  (folder / 'README.md').unlink()
  for path in folder.iterdir():
    path.chmod(0o644)
  np.savez_compressed(folder / 'expected.npz', logits=logits(whole, name))


def replaced(layer, new):
  """A layer of loralib's with the weights of another."""
  new.weight.data, new.bias.data = layer.weight.data, layer.bias.data
  return new


def roberta_by_loralib():
  model, name = load('roberta')
  for layer in model.roberta.encoder.layer:
    attention = layer.attention.self
    for part in ('query', 'value'):
      new = loralib.Linear(24, 24, r=4, lora_alpha=6, merge_weights=False)
      setattr(attention, part, replaced(getattr(attention, part), new))
  loralib.mark_only_lora_as_trainable(model)
  model.classifier.requires_grad_(True)
  randomise(model, 21)
  head = {key: x for key, x in model.state_dict().items() if key.startswith('classifier')}
  save(f'loralib.{name}', {**loralib.lora_state_dict(model), **head}, logits(model, name))


def gpt2_by_loralib():
  model, name = load('gpt2')
  for block in model.transformer.h:
    new = loralib.MergedLinear(
      24, 72, r=2, lora_alpha=16, enable_lora=[True, False, True], fan_in_fan_out=True,
      merge_weights=False,
    )  # fmt: skip
    block.attn.c_attn = replaced(block.attn.c_attn, new)
  loralib.mark_only_lora_as_trainable(model)
  randomise(model, 22)
  state = loralib.lora_state_dict(model)
  expected = logits(model, name)
  wrapped = {f'module.{key}': x for key, x in state.items()}
  save(f'loralib.{name}', {'model_state_dict': wrapped}, expected)
  # As the authors' snapshot of September 2021 names the same.
  snapshot = {}
  for key, x in wrapped.items():
    root, factor = key.split('.c_attn.lora_')
    for part, half in zip('qv', x.chunk(2)):
      snapshot[f'{root}.{part}_proj_adapter{1 if factor == "A" else 2}.weight'] = half.clone()
  save(f'loralib.{name}.snapshot', snapshot, expected)


def save(name, held, expected):
  (FOLDER / name).mkdir()
  torch.save(held, FOLDER / name / 'adapter.bin')
  np.savez_compressed(FOLDER / name / 'expected.npz', logits=expected)


def check(folder):
  """Prints how far what lora_jax exported is from what is computed with it here."""
  for path in sorted(folder.iterdir()):
    ours = np.load(path / 'ours.npz')['logits']
    case = path.name.split('.', 1)[1]
    model, name = load(case)
    if path.name.startswith('merged'):
      model = type(model).from_pretrained(path)
    elif path.name.startswith('peft'):
      model = peft.PeftModel.from_pretrained(model, path)
      missing = peft.set_peft_model_state_dict(
        model, peft.utils.load_peft_weights(str(path), device='cpu')
      ).unexpected_keys
      assert not missing, missing
    else:
      held = torch.load(path / 'adapter.bin', weights_only=True)
      theirs = torch.load(FOLDER / path.name / 'adapter.bin', weights_only=True)
      held, theirs = (x.get('model_state_dict', x) for x in (held, theirs))
      if 'snapshot' not in case:
        assert held.keys() == theirs.keys() and all(torch.equal(held[k], theirs[k]) for k in held)
      print(f'{path.name}: {len(held)} tensors, equal')
      continue
    mask = np.load(MODELS / name / 'expected.npz')['mask'] == 1
    found = logits(model, name)
    found, ours = (x[mask] if x.ndim == 3 else x for x in (found, ours))  # Not of padding.
    print(f'{path.name}: {np.abs(found - ours).max():.2e} of {np.abs(ours).max():.2f}')


def rates(case='bert.patterns', rate=1e-3, ratio=16):
  """Writes how many times the rate each parameter has in PEFT's optimizer of LoRA+."""
  model = peft.get_peft_model(load(case)[0], peft.LoraConfig(**PEFT[case]))
  optimizer = peft.optimizers.create_loraplus_optimizer(
    model, torch.optim.AdamW, lr=rate, loraplus_lr_ratio=ratio
  )
  names = {id(x): name.replace('.default', '') for name, x in model.named_parameters()}
  found = {
    names[id(x)]: group['lr'] / rate for group in optimizer.param_groups for x in group['params']
  }
  (FOLDER / f'peft.{case}' / 'rates.json').write_text(json.dumps(found, indent=1) + '\n')


def starts(case='bert.converted'):
  """Writes the factors with which PEFT's PiSSA and OLoRA start."""
  for kind in ('pissa', 'olora'):
    fields = {**PEFT[case], 'init_lora_weights': kind}
    model = peft.get_peft_model(load(case)[0], peft.LoraConfig(**fields))
    found = {
      name.split('model.model.')[1].replace('.default', ''): x.detach().numpy()
      for name, x in model.named_parameters()
      if 'lora_' in name
    }
    np.savez_compressed(FOLDER / f'peft.{case}' / f'{kind}.npz', **found)


def main():
  if sys.argv[1:2] == ['check']:
    return check(pathlib.Path(sys.argv[2]))
  if sys.argv[1:2] == ['rates']:
    return rates() or starts()
  if sys.argv[1:2] == ['add']:
    for case in sys.argv[2:]:
      made_by_peft(case, PEFT[case], list(PEFT).index(case))
    return None
  shutil.rmtree(FOLDER, ignore_errors=True)
  FOLDER.mkdir()
  torch.manual_seed(0)
  for seed, (case, fields) in enumerate(PEFT.items()):
    made_by_peft(case, fields, seed)
  rates()
  starts()
  roberta_by_loralib()
  gpt2_by_loralib()
  versions = {name: importlib.metadata.version(name) for name in PACKAGES}
  (FOLDER / 'versions.json').write_text(json.dumps(versions, indent=2) + '\n')
  return None


if __name__ == '__main__':
  main()
