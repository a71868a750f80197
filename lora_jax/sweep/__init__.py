"""Sweeps: many runs trained as one program over one frozen base.

`grouping` says which runs can share a program and `choice` which do, by what ends soonest. `source`
loads data and base, `members` stacks parameters, `step` is what is compiled, `stacked` is the
engine that trains a group, `locks` divides the groups among machines.
"""

from lora_jax.extras import require

require('ml_collections')

from lora_jax.sweep.run import train as train
