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
import tensorstore
from etils import epath

from lora_jax import extras, files


def path_of(workdir: str | os.PathLike[str]) -> Path:
  """The path to read and write a directory by: an absolute path on the disk, or one on a bucket.

  Raises:
    ValueError: for a bucket of another kind or without a name, or if the library that reaches
      buckets is missing.
    OSError: if the bucket cannot be reached.
  """
  text = os.fspath(workdir)
  scheme, is_url, rest = text.partition('://')
  if not is_url:
    if files.is_url(text):
      raise ValueError(
        f'{text}: expected a directory on the disk, or gs://bucket/run with two slashes. A '
        f'directory of this name is written ./{text}'
      )
    return Path(text).expanduser().absolute()
  if scheme != 'gs':
    raise ValueError(
      f'{text}: expected a directory on the disk, or on a bucket of Google Cloud '
      f'(gs://bucket/run), found {scheme}://. Checkpoints are written to no other kind of bucket.'
    )
  if not (bucket := rest.partition('/')[0]):
    raise ValueError(f'{text}: names no bucket, expected gs://bucket/run')
  if ':' in bucket:
    raise ValueError(
      f'{text}: expected gs://bucket/run, found {bucket} for the bucket. Where gs:// is put before '
      'it, as by the jobs in cloud/, give the name alone: BUCKET=my-bucket.'
    )
  _check_bucket(bucket)
  return cast(Path, epath.Path(text))  # It has the interface of pathlib.Path.


def on_bucket(path: str | os.PathLike[str]) -> bool:
  """Whether a path is on a bucket."""
  return '://' in os.fspath(path)


def create(path: Path, text: str) -> bool:
  """Writes a file unless there is one, and says whether it did: of several processes one does.

  Raises:
    OSError: if it cannot be written; nothing is left of it.
  """
  if on_bucket(path):
    return _create_object(os.fspath(path), text)
  try:
    # Closing the file tries to write what is left once more, and fails once more.
    with files.naming(path), open(path, 'x', encoding='utf-8') as file:
      file.write(text)
  except FileExistsError:
    return False
  except OSError:
    path.unlink(missing_ok=True)
    raise
  return True


def remove(path: Path) -> None:
  """Removes a file or a folder with all that it holds, if there is one."""
  if on_bucket(path) or path.is_dir():
    epath.Path(path).rmtree(missing_ok=True)
  else:
    path.unlink(missing_ok=True)


def rename(path: Path, target: Path) -> Path:
  """Renames a file or a folder, in place of what has that name, and returns the new path."""
  remove(target)
  return cast(Path, path.rename(target))


def _create_object(url: str, text: str) -> bool:
  """`create` on a bucket: TensorStore writes on condition that there is no object."""
  bucket, _, name = url.partition('://')[2].partition('/')
  store = tensorstore.KvStore.open({'driver': 'gcs', 'bucket': bucket}).result()
  found = store.read(name).result()
  if found.state != 'missing':
    return False
  return bool(store.write(name, text, if_equal=found.stamp.generation).result().generation)


@functools.cache
def _check_bucket(bucket: str) -> None:
  """Raises as `path_of` if a bucket cannot be listed, before a model is loaded in vain."""
  # Other hosts write to the bucket as well, and TensorStore does by itself: with a cache of
  # listings a file of another host would be reported as missing.
  fsspec.config.conf.setdefault('gcs', {}).setdefault('use_listings_cache', False)
  try:
    next(epath.Path(f'gs://{bucket}').iterdir(), None)
  except ImportError as error:
    raise ValueError(f'gs://{bucket}: {extras.missing("gcsfs")} ({error})') from error
  except Exception as error:  # The library's errors of network, name and credentials.
    raise OSError(
      f'gs://{bucket} cannot be listed ({type(error).__name__}: {error}). Check its name and your '
      'credentials: gcloud auth application-default login, or the service account of the machine.'
    ) from error
