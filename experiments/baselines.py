"""What is reached without a language model: `python -m experiments.baselines --data_dir=DIR`.

The most common class of each GLUE task of which the folder holds the data, scored on its dev set;
of E2E, templates and the published texts of two systems of the challenge (`e2e-dataset.zip`,
`e2e-system-outputs.zip`). `experiments.report` shows what `--out=results/runs/baselines.json`
writes beside the scores of runs. What an untuned base scores is a run at rate 0:
`--config.optim.lr=0 --config.optim.warmup_steps=0 --config.data.limit=8`.
"""

from absl import flags

from experiments import _cli
from lora_jax.data import baselines, glue
from lora_jax.train import result, writers

DATA_DIR = flags.DEFINE_string('data_dir', None, 'Folder of the official archives.', required=True)
OUT = flags.DEFINE_string('out', 'runs/baselines.json', 'JSON file to write.')


def main() -> None:
  constants = {}
  for task in glue.TASKS:
    try:
      constants[task] = baselines.constant(task, DATA_DIR.value)
    except FileNotFoundError:
      print(f'{task:6} no data in {DATA_DIR.value}: left out')
  systems = {'e2e': baselines.e2e_systems(DATA_DIR.value)}
  for task, one in constants.items():
    print(f'{task:6} {one["metric"]} {one["score"]:.4f} on {one["split"]}: always {one["label"]}')
  for name, system in systems['e2e'].items():
    shown = ', '.join(f'{metric} {score:.4f}' for metric, score in system['scores'].items())
    print(f'e2e    {name}: {shown}')
  found = {'constants': constants, 'systems': systems}
  writers.write_json(OUT.value, {'experiment': 'baselines', **result.about(), **found})


if __name__ == '__main__':
  _cli.run(main)
