"""One of two processes that do the runs of a folder together, for test_hosts.py.

  python tests/train/process.py HOST:PORT I FOLDER

Trains each config of `FOLDER/*.json`, in the order of their names, into the folder of that name,
and evaluates it from there. Leaves what it was given in `FOLDER/report-I`.
"""

import json
import sys
from pathlib import Path

import jax
from ml_collections import config_dict

from experiments import _cli
from lora_jax.train import evaluate, hosts, loop


def main(coordinator: str, process: str, folder: Path) -> None:
  jax.config.update('jax_num_cpu_devices', 1)
  jax.config.update('jax_numpy_rank_promotion', 'raise')
  report = {}
  with hosts.connected(coordinator, 2, int(process), preemptible=True, show=_cli.show):
    for path in sorted(folder.glob('*.json')):
      workdir, config = path.with_suffix(''), config_dict.ConfigDict(json.loads(path.read_text()))
      report[path.stem] = {'result': loop.train(config, workdir)}
      report[path.stem]['evaluated'] = evaluate.evaluate_run(workdir)
  (folder / f'report-{process}').write_text(json.dumps(report))


if __name__ == '__main__':
  main(*sys.argv[1:3], Path(sys.argv[3]))
