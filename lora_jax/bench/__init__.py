"""Measured speed and size: train steps, layouts of batches, decoding, serving.

Weights are random: no time depends on them. The variants that are compared are timed in turn, round
after round, so that a machine whose speed drifts favors none of them.
"""

from lora_jax.extras import require

require('ml_collections')
