"""A table of the paper by one command: the runs behind it, their states, their order, their time.

`paper` lists the runs of the paper's own models, `own` those of the same tables on another base,
`answers` says which command makes a table that holds no runs. `units` is what one process trains,
`states` what is on the disk, `timing` the estimate, `order` what comes next, `plan` the printed
table. Nothing here trains: `experiments/reproduce.py` starts the commands.
"""

from lora_jax.extras import require

require('ml_collections')
