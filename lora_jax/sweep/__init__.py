"""Many runs as one program over one frozen base: `train` of the lanes of a sweep.

plan.py says which runs can share a program, lanes.py stacks them, step.py is what is compiled,
chunk.py trains some of them together, lane.py is the run of one, claims.py shares them out.
"""

from lora_jax.sweep.run import train as train
