"""Adapters of one base, mixed in one batch: `Bank`, and `respond` for texts of any lengths."""

from lora_jax.serving.bank import BASE as BASE
from lora_jax.serving.bank import Bank as Bank
from lora_jax.serving.texts import respond as respond
