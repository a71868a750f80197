"""Made-up runs, as `result.json` has them, and the parts of pages."""

from lora_jax.report import document

PATTERNS = {
  'Wq': '.*/attention/query',
  'Wk': '.*/attention/key',
  'Wv': '.*/attention/value',
  'Wo': '.*/attention/output',
  'Wq,Wk': '.*/attention/(query|key)',
  'Wq,Wv': '.*/attention/(query|value)',
  'Wq,Wk,Wv,Wo': '.*/attention/(query|key|value|output)',
}


def run(seed, best, **more):
  """A run of GLUE; `more` replaces its fields."""
  return {
    'experiment': 'glue', 'paper_table': '', 'task': 'mrpc', 'model': 'small', 'method': 'lora',
    'preset': 'small', 'metric': 'dev/accuracy', 'device': '1 x cpu', 'cpu': '2 x x86_64',
    'seed': seed, 'best': {'dev/accuracy': best}, 'last': {'dev/accuracy': best - 0.1},
    'history': [], 'parameters': {'trainable': 3000, 'trainable_without_head': 1000},
    'seconds': {'training': 60.0, 'compiling': 30.0, 'evaluation': 30.0},
    'tokens_per_second': 1234.5, 'padding': 0.05, 'commit': 'a' * 40,
    'config': {
      'seed': seed, 'optim': {'lr': 1e-3}, 'method': {}, 'train': {'epochs': 1, 'batch_size': 8},
    }, **more,
  }  # fmt: skip


def ablation(experiment, weights, rank, seed, best, limit=0, epochs=1, **more):
  """A run of a sweep over ranks, matrices or examples."""
  config = {
    'seed': seed,
    'experiment': experiment,
    'optim': {'lr': 1e-3},
    'data': {'limit': limit},
    'train': {'epochs': epochs},
    'method': {'rank': rank, 'targets': [PATTERNS[weights]]},
  }
  count = {'trainable': 3000, 'trainable_without_head': len(weights.split(',')) * rank * 100}
  return run(seed, best, experiment=experiment, config=config, parameters=count, **more)


def generated(seed, bleu, nist, **more):
  """A run on E2E with texts."""
  decode = {'strategy': 'beam', 'beams': 10, 'length_penalty': 0.9}
  scores = {'bleu': bleu, 'nist': nist, 'meteor': 0.46}
  texts = {'split': 'test', 'contexts': 630, 'seconds': 90, 'decode': decode, 'scores': scores}
  loss = {'dev/loss': 2.0}
  found = dict(experiment='e2e', task='e2e', metric='dev/loss', best=loss, last=loss)
  config = {'seed': seed, 'optim': {'lr': 1e-3}, 'method': {'targets': ['.*/(query|value)']}}
  return run(seed, 0.0, generated=texts, config=config) | found | more


def tables_of(made):
  """The tables of a page that are not folded."""
  return [block for block in made.blocks if isinstance(block, document.Table) and not block.folded]


def numbers_of(made):
  """The panels of a page's picture, by their titles."""
  (picture,) = made.pictures
  return {panel['title']: panel['series'] for panel in picture.numbers}
