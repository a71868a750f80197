"""Random changes of files, in their own formats and in their bytes."""

from __future__ import annotations

import contextlib
import io
import json
import random
import struct
import zipfile
from typing import Any

STRANGE = (
  None, True, [], {}, '', '\0', '../../etc/passwd', '(', 'a' * 5000, '\ud800', -1, 0, 1, 0.5, 1e308,
  float('nan'), float('inf'), 2**31, 2**60, 10**30, -(2**63), [[]], [None], ['.*'], {'a': 1},
)  # fmt: skip


def mutated(content: bytes, drawn: random.Random) -> bytes:
  """The content of a file with a few changes in its own format, or in its bytes."""
  ways = [_bytes]
  if content[:4] == b'GGUF':
    ways += [_gguf] * 2
  if content[:2] == b'PK':
    ways += [_zip] * 4
  elif content[:1] in b'{[' and len(content) < 1 << 20:
    ways += [_json] * 3
  elif len(content) > 8 and content[8:9] == b'{':
    ways += [_safetensors] * 3
  for _ in range(drawn.choice((1, 1, 1, 2, 5))):
    content = drawn.choice(ways)(content, drawn)
  return content


def _bytes(content: bytes, drawn: random.Random) -> bytes:
  if not content:
    return drawn.randbytes(drawn.randrange(1, 64))
  at = drawn.randrange(min(len(content), drawn.choice((64, 4096, len(content)))) or 1)
  kind = drawn.randrange(6)
  if kind == 0:
    return content[:at] + bytes([content[at] ^ 1 << drawn.randrange(8)]) + content[at + 1 :]
  if kind == 1:
    return content[:at]
  if kind == 2:
    return content[:at] + drawn.randbytes(drawn.randrange(1, 16)) + content[at:]
  if kind == 3:
    return content[:at] + content[at + drawn.randrange(1, 64) :]
  if kind == 4:
    return content[:at] + content[at : at + drawn.randrange(1, 64)] * 2 + content[at:]
  special = (
    b'\xff' * 8,
    b'\0' * 8,
    b'\xef\xbb\xbf',
    b'\r\n',
    b'\t',
    b'"',
    b'\x7f' + b'\xff' * 7,
    b'[' * 100_000,
  )
  return content[:at] + drawn.choice(special) + content[at + 8 :]


def _json(content: bytes, drawn: random.Random) -> bytes:
  try:
    value = json.loads(content)
    return json.dumps(_changed(value, drawn)).encode('utf-8', 'surrogatepass')
  except (ValueError, RecursionError):
    return _bytes(content, drawn)


def _changed(value: Any, drawn: random.Random) -> Any:
  """The JSON value with one of its parts replaced, removed, repeated or nested."""
  if isinstance(value, dict) and value and drawn.random() < 0.85:
    key = drawn.choice(list(value))
    kind = drawn.random()
    if kind < 0.1:
      return {name: x for name, x in value.items() if name != key}
    if kind < 0.2:
      return {f'{name}x' if name == key else name: x for name, x in value.items()}
    return value | {key: _changed(value[key], drawn)}
  if isinstance(value, list) and value and drawn.random() < 0.7:
    at = drawn.randrange(len(value))
    if drawn.random() < 0.2:
      return value[:at] + value[at + 1 :] * drawn.randrange(3)
    return [*value[:at], _changed(value[at], drawn), *value[at + 1 :]]
  if drawn.random() < 0.1:
    for _ in range(drawn.choice((1, 50, 900))):
      value = [value]
    return value
  return drawn.choice(STRANGE)


def _safetensors(content: bytes, drawn: random.Random) -> bytes:
  if len(content) < 8:
    return _bytes(content, drawn)
  length = struct.unpack('<Q', content[:8])[0]
  if length > len(content) - 8:
    return _bytes(content, drawn)
  header = _json(content[8 : 8 + length], drawn)
  claimed = drawn.choice((len(header), len(header), len(header), 2**60, 0, len(content) * 2))
  return struct.pack('<Q', claimed) + header + content[8 + length :]


def _gguf(content: bytes, drawn: random.Random) -> bytes:
  """A number of the header, which is before the tensors, replaced."""
  at = drawn.randrange(4, max(5, min(len(content) - 8, 8000)))
  number = drawn.choice((0, 1, 2, 255, 2**31, 2**60, 2**64 - 1))
  size = drawn.choice((1, 4, 8))
  return content[:at] + (number % 256**size).to_bytes(size, 'little') + content[at + size :]


def _zip(content: bytes, drawn: random.Random) -> bytes:
  """One member changed, and the archive packed again."""
  try:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
      members = {name: archive.read(name) for name in archive.namelist()}
  except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError):
    return _bytes(content, drawn)
  if not members:
    return _bytes(content, drawn)
  chosen = drawn.choice(sorted(members, key=lambda name: not name.endswith('.pkl'))[:3])
  if drawn.random() < 0.1:
    del members[chosen]
  elif drawn.random() < 0.1:
    members[drawn.choice(('../evil', '/etc/evil', 'a/' * 300, 'b'))] = members.pop(chosen)
  else:
    members[chosen] = mutated(members[chosen], drawn)
  packed = io.BytesIO()
  with zipfile.ZipFile(packed, 'w') as archive, contextlib.suppress(ValueError):
    for name, data in members.items():
      archive.writestr(name, data)
  return packed.getvalue()
