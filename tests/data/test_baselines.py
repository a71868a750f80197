"""One prediction for all examples scores what its class's share is; templates name every slot."""

import zipfile

import pytest

from lora_jax.data import baselines, e2e
from lora_jax.metrics import text

MEANING = (
  'name[Zizzi], eatType[pub], food[English], priceRange[cheap], area[riverside], near[Ranch]'
)


def write(folder, member, lines):
  path = folder / member
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text('\n'.join(lines) + '\n')


def test_the_most_common_class_of_train_is_scored_on_dev(tmp_path):
  rows = lambda labels: [f'x\t{label}\t\ta sentence' for label in labels]
  write(tmp_path, 'CoLA/train.tsv', rows('1101'))
  write(tmp_path, 'CoLA/dev.tsv', rows('100'))
  found = baselines.constant('cola', str(tmp_path))
  assert found['counts'] == {'unacceptable': 1, 'acceptable': 3}
  assert (found['label'], found['metric'], found['score']) == ('acceptable', 'matthews', 0.0)
  sst2 = lambda labels: ['sentence\tlabel', *(f'a film\t{label}' for label in labels)]
  write(tmp_path, 'SST-2/train.tsv', sst2('100'))
  write(tmp_path, 'SST-2/dev.tsv', sst2('1110'))
  assert baselines.constant('sst2', str(tmp_path))['score'] == 0.25
  values = ['sentence1\tsentence2\tscore', *(f'a\tb\t{value}' for value in (1.0, 5.0, 3.0))]
  for name in ('train', 'dev'):
    write(tmp_path, f'STS-B/{name}.tsv', values)
  stsb = baselines.constant('stsb', str(tmp_path))
  assert (stsb['label'], stsb['counts'], stsb['score']) == ('', {}, 0.0)


@pytest.mark.parametrize(
  'meaning, expected',
  [
    (MEANING, 'Zizzi is an English pub in the riverside area near Ranch . It has a cheap price '
              'range .'),
    ('name[A], priceRange[£20-25], customer rating[5 out of 5], familyFriendly[no]',
     'A is a restaurant . It has a price range of £ 20 - 25 and a customer rating of 5 out of 5 . '
     'It is not family friendly .'),
  ],
)  # fmt: skip
def test_templates_name_every_slot(meaning, expected):
  assert baselines.from_template(e2e.linearize(meaning)) == expected


def test_published_texts_are_scored_by_their_meaning(tmp_path, monkeypatch):
  other = 'name[Alimentum], area[city centre]'
  write(tmp_path, 'testset_w_refs.csv', ['mr,ref', f'"{MEANING}",A pub.', f'"{other}",A place.'])
  with zipfile.ZipFile(tmp_path / baselines.OUTPUTS, 'w') as archive:
    for name in baselines.SYSTEMS:
      rows = f'MR\toutput\n"{other}"\tA place.\n"{MEANING}"\tA family-friendly pub.\n'
      archive.writestr(f'challenge/primary/{name.lower()}.tsv', rows)
  scored = []

  def score(task, predictions, references):
    scored.append((predictions, references))
    return text.Report({'bleu': 0.5}, {}, {}, {}, 2, 2)

  monkeypatch.setattr(text, 'score', score)
  found = baselines.e2e_systems(str(tmp_path))
  assert list(found) == ['templates', 'TGen', 'Slug'] and found['TGen']['scores'] == {'bleu': 0.5}
  published = ['A family - friendly pub .', 'A place .']
  assert scored[1] == (published, [['A pub .'], ['A place .']])
  monkeypatch.setattr(
    text, 'score', lambda *_: text.Report({}, {'meteor': 'no Java'}, {}, {}, 2, 2)
  )
  with pytest.raises(ValueError, match=r'all of its metrics.*no Java'):
    baselines.e2e_systems(str(tmp_path))
