r"""Rank, rate and scale of LoRA and of its successors, with full fine-tuning by rates.

  python -m experiments.sweep --workdir=runs/rates-stsb --config.data.dir=DIR \
      --config=configs/rates.py:task=stsb,model=path/to/encoder,preset=small
  python -m experiments.sweep --workdir=runs/rates-e2e --config.data.dir=DIR \
      --config=configs/rates.py:task=e2e,model=models/smollm2,methods=lora+full,seeds=1

Which method is best depends on the rates that were tried: "Learning Rate Matters: Vanilla LoRA May
Suffice" (arXiv 2602.04998) finds nine variants within two percent of LoRA once the rate of each is
searched, and "LoRA Without Regret" (Thinking Machines, 2025) finds that the best rate hardly
depends on the rank and is some ten times that of full fine-tuning. A sweep trains ranks, rates,
scales and choices of matrices in one program, so the grid can be run. Runs are compared on the dev
set: none generates texts. `experiments.report --add=runs/rates-stsb` makes its page: best rates by
rank, scores at one rate, heat maps, what diverged.

Argument, each a list joined by `+`, beside that of configs/_base_ablation.py. The runs are all
combinations; full fine-tuning has rates alone.

  methods  lora, lora_plus (arXiv 2402.12354), lora_fa (2308.03303), dora (2402.09353), pissa
           (2404.02948), olora (2406.01775), vera (2310.11454), full; by default all but olora
  ranks    1+4+16+64+256 by default for lora, 256 for vera and 16 for the others, unless given
  lr       rates; by default those of RATES, and of FULL_RATES for full fine-tuning
  scales   of the update: alpha (16 / r, the paper's form), rslora (16 / sqrt(r)), one (1); vera
           has none
  targets  modules to adapt: query_value, attention (all four matrices), mlp, all (the last two)
"""

from collections.abc import Iterator, Mapping

from ml_collections import config_dict

from configs import _base, _base_ablation
from lora_jax.paper import translation

MLP = ('.*/mlp/(up|gate|down)',)
TARGETS = {
  'query_value': translation.targets('Wq,Wv'),
  'attention': translation.ALL_OF_ATTENTION,
  'mlp': MLP,
  'all': (*translation.ALL_OF_ATTENTION, *MLP),
}
ALPHA = 16.0
SCALES = ('alpha', 'rslora', 'one')
RATIO = 16.0  # Of the rates of b and a in LoRA+, the one that its paper recommends.
# What a method changes in the config of LoRA.
METHODS: dict[str, dict[str, object]] = {
  'lora': {},
  'lora_plus': {'optim.lora_plus': RATIO},
  'dora': {'method.dora': True},
  'pissa': {'method.init': 'pissa'},
  'olora': {'method.init': 'olora'},
  'lora_fa': {'method.train_a': False},
  'vera': {},  # A method of its own.
}
DEFAULT = ('lora', 'lora_plus', 'dora', 'pissa', 'lora_fa', 'vera', 'full')
# Ranks unless they are given: of a method that is not listed, RANK.
RANKS = {'lora': (1, 4, 16, 64, 256), 'vera': (256,)}
RANK = 16
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
FULL_RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """The locked config that all runs of a sweep share.

  Raises:
    ValueError: on an unknown key, task, preset, model, method, scale or targets, with the nearest
      names; on ranks that are not whole numbers or rates that are not numbers.
  """
  config = _base_ablation.get_config(_parse(arg), 'rates')
  with config.unlocked():
    config.decode.update(contexts=0, final='')
  return config.lock()


def sweep(arg: str | None = None) -> Iterator[_base.Overrides]:
  """The overrides of each run: all combinations, with every seed."""
  args = _parse(arg)
  return _base_ablation.seeded(args, list(_runs(args)))


def _runs(args: Mapping[str, str]) -> Iterator[_base.Overrides]:
  given = _base.numbers('lr', args['lr'])
  tiny = _base.switch(args, 'tiny')
  for method in _parts(args['methods']):
    rates = given or (FULL_RATES if method == 'full' else RATES)
    rates = rates[:2] if tiny else rates
    if method == 'full':
      yield from ({'method': _base.method('full', {}), 'optim.lr': lr} for lr in rates)
      continue
    ranks = list(map(int, _parts(args['ranks']))) or RANKS.get(method, (RANK,))
    for targets in _parts(args['targets']):
      for scale in [''] if method == 'vera' else _parts(args['scales']):
        for rank in ranks[:2] if tiny else ranks:
          section = {'method': _base.method('vera', {})} if method == 'vera' else {}
          section |= {'method.targets': TARGETS[targets], 'method.rank': rank}
          section |= _scale(scale, rank) | METHODS[method]
          yield from (section | {'optim.lr': lr} for lr in rates)


def _scale(name: str, rank: int) -> dict[str, object]:
  """The fields of a scale of the update; {} for none."""
  if not name:
    return {}
  alpha = float(rank) if name == 'one' else ALPHA
  return {'method.alpha': alpha, 'method.rslora': name == 'rslora'}


def _parts(text: str) -> list[str]:
  return list(filter(None, text.split('+')))


def _parse(arg: str | None) -> dict[str, str]:
  methods = '+'.join(DEFAULT)
  args = _base_ablation.parse(arg, methods=methods, ranks='', lr='', scales='alpha', targets='all')
  known = {'methods': (*METHODS, 'full'), 'scales': SCALES, 'targets': tuple(TARGETS)}
  for key, names in known.items():
    for name in _parts(args[key]):
      _base.check(f'part of {key}=', name, names)
  if not all(text.isdecimal() and int(text) for text in _parts(args['ranks'])):
    raise ValueError(f'ranks={args["ranks"]!r}: expected whole numbers, as 8+64')
  _base.numbers('lr', args['lr'])
  return args
