"""Section 4.2, "Practical Benefits and Limitations": what LoRA saves of GPT-3 175B with Adam."""

from __future__ import annotations

from lora_jax.paper import entries, translation

TRAINING_MEMORY = {'full': '1.2 TB', 'lora': '350 GB'}
CHECKPOINT = {'full': '350 GB', 'lora': '35 MB'}  # LoRA of rank 4 on query and value.
TRAINED_SHARE = '0.01 %'
CHECKPOINT_RATIO = '10,000'
# Of so many tasks: the models that are stored for them.
TASKS = 100
STORAGE = {'full': '35 TB', 'lora': '354 GB'}

# The methods of table 12 in the sizes of table 4, and the rank 4 of the section.
METHODS: dict[str, dict[str, int]] = {
  'full': {},
  'lora r=4': dict(rank=4),
  'lora r=1': dict(rank=1),
  'lora r=8': dict(rank=8),
  'bitfit': {},
  'prefix_embed': dict(prefix=256, infix=8),
  'prefix_layer': dict(prefix=8, infix=8),
  'adapter_h 1': dict(bottleneck=1),
  'adapter_h 8': dict(bottleneck=8),
}


def _print_of(name: str, sizes: dict[str, int]) -> str:
  """The printed count of a row: of table 4 where table 15 has no such method, or rounds it."""
  method = name.split()[0]
  if not sizes:
    return next(entry.printed for entry in entries.TABLE_4 if entry.method == method)
  adapted = {'targets': translation.targets('Wq,Wv')} if method == 'lora' else {}
  return entries.of_table_15(method, **sizes, **adapted).printed


# Trained parameters, as tables 4 and 15 print them.
PRINTED = {name: _print_of(name, sizes) for name, sizes in METHODS.items()}
