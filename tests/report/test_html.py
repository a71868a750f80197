"""All pages in one HTML file, which a real browser shows."""

import base64
import io
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from lora_jax.report import charts, document, html

BROWSER = shutil.which('chromium') or shutil.which('google-chrome')


@pytest.fixture
def pages(tmp_path):
  series = charts.Series('LoRA', [1, 2], [3, 2])
  picture = charts.chart('p', 'scores <by> rank', [charts.Panel('t', 'rank', 'score', [series])])
  rows = [{'method': 'LoRA', 'score': '**81.7**'}, {'method': '<script>x</script>', 'score': '3'}]
  index = document.Page('README', 'Results', '', ['See [one](one.md).'])
  blocks = [
    '> **Found here:** LoRA is better.',
    document.Table(rows, 'A caption'),
    picture,
    document.Table(rows, 'How each was obtained', folded=True),
  ]
  made = [index, document.Page('one', 'Table 1: one', 'some', blocks)]
  document.write(made, tmp_path)
  html.write(made, tmp_path)
  return tmp_path


def test_one_file_holds_tables_pictures_and_links_to_its_own_sections(pages):
  text = (pages / html.NAME).read_text()
  assert '<a href="#one">one</a>' in text and '<section id="one"><h1>Table 1: one</h1>' in text
  assert text.count('<strong>81.7</strong>') == 2 and '<details><summary>How each' in text
  assert 'alt="scores &lt;by&gt; rank"' in text
  data = text.partition('data:image/png;base64,')[2].partition('"')[0]
  assert base64.b64decode(data) == (pages / 'p.png').read_bytes()
  assert text.count('src=') == 1 and 'href="http' not in text  # It needs no other file.


def test_what_stands_in_a_table_is_text_and_is_not_run(pages):
  text = (pages / html.NAME).read_text()
  assert '<script' not in text and '&lt;script&gt;x' in text


@pytest.mark.skipif(not BROWSER, reason='needs Chromium (Debian: apt install chromium)')
def test_a_browser_shows_it(pages):
  arguments = ['--headless', '--no-sandbox', '--disable-gpu', '--window-size=900,1200']
  address = (pages / html.NAME).as_uri()
  command = [str(BROWSER), *arguments, f'--user-data-dir={pages / "profile"}']
  shot = pages / 'shot.png'
  subprocess.run([*command, f'--screenshot={shot}', address], check=True, capture_output=True)
  with Image.open(io.BytesIO(shot.read_bytes())) as image:
    pixels = np.asarray(image.convert('L'))
  # White paper with ink on it: neither blank nor an error page of one color.
  assert pixels.max() == 255 and 0.005 < (pixels < 128).mean() < 0.5
  shown = subprocess.run(
    [*command, '--dump-dom', address], check=True, capture_output=True, text=True
  )
  assert '<strong>81.7</strong>' in shown.stdout
