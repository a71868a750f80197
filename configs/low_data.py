r"""LoRA on few training examples (paper, table 16; its settings table 17).

  python -m experiments.sweep --workdir=runs/low-data --config.data.dir=DIR \
      --config=configs/low_data.py:task=sst2,model=path/to/encoder,preset=small

Training examples: 100, 1,000, 10,000 and all, each seed with its own choice of them; the whole
validation set throughout. GPT-3 on MultiNLI by LoRA: 63.8, 85.6, 89.2, 91.7; by full fine-tuning
60.2, 85.8, 88.9, 89.5.

Table 17 trains GPT-3 with batches of 20, 20, 100, 128 for 40, 40, 4, 2 epochs, at the rate of the
whole set. Batch and rate here are the task's own, and few examples get more epochs in the measure
of the table: 20 times those of the whole set for 100 and 1,000, twice for 10,000. Argument:
configs/base_ablation.py. Of a task with fewer examples, limits that it does not reach train it all.
"""

from collections.abc import Iterator, Mapping

from ml_collections import config_dict

from configs import base_ablation

EPOCHS = {100: 20, 1_000: 20, 10_000: 2, 0: 1}  # Examples (0 is all): times the task's epochs.


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config of all runs of a sweep, but for what `sweep` yields.

  Raises:
    ValueError: on an unknown key, task, preset or model, with the nearest names.
  """
  return base_ablation.get_config(base_ablation.parse(arg), 'low_data', cell='')


def sweep(arg: str | None = None) -> Iterator[Mapping]:
  """Overrides of each run: every number of examples, with every seed."""
  args = base_ablation.parse(arg)
  epochs = get_config(arg).train.epochs
  limits = [8, 16] if args['tiny'] else list(EPOCHS)
  yield from base_ablation.seeded(
    args,
    [{'data.limit': n, 'train.epochs': EPOCHS.get(n, 1) * epochs} for n in limits],
  )
