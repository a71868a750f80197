"""Training: from a config to a run directory."""

from lora_jax.extras import require

require('etils', 'fsspec', 'ml_collections', 'orbax', 'tensorboardX', 'tensorstore', 'tqdm')
