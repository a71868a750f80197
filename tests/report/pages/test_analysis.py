"""An analysis is on the pages of what it measured."""

from lora_jax.report import document, pages
from lora_jax.report.findings import Findings
from lora_jax.report.pages import analysis
from lora_jax.report.runs import Recorded

ENTRY = {'effective_rank': 5.561, 'stable_rank': 1.5, 'norm': 9.6, 'singular_values': [2.0, 1.0]}


FACTS = {'run': 'a', 'model': 'x/base', 'task': 'mnli', 'ranks': [2], 'scales': [2.0], 'seed': 0}


SINGLE = {
  'experiment': 'analysis', 'kind': 'single', 'of': 'a', 'runs': [FACTS],
  'measured': {
    'layers': [], 'figure8': [],
    'spectra': [{**ENTRY, 'layer': n, 'matrix': m} for n, m in ((0, 'query'), (0, 'value'),
                                                                 (1, 'value'))],
    'table7': [{'layer': 0, 'matrix': 'query', 'rank': 2, 'scale': 2.0, 'weight': 60.0,
                'on_update': 0.3, 'on_weight': 20.0, 'on_random': 0.1, 'update': 6.0,
                'amplification': 20.0}],
  },
}  # fmt: skip


MAP = {
  'layer': 0, 'matrix': 'query', 'path': 'q', 'phi': [[0.5, 0.2], [0.1, 0.4]], 'top': 0.5,
  'top_of_first_in_second': 0.6, 'whole': 0.4, 'whole_by_chance': 0.01,
}  # fmt: skip


PAIR = {
  'experiment': 'analysis', 'kind': 'pair', 'of': 'a', 'runs': [FACTS, FACTS | {'seed': 1}],
  'measured': {
    'maps': [MAP], 'middle': 0, 'spread': [0], 'control': [{'phi': [[0.0, 0.1], [0.1, 0.2]]}],
  },
}  # fmt: skip


def test_an_analysis_is_on_the_pages_of_what_it_measured(tmp_path):
  made = {p.name: p for p in analysis.pages({'one/analysis.json': SINGLE, 'p.json': PAIR})}
  assert list(made) == ['table-7', 'figure-3', 'figure-4', 'figure-8', 'spectra']
  assert made['figure-3'].ours == made['figure-8'].ours == ''
  text = document.markdown(made['spectra'])
  assert '`a` on base, mnli, r 2, scale 2, seed 0.' in text
  assert '| 0 | 5.56 | 1.50 | 9.60 | 5.56 | 1.50 | 9.60 |' in text
  assert '| 1 | - | - | - | 5.56 | 1.50 | 9.60 |' in text
  assert '![spectra of base, mnli, r=2, seed 0](spectra-one.png)' in text
  assert [picture.name for picture in made['figure-4'].pictures] == ['figure-4-p', 'figure-7-p']
  assert '| 0 | query | 0.500 | 0.600 | 0.400 | 0.010 |' in document.markdown(made['figure-4'])
  assert '| 0 | query | 2 | 60 | 0.3 | 20 | 0.1 | 6 | 20 |' in document.markdown(made['table-7'])
  picture = made['figure-4'].pictures[0]
  picture.draw(tmp_path)
  assert picture.is_drawn(tmp_path)
  other = picture._replace(numbers=picture.numbers | {'of': 'b'})
  assert not other.is_drawn(tmp_path)


def test_an_analyzed_model_has_its_published_name():
  known = Findings(names={'base': 'Base-1B'})
  _, *made = pages.make(Recorded(analysis={'one/analysis.json': SINGLE, 'p.json': PAIR}), known)
  for page in made:
    text = document.markdown(page)
    assert 'Base-1B' in text and ' base,' not in text
