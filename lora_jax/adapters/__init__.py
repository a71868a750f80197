"""Trained adapters apart from their base: this format, those of PEFT and loralib."""

from lora_jax.adapters.adapter import Adapter as Adapter
from lora_jax.adapters.adapter import attach as attach
from lora_jax.adapters.native import load_adapter as load_adapter
from lora_jax.adapters.native import save_adapter as save_adapter
