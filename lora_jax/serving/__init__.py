"""Many adapters of one base served in mixed batches: `Bank`, and `respond` for texts."""

from lora_jax.serving.bank import BASE as BASE
from lora_jax.serving.bank import Bank as Bank
from lora_jax.serving.batching import respond as respond
