"""Lines become requests, or say what is wrong; windows take lines as they come."""

import io
import os

import pytest

from lora_jax.serving import requests
from lora_jax.serving.requests import Request

BROKEN = {
  b'{"adapter": "sst2"': 'not valid JSON',
  b'\n': 'not valid JSON',
  b'{"adapter": "sst2", "text": "\xff"}': 'not valid JSON',
  b'{"adapter": "a", "text": "b", "text": "c"}': 'an object has two values of text',
  b'["sst2", "good"]': 'expected an object with adapter, text, text_pair, found list',
  b'{"adapter": "sst2"}': "no 'text'",
  b'{"adapter": "sst2", "text": 3}': "'text' is int, expected a string",
  b'{"adapter": "sst2", "text": "a", "txt_pair": "b"}': "Did you mean 'text_pair'",
  b'{"adapter": "sst2", "text": "\\ud800"}': 'surrogate',
}


@pytest.mark.parametrize('line', BROKEN)
def test_a_broken_line_says_what_is_wrong(line):
  with pytest.raises(ValueError) as error:
    requests.parse(line)
  assert BROKEN[line] in str(error.value)


def test_a_pair_is_optional():
  assert requests.parse(b'{"adapter": "a", "text": "b"}') == Request('a', 'b', None)
  assert requests.parse(b'\xef\xbb\xbf{"adapter": "a", "text": "b"}') == Request('a', 'b', None)
  assert requests.parse(b'{"adapter": "a", "text": "b", "text_pair": null}').text_pair is None
  assert requests.parse(b'{"text_pair": "c", "text": "b", "adapter": "a"}') == Request(
    'a', 'b', 'c'
  )


def test_lines_are_taken_as_they_come():
  lines = [b'%d\n' % i for i in range(10)]
  windows = list(requests.windows(io.BytesIO(b''.join(lines)), 4, wait=5.0))
  assert windows == [lines[:4], lines[4:8], lines[8:]]
  read, write = os.pipe()
  with os.fdopen(read, 'rb') as stream, os.fdopen(write, 'wb', buffering=0) as end:
    found = requests.windows(stream, 4, wait=0.05)
    end.write(b'one\n')
    assert next(found) == [b'one\n']  # Nobody waits for a full batch.
    end.write(b'two\nthree')
    end.close()
    assert list(found) == [[b'two\n', b'three']]
  assert list(requests.windows(io.BytesIO(b''), 4)) == []
