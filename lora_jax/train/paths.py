"""Where a run's files are: on the disk, or on a bucket of Google Cloud (`gs://bucket/run`).

On a bucket a file appears whole when it is closed, as on the disk a renamed one does; nothing can
be appended to it.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import fsspec
from etils import epath

# Other hosts write to the bucket as well, and TensorStore does by itself: a listing that was true
# once is not kept. (A file of another host is reported as missing with it.)
fsspec.config.conf.setdefault('gcs', {}).setdefault('use_listings_cache', False)


def path_of(workdir: str | os.PathLike) -> Path:
  """A directory to read and write: an absolute path on the disk, or one of a bucket.

  Raises:
    ValueError: for a bucket of another kind, and where the library that reaches buckets is missing.
    OSError: if the bucket cannot be reached.
  """
  text = os.fspath(workdir)
  scheme, is_url, rest = text.partition('://')
  if not is_url:
    return Path(text).expanduser().absolute()
  if scheme != 'gs':
    raise ValueError(
      f'{text}: a directory is on the disk or on a bucket of Google Cloud (gs://bucket/run), the '
      f'only one that checkpoints are written to: found {scheme}://'
    )
  _check_bucket(rest.partition('/')[0])
  return epath.Path(text)


def on_bucket(path: str | os.PathLike) -> bool:
  """Whether a path is on a bucket."""
  return '://' in os.fspath(path)


@functools.cache
def _check_bucket(bucket: str) -> None:
  """Raises as `path_of` if a bucket cannot be listed: before a model is loaded for nothing."""
  try:
    next(epath.Path(f'gs://{bucket}').iterdir(), None)
  except ImportError as error:
    raise ValueError(
      f'gs://{bucket} needs a library that reaches buckets: pip install gcsfs ({error})'
    ) from error
  except Exception as error:  # Its library's own, of the network, the name and the credentials.
    raise OSError(
      f'gs://{bucket} cannot be listed ({type(error).__name__}: {error}). Check its name, and who '
      'asks: gcloud auth application-default login, or the service account of the machine.'
    ) from error
