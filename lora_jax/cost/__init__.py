"""What a job will take, before its devices are rented: nothing is run, all is compiled."""

from lora_jax.cost.abstract import Planned as Planned
from lora_jax.cost.abstract import abstract as abstract
from lora_jax.cost.describe import describe as describe
from lora_jax.cost.memory import compare_remat as compare_remat
from lora_jax.cost.memory import largest_batch as largest_batch
from lora_jax.cost.memory import plan as plan
from lora_jax.cost.memory import smallest_slice as smallest_slice
from lora_jax.cost.topology import find as find
