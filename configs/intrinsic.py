r"""Dimensions that a task needs: all parameters moved in random subspaces (the paper, section 1).

  python -m experiments.sweep --workdir=runs/intrinsic-mrpc --config.data.dir=DIR \
      --config=configs/intrinsic.py:task=mrpc,model=path/to/encoder,preset=small

LoRA's authors "take inspiration from" Li et al. (2018) and Aghajanyan et al. (2020): a pretrained
model can be fine-tuned in a random subspace of some hundred dimensions. d90 is the least dimension
in which a task reaches 90 % of full fine-tuning's score. The sweep trains subspaces of all sizes,
each at several rates, as one program for each variant, beside full fine-tuning and LoRA of rank 1;
`python -m experiments.report` finds d90. The task head lies in the subspace, too.

Argument, each a list joined by `+`, beside that of configs/_base_ablation.py (`task`: of GLUE):

  dimensions  30+100+300+1000+3000+10000 by default
  variants    did, the plain subspace; said, with a factor for each layer. Both by default
  methods     intrinsic, full and lora; all of them by default
  lr          rates to train at, in place of RATES, each of these methods
"""

from collections.abc import Iterator, Mapping

from ml_collections import config_dict

from configs import _base, _base_ablation

TASKS = tuple(task for task in _base_ablation.TASKS if task != 'e2e')  # A loss has no 90 %.
DIMENSIONS = '30+100+300+1000+3000+10000'
VARIANTS = ('did', 'said')
RATES = {
  'intrinsic': (1e-3, 3e-3, 1e-2, 3e-2),
  'full': (2e-5, 6e-5, 2e-4),
  'lora': (1e-3, 3e-3, 1e-2),
}
RANK, ALPHA = 1, 8.0  # Of LoRA.


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config that all runs of a sweep share.

  Raises:
    ValueError: on an unknown key, task, preset, model or variant, with the nearest names; on
      dimensions that are not whole numbers or rates that are not numbers.
  """
  config = _base_ablation.get_config(_parse(arg), 'intrinsic')
  with config.unlocked():
    config.method = _base.method('intrinsic', {})
  return config.lock()


def sweep(arg: str | None = None) -> Iterator[_base.Overrides]:
  """The overrides of each run: every dimension of every variant at every rate, with every seed."""
  args = _parse(arg)
  lora, runs = _base.lora(RANK, ALPHA), list[_base.Overrides]()
  for method in args['methods'].split('+'):
    sections: list[_base.Overrides] = [{'method': _base.method(method, lora)}]
    if method == 'intrinsic':
      sections = [
        {'method.dimension': dimension, 'method.variant': variant}
        for variant in args['variants'].split('+')
        for dimension in _dimensions(args)
      ]
    rates = _base.numbers('lr', args['lr']) or RATES[method]
    runs += [{**section, 'optim.lr': lr} for section in sections for lr in rates]
  return _base_ablation.seeded(args, runs)


def _dimensions(args: Mapping[str, str]) -> list[int]:
  found = [int(text) for text in args['dimensions'].split('+')]
  return found[:2] if _base.switch(args, 'tiny') else found


def _parse(arg: str | None) -> dict[str, str]:
  args = _base_ablation.parse(
    arg, dimensions=DIMENSIONS, variants='+'.join(VARIANTS), methods='+'.join(RATES), lr=''
  )
  _base.check('task', args['task'], TASKS)
  for method in args['methods'].split('+'):
    _base.check('part of methods=', method, list(RATES))
  for variant in args['variants'].split('+'):
    _base.check('part of variants=', variant, VARIANTS)
  if not all(text.isdecimal() and int(text) for text in args['dimensions'].split('+')):
    raise ValueError(f'dimensions={args["dimensions"]!r}: expected whole numbers, as 100+1000')
  _base.numbers('lr', args['lr'])
  return args
