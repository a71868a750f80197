"""Pages of results: the kit that reads runs and writes pages, and `pages`, one file a subject."""

from lora_jax.extras import require

require('markdown_it', 'matplotlib', 'PIL')
