"""LoRA (arXiv 2106.09685) for JAX and Flax: adapt a model, train it, rerun the paper."""

from lora_jax.methods import METHODS as METHODS
from lora_jax.methods import Method as Method
from lora_jax.methods import bind as bind
from lora_jax.methods import full as full
from lora_jax.methods import lora as lora
from lora_jax.methods import summarize as summarize
from lora_jax.tree import count as count
from lora_jax.tree import join as join
from lora_jax.tree import split as split
