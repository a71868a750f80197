"""Tasks, tokenizers and batches, without JAX."""

from lora_jax.extras import require

require('tokenizers')

from lora_jax.data.batches import Batches as Batches
from lora_jax.data.batches import collect as collect
from lora_jax.data.batches import eval_batches as eval_batches
from lora_jax.data.dataset import Dataset as Dataset
from lora_jax.data.dataset import Task as Task
from lora_jax.data.tasks import TASKS as TASKS
from lora_jax.data.tasks import load_task as load_task
from lora_jax.data.tokenizer import Tokenizer as Tokenizer
from lora_jax.data.tokenizer_files import load_tokenizer as load_tokenizer
