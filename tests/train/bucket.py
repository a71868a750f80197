"""A bucket `gs://...` without a network: fsspec's memory, and a server of it for TensorStore.

What etils does goes to the memory by the interface that gcsfs has; arrays, which TensorStore reads
and writes by itself, go through the few requests of Cloud Storage's JSON interface that it makes.
"""

import contextlib
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class Bucket(MemoryFileSystem):
  """Objects in memory; nothing can be appended to one, and there are no folders to be made."""

  protocol = ('gs', 'gcs')
  store: dict = {}  # noqa: RUF012
  pseudo_dirs: list = ['']  # noqa: RUF012
  cachable = False

  @classmethod
  def _strip_protocol(cls, path):
    return '/' + str(path).removeprefix('gs://').removeprefix('gcs://').strip('/')

  def ls(self, path, detail=True, **kwargs):
    try:
      return super().ls(path, detail, **kwargs)
    except FileNotFoundError:
      if self._strip_protocol(path).count('/') == 1:  # The bucket itself, empty.
        return []
      raise

  def makedirs(self, path, exist_ok=False):
    pass

  def mkdir(self, path, create_parents=True, **kwargs):
    pass

  def _open(self, path, mode='rb', **kwargs):
    if mode not in ('rb', 'wb'):
      raise ValueError(f'an object is read or written as a whole, not opened in mode {mode}')
    return super()._open(path, mode, **kwargs)


class Requests(http.server.BaseHTTPRequestHandler):
  """The JSON interface, as far as TensorStore's driver `gcs` uses it."""

  protocol_version = 'HTTP/1.1'
  generations: dict = {}  # noqa: RUF012

  def _parts(self) -> tuple[str, str, dict[str, str]]:
    url = urllib.parse.urlsplit(self.path)
    query = {key: values[0] for key, values in urllib.parse.parse_qs(url.query).items()}
    found = re.fullmatch(r'(?:/upload)?/storage/v1/b/([^/]+)/o(?:/(.+))?', url.path)
    name = urllib.parse.unquote(found[2] or query.get('name', ''))
    return found[1], name, query

  def _answer(self, status: int, body: bytes = b'', headers: tuple = ()) -> None:
    self.send_response(status)
    for name, value in (*headers, ('Content-Length', str(len(body)))):
      self.send_header(name, value)
    self.end_headers()
    self.wfile.write(body)

  def _describe(self, path: str) -> dict[str, str]:
    _, _, name = path[1:].partition('/')
    return {
      'name': name,
      'generation': str(self.generations.get(path, 1)),
      'size': str(len(Bucket.store[path].getvalue())),
      'updated': '2026-01-01T00:00:00Z',
      'timeCreated': '2026-01-01T00:00:00Z',
    }

  def _is_unmet(self, path: str, query: dict[str, str]) -> bool:
    now = self.generations.get(path, 1) if path in Bucket.store else 0
    if 'ifGenerationMatch' in query and int(query['ifGenerationMatch']) != now:
      return True
    return 'ifGenerationNotMatch' in query and int(query['ifGenerationNotMatch']) == now

  def do_GET(self) -> None:
    bucket, name, query = self._parts()
    if not name:
      start = f'/{bucket}/{query.get("prefix", "")}'
      found = [self._describe(path) for path in sorted(Bucket.store) if path.startswith(start)]
      self._answer(200, json.dumps({'items': found}).encode())
      return
    path = f'/{bucket}/{name}'
    if path not in Bucket.store:
      self._answer(404)
    elif self._is_unmet(path, query):
      self._answer(304)
    else:
      data = Bucket.store[path].getvalue()
      stored = ('x-goog-generation', str(self.generations.get(path, 1)))
      if asked := re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers.get('Range', '')):
        first, last = int(asked[1]), int(asked[2] or len(data) - 1)
        part = data[first : last + 1]
        where = f'bytes {first}-{first + len(part) - 1}/{len(data)}'
        self._answer(206, part, (stored, ('Content-Range', where)))
      else:
        self._answer(200, data, (stored,))

  def do_POST(self) -> None:
    bucket, name, query = self._parts()
    data = self.rfile.read(int(self.headers.get('Content-Length', 0)))
    path = f'/{bucket}/{name}'
    if self._is_unmet(path, query):
      self._answer(412)
      return
    fsspec.filesystem('gcs').pipe_file(f'gs:/{path}', data)
    self.generations[path] = self.generations.get(path, 1) + 1
    self._answer(200, json.dumps(self._describe(path)).encode())

  def do_DELETE(self) -> None:
    bucket, name, query = self._parts()
    path = f'/{bucket}/{name}'
    if self._is_unmet(path, query):
      self._answer(412)
      return
    self._answer(204 if Bucket.store.pop(path, None) else 404)

  def log_message(self, *args: object) -> None:
    pass


@contextlib.contextmanager
def serve() -> Iterator[str]:
  """The address of a server of the bucket."""
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Requests)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  try:
    yield f'http://127.0.0.1:{server.server_port}'
  finally:
    server.shutdown()
    server.server_close()
