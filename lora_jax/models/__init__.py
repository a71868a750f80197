"""Models: encoders (BERT, RoBERTa, DeBERTa-v2) and GPT-2. `lora_jax.pretrained` loads them."""

from lora_jax.models.deberta import Deberta as Deberta
from lora_jax.models.deberta import DebertaConfig as DebertaConfig
from lora_jax.models.encoder import Encoder as Encoder
from lora_jax.models.encoder import EncoderConfig as EncoderConfig
from lora_jax.models.gpt2 import GPT2 as GPT2
from lora_jax.models.gpt2 import GPT2Config as GPT2Config
from lora_jax.models.presets import PRESETS as PRESETS
