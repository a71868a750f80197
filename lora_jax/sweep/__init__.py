"""Sweeps: many runs trained as one program over one frozen base.

`grouping` decides which runs share a program, `members` stacks their parameters, `step` is what is
compiled, `stacked` is the engine that trains a group, `locks` divides the groups among machines.
"""

from lora_jax.sweep.run import train as train
