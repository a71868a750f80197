"""What is reached without a language model: one prediction for all examples, templates, and the
published texts of systems of the E2E challenge.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import numpy as np

from lora_jax.data import e2e, glue, scored_texts
from lora_jax.metrics import glue as glue_metrics
from lora_jax.metrics import text
from lora_jax.result_schema import Constant, PublishedTexts

OUTPUTS = 'e2e-system-outputs.zip'
# Systems of the challenge whose texts its organizers published (Dusek et al., 2018).
SYSTEMS = {'TGen': "the challenge's baseline", 'Slug': "the challenge's winner"}
TEMPLATES = 'sentences that name every slot'


def constant(task: str, data_dir: str) -> Constant:
  """What the most common class of the training set, or its mean value, scores on the dev set.

  Raises:
    ValueError, FileNotFoundError: as `glue.read`.
  """
  spec = glue.TASKS[task]
  split = next(name for name in spec.splits if name.startswith('dev'))
  train, dev = (glue.read(task, name, 'files', data_dir).labels for name in ('train', split))
  if train is None or dev is None:
    raise ValueError(f'{task}: expected labels of train and {split}, found none')
  counts = np.bincount(train, minlength=len(spec.classes)) if spec.classes else np.zeros(0, int)
  guess = int(np.argmax(counts)) if spec.classes else float(np.mean(train))
  metric = spec.metrics[0]
  score = glue_metrics.score((metric,), dev, np.full(len(dev), guess, dev.dtype))[metric]
  return {
    'metric': metric,
    'label': spec.classes[int(guess)] if spec.classes else '',
    'counts': {name: int(count) for name, count in zip(spec.classes, counts)},
    'split': split,
    'score': score,
  }


def e2e_systems(data_dir: str) -> dict[str, PublishedTexts]:
  """The scores of templates and of the published SYSTEMS on the test set of E2E.

  Texts and references are in the form in which runs are scored (`e2e.tokenize`).

  Raises:
    FileNotFoundError: if an archive is not in the folder.
    ValueError: as `e2e.read` and `scored_texts`; naming a metric that could not be computed.
  """
  references: dict[str, list[str]] = {}
  for example in e2e.read('test', 'files', data_dir):
    references.setdefault(example.context, []).append(example.reference)
  texts = {'templates': ([from_template(context) for context in references], TEMPLATES)}
  with (
    tempfile.TemporaryDirectory() as folder,
    zipfile.ZipFile(Path(data_dir) / OUTPUTS) as archive,
  ):
    for name, about in SYSTEMS.items():
      path = archive.extract(f'challenge/primary/{name.lower()}.tsv', folder)
      found = scored_texts.read_predictions(path)
      by_context = dict(zip(map(e2e.linearize, found.meanings or ()), found.texts, strict=True))
      texts[name] = ([e2e.tokenize(by_context[context]) for context in references], about)
  systems: dict[str, PublishedTexts] = {}
  for name, (predictions, about) in texts.items():
    report = text.score('e2e', predictions, list(references.values()))
    if report.unavailable:
      raise ValueError(f'E2E needs all of its metrics: {report.unavailable}')
    systems[name] = {'about': about, 'scores': report.scores}
  return systems


def from_template(context: str) -> str:
  """A sentence or two that name every slot of a linearized meaning representation."""
  slots = dict(part.split(' : ', 1) for part in context.split(' | '))
  kind = ' '.join(filter(None, (slots.get('food'), slots.get('Type', 'restaurant'))))
  sentence = f'{slots["name"]} is {"an" if kind[0] in "AEIOU" else "a"} {kind}'
  if area := slots.get('area'):
    sentence += f' in the {area}' + ' area' * (area == 'riverside')
  if near := slots.get('near'):
    sentence += f' near {near}'
  facts = []
  if price := slots.get('price'):
    words = price in ('cheap', 'moderate', 'high')
    facts.append(f'a {price} price range' if words else f'a price range of {price}')
  if rating := slots.get('customer rating'):
    facts.append(f'a customer rating of {rating}')
  parts = [sentence, *([f'It has {" and ".join(facts)}'] if facts else ())]
  if friendly := slots.get('family friendly'):
    parts.append('It is family friendly' if friendly == 'yes' else 'It is not family friendly')
  return ' . '.join(parts) + ' .'
