"""Decoding: `make_decoder` over any language model that has a `prefill` and a `step`."""

from lora_jax.generation.decode import Generated as Generated
from lora_jax.generation.decode import LanguageModel as LanguageModel
from lora_jax.generation.decode import make_decoder as make_decoder
from lora_jax.generation.search import Settings as Settings
