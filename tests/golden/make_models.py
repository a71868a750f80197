"""Makes the model goldens: toy checkpoints and what transformers computes with them.

  python tests/golden/make_models.py     # In an environment with torch and transformers.

For each case a folder in Hugging Face layout under models/, with `expected.npz`: inputs, logits,
loss, and the gradients of the loss in a few parameters by their names there. Weights are larger
than at initialization, biases and norms are not zero and one, so that no term can go unseen.
"""

import json
import pathlib

import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).parent / 'models'
SIZES = dict(
  vocab_size=61, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40
)
POSITIONS = 16
LENGTHS = (16, 1, 9, 5)  # The longest ends at the last position.


def randomise(model, seed):
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      noise = torch.randn(parameter.shape, generator=generator)
      parameter.copy_((1 if 'norm.weight' in name.lower() or 'ln_' in name else 0) + 0.3 * noise)
  return model.eval()


def inputs(seed, pad, types):
  rng = np.random.default_rng(seed)
  ids = rng.integers(3, 61, (len(LENGTHS), max(LENGTHS)))
  mask = np.arange(ids.shape[1])[None] < np.array(LENGTHS)[:, None]
  token_types = rng.integers(0, types, ids.shape) * mask
  return np.where(mask, ids, pad), mask.astype(np.int64), token_types


def save(name, model, loss, gradients, **arrays):
  loss.backward()
  folder = HERE / name
  model.save_pretrained(folder)
  for path in folder.iterdir():
    if path.name not in ('config.json', 'model.safetensors'):
      path.unlink()
    else:
      path.chmod(0o644)
  parameters = dict(model.named_parameters())
  arrays |= {f'grad:{key}': parameters[key].grad.numpy() for key in gradients}
  arrays = {
    key: value.astype(np.int32) if value.dtype == np.int64 else value
    for key, value in arrays.items()
  }
  np.savez_compressed(folder / 'expected.npz', loss=loss.detach().numpy(), **arrays)


def encoder(name, kind, config, labels, seed):
  model = randomise(kind(config), seed)
  ids, mask, token_types = inputs(seed, config.pad_token_id, config.type_vocab_size)
  out = model(
    torch.tensor(ids),
    attention_mask=torch.tensor(mask),
    token_type_ids=torch.tensor(token_types),
    labels=torch.tensor(labels),
  )
  prefix = model.base_model_prefix
  last = {'bert': 'classifier.weight', 'roberta': 'classifier.out_proj.weight'}[prefix]
  gradients = (
    f'{prefix}.embeddings.word_embeddings.weight',
    f'{prefix}.embeddings.position_embeddings.weight',
    f'{prefix}.embeddings.LayerNorm.weight',
    f'{prefix}.encoder.layer.0.attention.self.query.weight',
    f'{prefix}.encoder.layer.1.attention.self.value.bias',
    f'{prefix}.encoder.layer.1.intermediate.dense.weight',
    f'{prefix}.encoder.layer.1.output.LayerNorm.bias',
    last,
  )
  save(
    name, model, out.loss, gradients, input_ids=ids, mask=mask, token_type_ids=token_types,
    labels=np.asarray(labels), logits=out.logits.detach().numpy(),
  )  # fmt: skip


def deberta(name, labels, seed, **options):
  """Rows of up to 40 tokens: of 8 buckets for distances below 24, some in each and some beyond."""
  config = transformers.DebertaV2Config(
    **SIZES, max_position_embeddings=24, type_vocab_size=0, pad_token_id=0,
    relative_attention=True, position_buckets=8, norm_rel_ebd='layer_norm', share_att_key=True,
    pos_att_type='p2c|c2p', position_biased_input=False, **options,
  )  # fmt: skip
  model = randomise(transformers.DebertaV2ForSequenceClassification(config), seed)
  lengths = np.array((40, 1, 17, 6))
  rng = np.random.default_rng(seed)
  mask = np.arange(lengths.max())[None] < lengths[:, None]
  ids = np.where(mask, rng.integers(3, 61, mask.shape), 0)
  mask = mask.astype(np.int64)
  labels = torch.tensor(labels)
  out = model(torch.tensor(ids), attention_mask=torch.tensor(mask), labels=labels)
  gradients = [
    'deberta.embeddings.word_embeddings.weight',
    'deberta.embeddings.LayerNorm.weight',
    'deberta.encoder.rel_embeddings.weight',
    'deberta.encoder.LayerNorm.weight',
    'deberta.encoder.layer.0.attention.self.query_proj.weight',
    'deberta.encoder.layer.1.attention.self.key_proj.weight',
    'deberta.encoder.layer.1.attention.self.value_proj.bias',
    'deberta.encoder.layer.1.output.LayerNorm.bias',
    'pooler.dense.weight',
    'classifier.weight',
  ]
  if options.get('conv_kernel_size'):
    gradients += [f'deberta.encoder.conv.{x}' for x in ('conv.weight', 'LayerNorm.weight')]
  save(
    name, model, out.loss, gradients, input_ids=ids, mask=mask, labels=labels.numpy(),
    logits=out.logits.detach().numpy(),
  )  # fmt: skip


def llama(name, kind, seed, gradients=(), **options):
  """A model of the Llama family: 4 heads of queries for 2 of keys and values."""
  sizes = SIZES | dict(num_attention_heads=4, num_key_value_heads=2)
  config = getattr(transformers, f'{kind}Config')(
    **sizes, max_position_embeddings=POSITIONS, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    **options,
  )  # fmt: skip
  model = randomise(getattr(transformers, f'{kind}ForCausalLM')(config), seed)
  every = (
    'model.embed_tokens.weight',
    'model.layers.0.self_attn.q_proj.weight',
    'model.layers.1.self_attn.k_proj.weight',
    'model.layers.0.self_attn.v_proj.weight',
    'model.layers.1.self_attn.o_proj.weight',
    'model.layers.0.mlp.gate_proj.weight',
    'model.layers.1.mlp.up_proj.weight',
    'model.layers.1.mlp.down_proj.weight',
    'model.layers.1.post_attention_layernorm.weight',
    'model.norm.weight',
  )
  language_model(name, model, (*every, *gradients), seed)


def llama_classifier(name, seed):
  """The prediction is that of the last token before the padding."""
  sizes = SIZES | dict(num_attention_heads=4, num_key_value_heads=2)
  config = transformers.LlamaConfig(
    **sizes, max_position_embeddings=POSITIONS, pad_token_id=0, num_labels=3
  )
  model = randomise(transformers.LlamaForSequenceClassification(config), seed)
  ids, mask, _ = inputs(seed, 0, 1)
  labels = torch.tensor([0, 2, 1, 1])
  out = model(torch.tensor(ids), attention_mask=torch.tensor(mask), labels=labels)
  gradients = ('model.embed_tokens.weight', 'model.layers.1.mlp.down_proj.weight', 'score.weight')
  save(
    name, model, out.loss, gradients, input_ids=ids, mask=mask, labels=labels.numpy(),
    logits=out.logits.detach().numpy(),
  )  # fmt: skip


def gpt2(name, seed):
  config = transformers.GPT2Config(
    vocab_size=61, n_positions=POSITIONS, n_embd=24, n_layer=2, n_head=3, n_inner=40,
    bos_token_id=0, eos_token_id=0,
  )  # fmt: skip
  gradients = (
    'transformer.wte.weight',
    'transformer.wpe.weight',
    'transformer.h.0.attn.c_attn.weight',
    'transformer.h.1.attn.c_attn.bias',
    'transformer.h.1.attn.c_proj.weight',
    'transformer.h.0.mlp.c_fc.weight',
    'transformer.h.1.ln_2.weight',
    'transformer.ln_f.bias',
  )
  language_model(name, randomise(transformers.GPT2LMHeadModel(config), seed), gradients, seed)


def language_model(name, model, gradients, seed):
  ids, mask, _ = inputs(seed, 0, 1)
  # Loss on target tokens: the first third of each row is context.
  context = np.array(LENGTHS)[:, None] // 3
  target = (np.arange(ids.shape[1])[None] >= np.maximum(context, 1)) & (mask == 1)
  out = model(
    torch.tensor(ids),
    attention_mask=torch.tensor(mask),
    labels=torch.tensor(np.where(target, ids, -100)),
  )
  save(
    name, model, out.loss, gradients, input_ids=ids, mask=mask, target=target,
    logits=out.logits.detach().numpy(),
  )  # fmt: skip


def main():
  roberta = dict(SIZES, max_position_embeddings=POSITIONS + 2, type_vocab_size=1, pad_token_id=1)
  bert = dict(SIZES, max_position_embeddings=POSITIONS, type_vocab_size=2, pad_token_id=0)
  encoder(
    'bert',
    transformers.BertForSequenceClassification,
    transformers.BertConfig(**bert, num_labels=3),
    [0, 2, 1, 1],
    seed=1,
  )
  encoder(
    'bert-regression',
    transformers.BertForSequenceClassification,
    transformers.BertConfig(**bert, num_labels=1, hidden_act='relu'),
    [0.5, -1.0, 4.2, 2.0],
    seed=2,
  )
  encoder(
    'roberta',
    transformers.RobertaForSequenceClassification,
    transformers.RobertaConfig(**roberta, num_labels=2, layer_norm_eps=1e-5, hidden_act='gelu'),
    [1, 0, 0, 1],
    seed=3,
  )
  encoder(
    'roberta-regression',
    transformers.RobertaForSequenceClassification,
    transformers.RobertaConfig(**roberta, num_labels=1, hidden_act='gelu_new'),
    [0.5, -1.0, 4.2, 2.0],
    seed=4,
  )
  gpt2('gpt2', seed=5)
  deberta('deberta-v2', [0, 2, 1, 1], seed=6, num_labels=3, conv_kernel_size=3, conv_act='gelu')
  deberta('deberta-v2-regression', [0.5, -1.0, 4.2, 2.0], seed=7, num_labels=1)
  scaled = dict(
    rope_type='llama3', rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=8,
  )  # fmt: skip
  llama('llama', 'Llama', 8, tie_word_embeddings=True, rope_parameters=scaled)
  llama('llama-untied', 'Llama', 9, ['lm_head.weight'], tie_word_embeddings=False)
  llama('mistral', 'Mistral', 10, tie_word_embeddings=True, sliding_window=None, head_dim=8)
  llama('qwen2', 'Qwen2', 11, ['model.layers.0.self_attn.q_proj.bias'], tie_word_embeddings=True)
  llama('qwen3', 'Qwen3', 12, ['model.layers.1.self_attn.q_norm.weight'], head_dim=8)
  llama_classifier('llama-classifier', 13)
  biases = [f'model.layers.1.self_attn.{name}_proj.bias' for name in 'ko']
  llama('llama-biased', 'Llama', 14, biases, tie_word_embeddings=True, attention_bias=True)
  versions = {'torch': torch.__version__, 'transformers': transformers.__version__}
  (HERE / 'versions.json').write_text(json.dumps(versions, indent=2) + '\n')


if __name__ == '__main__':
  main()
