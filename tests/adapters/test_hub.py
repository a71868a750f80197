"""Pushing to the hub and pulling from it, with a local folder in its place."""

import shutil

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import errors

from lora_jax.adapters import formats, hub
from lora_jax.adapters.adapter import Adapter
from lora_jax.adapters.formats import load_adapter
from lora_jax.adapters.native import save_adapter
from lora_jax.models import presets


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
    config=config,
    task='classification',
    num_labels=2,
  )
  save_adapter(tmp_path / 'saved', adapter)
  (tmp_path / 'saved' / 'README.md').write_text('A card.')
  return tmp_path / 'saved'


def test_what_is_pushed_is_pulled(remote, saved):
  assert hub.push(saved, 'me/adapter') == 'https://huggingface.co/me/adapter'
  (remote / 'me/adapter' / 'unrelated.msgpack').touch()
  folder = hub.pull('me/adapter')
  assert {path.name for path in folder.iterdir()} == {path.name for path in saved.iterdir()}
  for source in ('hub:me/adapter', 'hub:me/adapter@main'):
    found, expected = formats.load_adapter(source), load_adapter(saved)
    assert found.method == expected.method
  with pytest.raises(FileNotFoundError, match='no such revision'):
    formats.load_adapter('hub:me/adapter@v2')


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


absent = response_error(errors.RepositoryNotFoundError, 404)
http_error = lambda status: response_error(errors.HfHubHTTPError, status)
FAILURES = {
  'no repository': (absent, FileNotFoundError, 'Check the spelling'),
  'gated': (response_error(errors.GatedRepoError, 403), PermissionError, 'gated'),
  'bad token': (http_error(401), PermissionError, 'hf auth login'),
  'read-only token': (http_error(403), PermissionError, 'write access'),
  'server': (http_error(500), ConnectionError, 'Check the network'),
  'offline': (errors.OfflineModeIsEnabled('offline'), ConnectionError, 'HF_HUB_OFFLINE'),
  'no network': (OSError('unreachable'), ConnectionError, 'unreachable'),
}


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
