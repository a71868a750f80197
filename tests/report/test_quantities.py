"""A finding names runs, files and entries of the paper by what they are."""

import pytest

from lora_jax.report import quantities
from lora_jax.report.runs import Recorded
from tests.report.toys import ablation, generated, run


def recorded(*found):
  return Recorded(runs={str(i): one for i, one in enumerate(found)})


def with_rate(seed, best, lr):
  return run(seed, best, config={'seed': seed, 'optim': {'lr': lr}})


def test_runs_are_one_number_a_seed_at_the_best_rate():
  tried = [with_rate(0, 0.8, 1e-3), with_rate(0, 0.7, 1e-2), with_rate(1, 0.9, 1e-3)]
  found = quantities.find({'task': 'mrpc', 'method': 'lora'}, recorded(*tried))
  assert found.numbers == pytest.approx((80.0, 90.0)) and found.places == 1
  again = ablation('rank', 'Wq', 8, 0, 0.5)
  wanted = {'matrices': 'Wq', 'rank': 8, 'examples': 0, 'train.epochs': 1}
  assert quantities.find(wanted, recorded(again, *tried)).numbers == (50.0,)
  sweeps = [again, ablation('matrices', 'Wq', 8, 0, 0.6)]
  assert len(quantities.find({'matrices': 'Wq'}, recorded(*sweeps)).numbers) == 1
  untuned = with_rate(0, 0.6, 0.0)
  of_method = lambda name: quantities.find({'method': name}, recorded(untuned, *tried)).numbers
  assert of_method('none') == (60.0,) and len(of_method('lora')) == 2
  query = {'task': 'mrpc', 'method': 'lora', 'score': 'rate'}
  assert quantities.find(query, recorded(*tried)).numbers == (1e-3,)


def test_of_losses_the_smallest_is_the_best_rate():
  loss = lambda value: {'metric': 'dev/loss', 'best': {'dev/loss': value}}
  tried = [with_rate(0, 0, 1e-3) | loss(2.0), with_rate(0, 0, 1e-2) | loss(1.5)]
  assert quantities.find({'task': 'mrpc'}, recorded(*tried)).numbers == (1.5,)


def test_scores_of_texts_sizes_and_minutes():
  runs = recorded(generated(0, 0.68, 8.5), generated(1, 0.70, 8.7), run(0, 0.8))
  find = lambda score: quantities.find({'task': 'e2e', 'score': score}, runs)
  assert find('BLEU').numbers == pytest.approx((68.0, 70.0))
  assert find('NIST').places == 2 and find('parameters').numbers == (1000.0,)
  assert find('minutes').numbers == (2.0, 2.0)
  with pytest.raises(ValueError, match=r"unknown score 'BELU'\. Did you mean 'BLEU'"):
    find('BELU')


def test_what_is_not_there_or_not_one_setting_is_an_error():
  runs = [ablation('rank', 'Wq', r, 0, 0.5) for r in (1, 8)]
  with pytest.raises(ValueError, match=r'also differ in method\.rank: add one'):
    quantities.find({'matrices': 'Wq'}, recorded(*runs))
  with pytest.raises(ValueError, match=r"no run of \{'task': 'cola'\}"):
    quantities.find({'task': 'cola'}, recorded(*runs))


def test_a_path_of_a_file_is_its_numbers_with_conditions_anywhere_on_it():
  rows = [{'batch': n, 'rows': {'lora, merged': {'slowdown': x}}} for n, x in ((1, 0.5), (32, 2))]
  found = Recorded(latency={'cpu.json': {'experiment': 'latency', 'settings': rows}})
  at = 'settings.*.rows.lora, merged.slowdown'
  find = lambda **more: quantities.find({'file': 'cpu.json', 'at': at, **more}, found)
  assert find().numbers == (0.5, 2.0)
  assert find(where={'batch': 32}).numbers == (2.0,) and find(places=0).places == 0
  for wrong in ({'where': {'bacth': 32}}, {'at': 'settings.*.rows.x'}):
    with pytest.raises(ValueError, match=r'cpu\.json has no numbers at'):
      find(**wrong)
  with pytest.raises(ValueError, match=r"no file 'cpi\.json'.*Did you mean 'cpu\.json'"):
    quantities.find({'file': 'cpi.json', 'at': at}, found)


def test_an_entry_of_the_paper_has_its_spread():
  query = {'paper': '3', 'model': 'GPT-2 M', 'method': 'LoRA', 'column': 'BLEU'}
  assert quantities.find(query, Recorded()) == ((70.4,), 1, 0.1)
  with pytest.raises(ValueError, match='table 3 has 2 rows'):
    quantities.find({'paper': '3', 'method': 'LoRA', 'column': 'BLEU'}, Recorded())
