"""Reading others' files, and adapters in this project's own format and others'."""

from lora_jax.checkpoints.adapter import Adapter as Adapter
from lora_jax.checkpoints.adapter import attach as attach
from lora_jax.checkpoints.artefact import load_adapter as load_adapter
from lora_jax.checkpoints.artefact import save_adapter as save_adapter
from lora_jax.checkpoints.huggingface import fresh_model as fresh_model
from lora_jax.checkpoints.huggingface import load_model as load_model
