"""Files and archives: where they are looked for, and what is wrong with them is named."""

import zipfile

import pytest

from lora_jax.data import sources
from lora_jax.data.sources import Text

FIND = (('RTE.zip',), 'RTE/train.tsv')


def test_missing_files_name_the_places_looked_at(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'Looked for .*RTE/train.tsv, .*RTE.zip'):
    sources.find_text(tmp_path, *FIND)
  with pytest.raises(FileNotFoundError, match=r'config.data.dir is empty.*RTE.zip'):
    sources.find_text('', *FIND)
  with pytest.raises(FileNotFoundError, match=r'nowhere.* is not a folder'):
    sources.find_text(tmp_path / 'nowhere', *FIND)


def test_damaged_archives_are_named(tmp_path):
  with zipfile.ZipFile(tmp_path / 'RTE.zip', 'w') as archive:
    archive.writestr('RTE/dev.tsv', 'these words')
  with pytest.raises(FileNotFoundError, match=r'RTE.zip holds no RTE/train.tsv; it holds RTE/dev'):
    sources.find_text(tmp_path, *FIND)
  whole = (tmp_path / 'RTE.zip').read_bytes()
  (tmp_path / 'RTE.zip').write_bytes(whole[: len(whole) // 2])
  with pytest.raises(ValueError, match=r'RTE.zip is truncated or not a zip archive'):
    sources.find_text(tmp_path, *FIND)
  (tmp_path / 'RTE.zip').write_bytes(whole.replace(b'these', b'those'))  # A wrong checksum.
  with pytest.raises(ValueError, match=r'RTE.zip is truncated or not a zip archive'):
    sources.find_text(tmp_path, ('RTE.zip',), 'RTE/dev.tsv')


def test_bad_encoding_names_file_and_line():
  with pytest.raises(ValueError, match=r'train.tsv, line 2: expected UTF-8, found byte 0xe9'):
    sources.decode('a\né'.encode('latin1'), 'train.tsv')
  assert sources.decode(b'\xef\xbb\xbfa', 'x') == 'a'


@pytest.mark.parametrize('data', [b'a\nb\0c', 'a\nb'.encode('utf-16')[2:]])
def test_a_nul_byte_is_no_text(data):
  with pytest.raises(ValueError, match=r'train.tsv, line [12]: expected text, found a NUL byte'):
    sources.decode(data, 'train.tsv')


def test_a_line_ends_at_a_line_feed_alone():
  assert sources.split_lines(Text('x', 'a\u2028b\r\nc\n')) == ['a\u2028b\r', 'c']
  assert sources.split_lines(Text('x', '')) == []
  table = sources.read_tsv(Text('x', 'n\tm\n1\t2\r\n3\t4'), ['m'])
  assert (table.rows, table.lines, table.where(1)) == ([('2',), ('4',)], [2, 3], 'x, line 3')


def test_json_values_are_of_the_expected_type():
  assert sources.get({'a': [1]}, 'a', list, 'x') == [1]
  with pytest.raises(ValueError, match=r"^x: expected the key 'b', found a$"):
    sources.get({'a': 1}, 'b', str, 'x')
  with pytest.raises(ValueError, match=r'^x, a: expected a string, found .1'):
    sources.get({'a': 1}, 'a', str, 'x')


def test_unknown_names_offer_the_nearest():
  with pytest.raises(ValueError, match=r"unknown data source 'file'\. Did you mean 'files'"):
    sources.check_source('file')
  with pytest.raises(ValueError, match=r"rte has no split 'devel'\. Did you mean 'dev'"):
    sources.check_split('rte', 'devel', ['train', 'dev'])
