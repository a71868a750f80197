"""The model card: its numbers are those of the result, and its front matter is read by the hub."""

import json
import pathlib
import re

import huggingface_hub
import pytest
import yaml

from lora_jax.train import model_card

RUNS = pathlib.Path(__file__).parents[2] / 'results' / 'runs'
CARDS = {  # Runs in this repository, with the task and labels of their adapters.
  'mrpc-all-MiniLM-L6-v2-lora-seed0': dict(task='classification', num_labels=2),
  'stsb-all-MiniLM-L6-v2-lora-seed0': dict(task='regression', num_labels=1),
  'e2e-pretrain-e2e-qv-0': dict(task='lm', num_labels=0),
}


def numbers(text):
  return set(re.findall(r'\d+(?:\.\d+)?(?:e-?\d+)?', text))


def rounded(value):
  """All numbers in a JSON value as a card may write them."""
  if isinstance(value, dict):
    return set().union(*(rounded(x) | numbers(key) for key, x in value.items()))
  if isinstance(value, list):
    return set().union(*map(rounded, value))
  if isinstance(value, float):
    return numbers(f'{value:.4g} {value!r}')
  return numbers(str(value))


@pytest.mark.parametrize('name', CARDS)
@pytest.mark.parametrize('which', ['best', 'last'])
def test_a_card_has_no_number_that_is_not_in_the_result(name, which):
  result = json.loads((RUNS / f'{name}.json').read_text())
  text = model_card.card(result, **CARDS[name], name='adapter', which=which)
  told, how = text.split('## How to load it')
  told = told.replace('2106.09685', '')
  assert not numbers(told) - rounded(result)
  for key in ('trainable', 'frozen'):
    assert str(result['parameters'][key]) in told
  for words in (result['commit'], result['device'], f'seed | {result["seed"]}', result['metric']):
    assert words in told
  assert f'This is the {which} checkpoint' in told
  assert ('num_labels=' in how) == (CARDS[name]['task'] != 'lm')


@pytest.mark.parametrize('name', CARDS)
def test_the_front_matter_is_yaml_that_the_hub_reads(name):
  result = json.loads((RUNS / f'{name}.json').read_text())
  text = model_card.card(result, **CARDS[name], name='x', format='peft', base='google/base')
  values = yaml.safe_load(text.split('---')[1])
  assert (values['base_model'], values['library_name']) == ('google/base', 'peft')
  assert values['datasets'] and set(values['metrics'])
  data = huggingface_hub.ModelCard(text).data
  found = {(x.dataset_split, x.metric_name): x.metric_value for x in data.eval_results}
  split, metric = result['metric'].split('/')
  assert found[split, metric] == result['best'][result['metric']]
  if 'generated' in result:
    scores = result['generated']['scores']
    assert found['test', 'bleu'] == scores['bleu']
    assert 'beams 10' in text and 'length_penalty' in text


def test_a_quantized_base_is_loaded_as_it_was_trained_on():
  result = json.loads((RUNS / 'e2e-pretrain-e2e-qv-0.json').read_text())
  assert 'quantize' not in model_card.card(result, task='lm', num_labels=0, name='x')
  result['config']['model']['quantize'] = 'nf4'
  text = model_card.card(result, task='lm', num_labels=0, name='x')
  assert '| kernels of the base | in nf4 |' in text
  assert "task='lm', quantize='nf4')" in text


def test_scores_of_a_part_are_not_those_of_the_split():
  """BLEU of two texts stood as that of dev, and nothing said that 64 examples were trained on."""
  result = json.loads((RUNS / 'e2e-pretrain-e2e-qv-0.json').read_text())
  del result['generated']
  result['config']['decode']['contexts'], result['best']['dev/bleu'] = 2, 0.25
  result['config']['data']['limit'], result['config']['eval']['limit'] = 64, 40
  text = model_card.card(result, task='lm', num_labels=0, name='x')
  assert '| of 2 texts of dev, best | dev/bleu 0.25 |' in text
  assert '| at most | data.limit 64, eval.limit 40 |' in text
  found = huggingface_hub.ModelCard(text).data.eval_results
  assert {x.metric_name for x in found} == {'loss', 'perplexity'}
  assert all(x.dataset_args == {'limit': 40} for x in found)
  result['preset'] = ''
  assert '| settings | lr' in model_card.card(result, task='lm', num_labels=0, name='x')
