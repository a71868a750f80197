"""Where a run's files are: on the disk, or on a bucket of Google Cloud (`gs://bucket/run`).

A file on a bucket appears whole when it is closed, like a renamed file on the disk. Nothing can be
appended to it.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import cast

import fsspec
from etils import epath


def path_of(workdir: str | os.PathLike[str]) -> Path:
  """The path to read and write a directory by: an absolute path on the disk, or one on a bucket.

  Raises:
    ValueError: for a bucket of another kind, or if the library that reaches buckets is missing.
    OSError: if the bucket cannot be reached.
  """
  text = os.fspath(workdir)
  scheme, is_url, rest = text.partition('://')
  if not is_url:
    return Path(text).expanduser().absolute()
  if scheme != 'gs':
    raise ValueError(
      f'{text}: expected a directory on the disk, or on a bucket of Google Cloud '
      f'(gs://bucket/run), found {scheme}://. Checkpoints are written to no other kind of bucket.'
    )
  _check_bucket(rest.partition('/')[0])
  return cast(Path, epath.Path(text))  # It has the interface of pathlib.Path.


def on_bucket(path: str | os.PathLike[str]) -> bool:
  """Whether a path is on a bucket."""
  return '://' in os.fspath(path)


@functools.cache
def _check_bucket(bucket: str) -> None:
  """Raises as `path_of` if a bucket cannot be listed, before a model is loaded in vain."""
  # Other hosts write to the bucket as well, and TensorStore does by itself: with a cache of
  # listings a file of another host would be reported as missing.
  fsspec.config.conf.setdefault('gcs', {}).setdefault('use_listings_cache', False)
  try:
    next(epath.Path(f'gs://{bucket}').iterdir(), None)
  except ImportError as error:
    raise ValueError(
      f'gs://{bucket} needs a library that reaches buckets: pip install gcsfs ({error})'
    ) from error
  except Exception as error:  # The library's errors of network, name and credentials.
    raise OSError(
      f'gs://{bucket} cannot be listed ({type(error).__name__}: {error}). Check its name and your '
      'credentials: gcloud auth application-default login, or the service account of the machine.'
    ) from error
