"""Trained adapters apart from their base, in this project's format, PEFT's and loralib's."""

from lora_jax.adapters.adapter import Adapter as Adapter
from lora_jax.adapters.adapter import attach as attach
from lora_jax.adapters.any_model import load as load
from lora_jax.adapters.any_model import save as save
from lora_jax.adapters.any_peft import load_peft as load_peft
from lora_jax.adapters.any_peft import save_peft as save_peft
from lora_jax.adapters.formats import load_adapter as load_adapter
from lora_jax.adapters.native import save_adapter as save_adapter
