"""The page of table 1 and figure 5 has the milliseconds and slow-downs of each variant."""

import re

import pytest

from lora_jax.report import document
from lora_jax.report.pages import latency

ROW = {'mean': 20.0, 'sd': 1.0, 'slowdown': 5.0, 'trials': 9}
SETTING = {'batch': 1, 'length': 128, 'adapters': '11M', 'rows': {'adapter_l': ROW}}
FOUND = {
  'experiment': 'latency', 'device': '1 x cpu', 'cpu': '2', 'commit': 'b' * 40,
  'model': 'gpt2-medium', 'layers': 24, 'dtype': 'float32', 'grid': [], 'settings': [SETTING],
}  # fmt: skip
GRID = [
  {
    'batch': batch,
    'length': length,
    'rows': {'bare': ROW}
    | {f'{method} {size}': ROW for method in latency.METHODS for size in (10, 100)},
  }
  for batch in (1, 2)
  for length in (128, 256)
]


def text_of(**changed):
  text = document.markdown(latency.page({'a/lat.json': FOUND | changed}))
  return text.replace('\n', ' ')


def test_settings_are_in_the_order_of_the_papers_table():
  assert '| Adapter-L | 20.0 ± 1.0 (+5.0%) |' in text_of()
  larger = SETTING | {'batch': 32, 'length': 512, 'adapters': '0.5M'}
  assert re.search('batch 32, .*batch 1, ', text_of(settings=[SETTING, larger]))


def test_the_grid_is_a_picture_and_says_its_passes():
  assert 'of 9 passes or more' in text_of(grid=GRID) and 'of 9' not in text_of()
  page = latency.page({'a/lat.json': FOUND | {'grid': GRID}})
  assert [picture.name for picture in page.pictures] == ['figure-5-lat', 'table-1']
  alone = latency.page({'a/lat.json': FOUND | {'settings': [], 'grid': GRID}})
  assert len(alone.pictures[-1].numbers) == len(page.pictures[-1].numbers) - 1
  assert len(page.pictures[0].figure().axes) == 2 * 2 + 1  # Panels, and the color bar.


def test_that_merged_is_the_bare_program_is_said_where_it_was_merged():
  assert 'to the letter' in text_of()
  assert 'to the letter' not in text_of(settings=[], grid=GRID)


def test_the_papers_slow_downs_are_those_that_it_prints():
  (picture,) = latency.page({}).pictures
  merged, adapter_l, adapter_h = picture.numbers[0]['series']
  assert merged['method'] == 'lora' and merged['spread'][2] == pytest.approx(100 * 2.7 / 19.8)
  assert adapter_l['y'] == pytest.approx([2.2, 5.0, 20.7], abs=0.06)
  assert adapter_h['y'] == pytest.approx([3.0, 8.4, 30.3], abs=0.06)


def test_the_picture_and_the_table(tmp_path):
  latency.draw(GRID, tmp_path / 'figure.png')
  assert (tmp_path / 'figure.png').read_bytes()[1:4] == b'PNG'
  (found,) = latency.rows([SETTING])
  assert found == {
    '': 'Adapter-L',
    'batch 1, length 128, 9 passes (adapters 11M)': '20.0 ± 1.0 (+5.0%)',
  }


def test_a_picture_that_cannot_be_written_is_named_and_not_left(tmp_path, full_disk):
  with pytest.raises(OSError, match=r"bytes are free\): '.*/figure\.png'"):
    latency.draw(GRID, tmp_path / 'figure.png')
  assert not any(tmp_path.iterdir())
