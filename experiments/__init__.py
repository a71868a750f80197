"""The commands. They need what training needs: `pip install 'lora_jax[train]'`."""

from lora_jax import train as train  # An error that names the extra, where it is missing.
