"""Pretrained models, read strictly from Hugging Face's files, and written as such."""

from lora_jax.pretrained.huggingface import fresh_model as fresh_model
from lora_jax.pretrained.huggingface import load_model as load_model
