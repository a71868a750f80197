"""The hub, a local folder standing in for it; and the model card."""

import json
import pathlib
import re
import shutil

import huggingface_hub
import numpy as np
import pytest
import yaml
from huggingface_hub import errors

from lora_jax.adapters import formats, hub, model_card
from lora_jax.adapters.adapter import Adapter
from lora_jax.adapters.native import load_adapter, save_adapter
from lora_jax.models import presets

RUNS = pathlib.Path(__file__).parents[2] / 'results' / 'runs'


@pytest.fixture
def remote(tmp_path, monkeypatch):
  """A folder of repositories in the place of the hub: what is uploaded can be fetched."""
  root = tmp_path / 'remote'

  def create_repo(self, repo_id, *, private=None, exist_ok=False):
    (root / repo_id).mkdir(parents=True, exist_ok=exist_ok)
    return f'https://huggingface.co/{repo_id}'

  def upload_folder(self, *, repo_id, folder_path, revision, commit_message):
    assert commit_message
    shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True)

  def snapshot_download(repo_id, *, revision, allow_patterns):
    if not (root / repo_id).is_dir():
      raise response_error(errors.RepositoryNotFoundError, 404)
    if revision not in (None, 'main'):
      raise response_error(errors.RevisionNotFoundError, 404)
    kept = tmp_path / 'cache' / repo_id
    for path in (root / repo_id).iterdir():
      if any(path.match(pattern) for pattern in allow_patterns):
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, kept)
    return str(kept)

  monkeypatch.setattr(huggingface_hub, 'get_token', lambda: 'a token')
  monkeypatch.setattr(huggingface_hub.HfApi, 'create_repo', create_repo)
  monkeypatch.setattr(huggingface_hub.HfApi, 'upload_folder', upload_folder)
  monkeypatch.setattr(huggingface_hub, 'snapshot_download', snapshot_download)
  return root


def response_error(kind, status):
  """An error of the hub's library as an answer of this status makes it."""
  error = kind.__new__(kind)
  Exception.__init__(error, f'{status} from the server')
  error.response = type('Response', (), {'status_code': status})
  return error


@pytest.fixture
def saved(tmp_path):
  config = presets.architecture(
    'roberta', vocab_size=20, hidden_size=4, num_layers=1, num_heads=1, max_positions=8
  )
  a, b = np.ones((4, 2), np.float32), np.ones((2, 4), np.float32)
  factors = {'lora_a': a, 'lora_b': b}
  adapter = Adapter(
    method={'name': 'lora', 'rank': 2, 'alpha': 2.0, 'targets': ('.*/query',)},
    trainable={'encoder': {'layers_0': {'attention': {'query': factors}}}},
    config=config, task='classification', num_labels=2,
  )  # fmt: skip
  save_adapter(tmp_path / 'saved', adapter)
  (tmp_path / 'saved' / 'README.md').write_text('A card.')
  return tmp_path / 'saved'


def test_what_is_pushed_is_pulled(remote, saved):
  assert hub.push(saved, 'me/adapter') == 'https://huggingface.co/me/adapter'
  (remote / 'me/adapter' / 'unrelated.msgpack').touch()
  folder = hub.pull('me/adapter')
  assert {path.name for path in folder.iterdir()} == {path.name for path in saved.iterdir()}
  for source in ('hub:me/adapter', 'hub:me/adapter@main'):
    found, expected = formats.read_adapter(source), load_adapter(saved)
    assert found.method == expected.method
  with pytest.raises(FileNotFoundError, match='no such revision'):
    formats.read_adapter('hub:me/adapter@v2')


@pytest.mark.parametrize('name', ['adapter', 'a/b/c', '/me', 'me/', 'me/ad apter', '../me'])
def test_a_name_of_no_repository_is_an_error(name, remote, saved):
  for call in (lambda: hub.push(saved, name), lambda: hub.pull(name)):
    with pytest.raises(ValueError, match='expected user/name'):
      call()
  assert not remote.exists()


def test_there_is_something_to_push(remote, tmp_path):
  (tmp_path / 'empty').mkdir()
  for folder in ('empty', 'nowhere'):
    with pytest.raises(FileNotFoundError, match='nothing to push'):
      hub.push(tmp_path / folder, 'me/adapter')


FAILURES = {
  'no repository': (
    response_error(errors.RepositoryNotFoundError, 404), FileNotFoundError, 'Check the spelling'
  ),
  'gated': (response_error(errors.GatedRepoError, 403), PermissionError, 'gated'),
  'bad token': (response_error(errors.HfHubHTTPError, 401), PermissionError, 'hf auth login'),
  'read-only token': (response_error(errors.HfHubHTTPError, 403), PermissionError, 'write access'),
  'server': (response_error(errors.HfHubHTTPError, 500), ConnectionError, 'Check the network'),
  'offline': (errors.OfflineModeIsEnabled('offline'), ConnectionError, 'HF_HUB_OFFLINE'),
  'no network': (OSError('unreachable'), ConnectionError, 'unreachable'),
}  # fmt: skip


@pytest.mark.parametrize('case', FAILURES)
def test_what_the_hub_refuses_is_said_with_what_to_do(case, remote, saved, monkeypatch):
  raised, kind, words = FAILURES[case]

  def fail(*args, **kwargs):
    raise raised

  monkeypatch.setattr(huggingface_hub.HfApi, 'create_repo', fail)
  monkeypatch.setattr(huggingface_hub, 'snapshot_download', fail)
  for call in (lambda: hub.push(saved, 'me/adapter'), lambda: hub.pull('me/adapter')):
    with pytest.raises(kind, match=words) as error:
      call()
    assert 'me/adapter' in str(error.value)


def test_without_a_token_nothing_is_tried(remote, saved, monkeypatch):
  monkeypatch.setattr(huggingface_hub, 'get_token', lambda: None)
  with pytest.raises(PermissionError, match=r'needs a token.*HF_TOKEN'):
    hub.push(saved, 'me/adapter')
  assert not remote.exists()


def test_without_a_network_an_adapter_that_was_never_fetched_is_an_error():
  with pytest.raises(ConnectionError, match='nobody/nothing could not be fetched'):
    hub.pull('nobody/nothing')


CARDS = {  # Runs here, with what the adapter says of the task.
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
