"""Writes adapters and merged models by lora_jax, with their logits, for `make_adapters.py check`.

python -m tests.golden.make_exports FOLDER
"""

import pathlib
import shutil
import sys

import numpy as np

from lora_jax import tree
from lora_jax.adapters import loralib, peft, plain_lora
from lora_jax.pretrained import huggingface
from tests.adapters import toys

# Exports that are also written as a plain LoRA of a rank: exactly, but for the last.
PLAIN = {'bert.vera': 5, 'bert.pissa': 8, 'gpt2.dora': 24, 'bert.dora': 4}


def main():
  folder = pathlib.Path(sys.argv[1])
  cases = {f'peft.{case}': toys.export_of(case) for case in toys.EXPORTS}
  for path in sorted(toys.ADAPTERS.glob('peft.*')):
    # One fits a base of more words and is refused; of the other, PEFT's form is not written.
    if path.name in ('peft.roberta.resized', 'peft.qwen3.output'):
      continue
    cases[f'{path.name}.again'] = peft.read(path, toys.config_of(toys.base_of(path.name)))
  for case, rank in PLAIN.items():
    adapter = toys.export_of(case)
    found = plain_lora.nearest(adapter, rank, toys.model_of(toys.base_of(f'peft.{case}'))[1])
    cases[f'peft.{case}.plain'] = found.adapter
    print(f'{case} as a plain LoRA of rank {rank} misses {found.error:.3f} of its update')
  for case, adapter in cases.items():
    peft.write(adapter, folder / case)
    np.savez(folder / case / 'ours.npz', logits=whole(adapter))
  for case in ('loralib.roberta', 'loralib.gpt2'):
    config = toys.config_of(toys.base_of(case))
    adapter = loralib.read(toys.ADAPTERS / case / 'adapter.bin', config, alpha=1.0)
    (folder / case).mkdir(exist_ok=True)
    loralib.write(adapter, folder / case / 'adapter.bin')
    np.savez(folder / case / 'ours.npz', logits=0.0)
  for case in ('bert.patterns', 'roberta.adapted', 'deberta-v2.plain', 'gpt2.qv'):
    adapter = toys.export_of(case)
    model, method, frozen = toys.parts_of(adapter)
    path = folder / f'merged.{case}'
    shutil.rmtree(path, ignore_errors=True)
    huggingface.save_model(path, model, method.merge(frozen, adapter.trainable))
    np.savez(path / 'ours.npz', logits=whole(adapter))
  print(f'{tree.count(adapter.trainable)} parameters in the last; {len(cases)} PEFT folders')


def whole(adapter):
  """Logits at all positions."""
  inputs, _ = toys.inputs_of(adapter.config.family)
  return toys.computed(*toys.parts_of(adapter), adapter.trainable, inputs)


if __name__ == '__main__':
  main()
