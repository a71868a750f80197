"""What a job costs, before its devices are rented: its step is compiled for them and not run."""

from lora_jax.extras import require

require('ml_collections')

from lora_jax.cost.memory import plan as plan
from lora_jax.cost.search import compare_remat as compare_remat
from lora_jax.cost.search import largest_batch as largest_batch
from lora_jax.cost.search import smallest_slice as smallest_slice
from lora_jax.cost.shapes import abstract_job as abstract_job
from lora_jax.cost.text import describe as describe
from lora_jax.cost.topology import find as find
