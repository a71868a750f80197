"""Trained parameters of the paper's rows, printed and computed: `python -m experiments.counts`.

The rows of tables 2 and 3, quoted ones too, and those of GPT-3 in tables 4 and 15, counted by
shapes alone at full size, without the task head, as in the paper. `experiments.report` makes
results/counts.md of the file that `--out=results/runs/counts.json` writes.
"""

from absl import flags

from experiments import _cli
from lora_jax.cost import counts
from lora_jax.train import result, writers

OUT = flags.DEFINE_string('out', 'runs/counts.json', 'JSON file to write.')


def main() -> None:
  rows = [counts.row(table, entry) for table, rows in counts.TABLES.items() for entry in rows]
  for row in rows:
    print('{table:9} {model:19} {method:18} {printed:>12} {computed:>17,}'.format(**row))
  writers.write_json(OUT.value, {'experiment': 'counts', **result.about(), 'counts': rows})


if __name__ == '__main__':
  _cli.run(main)
