"""Reading others' files."""

from lora_jax.checkpoints.huggingface import fresh_model as fresh_model
from lora_jax.checkpoints.huggingface import load_model as load_model
