"""Counts of FLOPs for utilization, against numbers worked out by hand."""

import json
import subprocess
import sys

import pytest

from lora_jax.bench import mfu, steps, timing
from lora_jax.cost import topology
from lora_jax.models import presets

WIDTH, INNER, VOCABULARY = 32, 128, 512
# Four square products and the two of the MLP, each with a bias; two norms.
LAYER = 4 * (WIDTH * WIDTH + WIDTH) + 2 * WIDTH * INNER + INNER + WIDTH + 4 * WIDTH
DENSE = WIDTH * WIDTH + WIDTH


def model(name, **labels):
  config = timing.SHAPES[name]
  task = 'lm' if config.family == 'gpt2' else 'classification'
  return presets.build(config, task=task, **labels)


def test_an_encoder_counts_its_layers_for_tokens_and_its_head_for_predictions():
  body, head = mfu.parameters(model('toy-roberta', num_labels=2))
  assert body == 2 * LAYER + 2 * WIDTH  # Two layers and the norm of the embeddings.
  assert head == DENSE + 2 * WIDTH + 2


def test_the_output_of_a_language_model_is_its_table_of_words():
  body, head = mfu.parameters(model('toy-gpt2'))
  assert body == 2 * LAYER + 2 * WIDTH  # Two layers and the last norm.
  assert head == VOCABULARY * WIDTH


@pytest.mark.parametrize('tied', [True, False])
def test_the_output_of_a_llama_is_counted_once(tied):
  sizes = dict(hidden_size=WIDTH, num_layers=1, num_heads=4, vocab_size=VOCABULARY, tied=tied)
  config = presets.architecture('llama', intermediate_size=INNER, **sizes)
  body, head = mfu.parameters(presets.build(config, task='lm'))
  # Four products of the attention and three of the MLP; three norms.
  assert body == 4 * WIDTH * WIDTH + 3 * WIDTH * INNER + 3 * WIDTH
  assert head == VOCABULARY * WIDTH


def test_a_frozen_base_costs_four_flops_for_each_parameter_and_token():
  case = steps.random_case('classification', VOCABULARY, 4, 32, 'full')
  body, head = mfu.parameters(model('toy-roberta', num_labels=2))
  products = body * 4 * 32 + head * 4  # A prediction for each of four rows.
  assert mfu.flops(model('toy-roberta'), case, frozen=True) == 4 * products
  assert mfu.flops(model('toy-roberta'), case, frozen=False) == 6 * products


def test_a_roberta_base_is_counted_as_published():
  # 12 layers of 7,087,872 parameters: 34 % of 783 TFLOP/s are 5.25 ms at 32 x 128.
  body, _ = mfu.parameters(model('roberta-base', num_labels=2))
  assert body == 12 * 7_087_872 + 2 * 768


@pytest.mark.parametrize(
  'kind, tera',
  {
    'NVIDIA H100 80GB HBM3': 989,
    'NVIDIA H100 PCIe': 756,
    'NVIDIA H200': 989,
    'NVIDIA A100-SXM4-80GB': 312,
    'TPU v4': 275,
    'TPU v5 lite': 197,
    'TPU v5p': 459,
    'TPU v6 lite': 918,
  }.items(),
)
def test_peaks_are_found_by_the_name_of_the_device(kind, tera):
  assert topology.published_peak(kind) == tera * 1e12


def test_an_unknown_device_has_no_published_peak():
  assert topology.published_peak('cpu') is None and topology.published_peak('TPU v99') is None


def test_a_product_is_timed():
  found = mfu.product(64, 'float32', rounds=1)
  assert found.what == '64^3 in float32' and found.flops > 0


def test_steps_of_every_kind_of_model_are_measured(tmp_path):
  """A Llama has no dropout of a classifier, which an encoder has."""
  shapes = ['toy-roberta:2x16', 'toy-llama:2x16']
  command = [sys.executable, '-m', 'experiments.bench', '--parts=mfu', '--methods=lora']
  command += [
    '--implementations=xla',
    '--scans=false',
    '--rounds=1',
    f'--shapes={",".join(shapes)}',
  ]
  subprocess.run([*command, f'--out={tmp_path / "out.json"}'], check=True, capture_output=True)
  found = json.loads((tmp_path / 'out.json').read_text())
  for shape in shapes:
    assert found['measured'][f'mfu, {shape.replace(":", " ")}']['lora, xla']['seconds'] > 0
