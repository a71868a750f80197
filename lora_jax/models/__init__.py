"""Models: encoders (BERT, RoBERTa, DeBERTa-v2), GPT-2 and the Llama family.

`lora_jax.pretrained` loads them.

LoRA, BitFit and the training of whole layers need nothing from a model. For adapters and prefixes
the models here offer two hooks, which have no effect of their own:

- `Branch`, in `layers.py`: the output of each sub-layer before it is added to the residual stream
  passes through a module named `attention_branch` or `mlp_branch`, which is where adapters sit. A
  model that normalizes after the sum also hands it `added`, the function that computes that sum.
- `virtual`: each layer is called with `virtual=input_ids - vocab_size`, which is not negative in
  the columns of a prefix's tokens. Prefix-layer tuning replaces the states of these columns.
"""

from lora_jax.models.deberta import Deberta as Deberta
from lora_jax.models.deberta import DebertaConfig as DebertaConfig
from lora_jax.models.encoder import Encoder as Encoder
from lora_jax.models.encoder import EncoderConfig as EncoderConfig
from lora_jax.models.gpt2 import GPT2 as GPT2
from lora_jax.models.gpt2 import GPT2Config as GPT2Config
from lora_jax.models.llama import Llama as Llama
from lora_jax.models.llama import LlamaConfig as LlamaConfig
from lora_jax.models.presets import PRESETS as PRESETS
