"""The paper's names of models, methods, tasks and matrices, in the names of this code."""

from __future__ import annotations

GPT3 = 'gpt3-175b'  # Of the tables that name no model.
MODELS = {
  'RoB-base': 'roberta-base',
  'RoB-large': 'roberta-large',
  'DeB-XXL': 'deberta-v2-xxlarge',
  'GPT-2 M': 'gpt2-medium',
  'GPT-2 L': 'gpt2-large',
}
METHODS = {
  'FT': 'full',
  'BitFit': 'bitfit',
  'Adpt-D': 'adapter_d',
  'Adpt-P': 'adapter_p',
  'Adpt-H': 'adapter_h',
  'Adapter-H': 'adapter_h',
  'Adapter-L': 'adapter_l',
  'FT-Top2': 'top_layers',
  'PreLayer': 'prefix_layer',
  'PrefLayer': 'prefix_layer',
  'Prefix': 'prefix_layer',
  'PreEmbed': 'prefix_embed',
  'PrefixEmbed': 'prefix_embed',
  'PrefixLayer': 'prefix_layer',
  'LoRA': 'lora',
  'LoRA+PE': 'lora+prefix_embed',
  'LoRA+PL': 'lora+prefix_layer',
}
GLUE_TASKS = {
  'MNLI': 'mnli',
  'SST-2': 'sst2',
  'MRPC': 'mrpc',
  'CoLA': 'cola',
  'QNLI': 'qnli',
  'QQP': 'qqp',
  'RTE': 'rte',
  'STS-B': 'stsb',
}
MATRICES = {'Wq': 'query', 'Wk': 'key', 'Wv': 'value', 'Wo': 'output'}

# What LoRA adapts in most of the paper.
QUERY_VALUE = ('.*/(query|value)',)


def targets(weights: str) -> tuple[str]:
  """The pattern of attention matrices: `Wq,Wv` -> ('.*/attention/(query|value)',).

  The folder is part of it because an encoder's MLP has an `output` as well, which the paper does
  not adapt.
  """
  names = '|'.join(MATRICES[weight] for weight in weights.split(','))
  return (f'.*/attention/({names})' if '|' in names else f'.*/attention/{names}',)


ALL_OF_ATTENTION = targets(','.join(MATRICES))
