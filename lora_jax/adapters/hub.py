"""Adapters on the Hugging Face hub: folders are pushed as repositories, and pulled as folders."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

# The files to fetch from a repository: this project's and PEFT's.
FETCHED = ('adapter*.json', 'adapter*.safetensors', 'adapter_model.bin', 'README.md')
LOGIN = 'Log in with `hf auth login`, or set HF_TOKEN'


def push(
  folder: str | Path,
  repository: str,
  *,
  private: bool | None = None,
  revision: str | None = None,
  message: str = 'Upload from lora_jax',
) -> str:
  """Uploads a folder as a model repository, which is made if it does not exist.

  Args:
    folder: a folder that `experiments.export` wrote: an adapter or a merged model, with README.md.
    repository: `user/name` or `group/name`.
    private: whether a new repository is private; None is the owner's default.
    revision: branch; None is the main branch.
    message: commit message.

  Returns:
    The repository's address.

  Raises:
    FileNotFoundError: if the folder does not exist or is empty.
    ValueError: if `repository` is not a repository's name.
    PermissionError: without a token, or if the token may not write to the repository.
    ConnectionError: if the hub cannot be reached.
  """
  folder = Path(folder).expanduser()
  if not folder.is_dir() or not any(folder.iterdir()):
    raise FileNotFoundError(f'{folder}: nothing to push: the folder is empty or does not exist')
  check_push(repository)
  import huggingface_hub

  api = huggingface_hub.HfApi()
  with _translate_errors(repository, 'pushed to'):
    url = api.create_repo(repository, private=private, exist_ok=True)
    api.upload_folder(
      repo_id=repository, folder_path=str(folder), revision=revision, commit_message=message
    )
  return str(url)


def check_push(repository: str) -> None:
  """Raises as `push` does before it touches the network: for a wrong name, or without a token."""
  _check_name(repository)
  import huggingface_hub  # Imported where it is used: nothing else here needs the hub.

  if huggingface_hub.get_token() is None:
    raise PermissionError(f'pushing to {repository} needs a token. {LOGIN}.')


def pull(repository: str, *, revision: str | None = None) -> Path:
  """The folder of an adapter's repository, from the hub or its cache.

  Args:
    repository: `user/name`.
    revision: branch, tag or commit; None is the main branch.

  Raises:
    ValueError: if `repository` is not a repository's name.
    FileNotFoundError: if there is no such repository or revision, or it is private.
    PermissionError: if the token may not read it.
    ConnectionError: if it is not in the cache and the hub cannot be reached.
  """
  _check_name(repository)
  import huggingface_hub

  with _translate_errors(repository, 'fetched from'):
    patterns = list(FETCHED)
    return Path(
      huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=patterns)
    )


def _check_name(repository: str) -> None:
  if not re.fullmatch(r'[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*', repository):
    raise ValueError(f'{repository!r} is not the name of a repository: expected user/name')


@contextlib.contextmanager
def _translate_errors(repository: str, action: str) -> Iterator[None]:
  """Raises errors of the hub's library as Python's own, with the next step."""
  from huggingface_hub import errors

  try:
    yield
  except errors.GatedRepoError as error:
    raise PermissionError(
      f'{repository} is gated: ask for access on its page on the hub. {LOGIN}.'
    ) from error
  except errors.RevisionNotFoundError as error:
    raise FileNotFoundError(f'{repository} has no such revision: {error}') from error
  except errors.RepositoryNotFoundError as error:
    raise FileNotFoundError(
      f'there is no repository {repository} on the hub, or it is private and your token cannot '
      f'read it. Check the spelling. {LOGIN}.'
    ) from error
  except Exception as error:  # Its other errors, those of its HTTP client, and the system's.
    status = getattr(getattr(error, 'response', None), 'status_code', None)
    if status in (401, 403):
      raise PermissionError(
        f'{repository} cannot be {action}: the token is not accepted ({status}). It needs write '
        f'access to push. {LOGIN}.'
      ) from error
    raise ConnectionError(
      f'{repository} could not be {action} the hub ({type(error).__name__}: {error}). Check the '
      'network, and that HF_HUB_OFFLINE is not set. A cached repository or a local folder needs no '
      'network.'
    ) from error
