"""Scores of predictions: of classes and values (`glue`), and of texts (`text`)."""

from lora_jax.extras import require

require('scipy')
