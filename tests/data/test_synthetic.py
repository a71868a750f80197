import itertools

import pytest

from lora_jax.data import domains, load_task, synthetic


@pytest.fixture(scope='module')
def tokenizer():
  return synthetic.train_tokenizer()


def test_a_pure_function_of_its_arguments():
  rows = synthetic.generate(3, 'films', 40)
  assert rows == synthetic.generate(3, 'films', 40)
  assert rows[:10] == synthetic.generate(3, 'films', 10)
  assert rows != synthetic.generate(4, 'films', 40) != synthetic.generate(3, 'books', 40)
  assert synthetic.generate(0, 'trains', 1) == [
    (
      'name : South Express | to : Durham | platform : 7',
      'Passengers of the South Express should know that it uses platform 7 and runs to Durham .',
    )
  ]


@pytest.mark.parametrize('name', domains.DOMAINS)
def test_a_sentence_says_exactly_its_meaning(name):
  slots = domains.DOMAINS[name].slots
  for context, reference in synthetic.generate(0, name, 200):
    given = dict(part.split(' : ') for part in context.split(' | '))
    assert given.pop('name') in reference
    assert 2 <= len(given) <= 5
    for slot, value in given.items():
      assert any(phrase in reference for phrase in synthetic._phrases(slots[slot], value))
    assert reference.count(' . ') + 1 <= len(given)
    assert reference.endswith(' .') and reference[0].isupper() and '{' not in reference


def test_sentences_vary_in_words_and_order():
  rows = synthetic.generate(0, 'recipes', 2000)
  assert len({row.reference for row in rows}) > 1900
  slots = domains.DOMAINS['recipes'].slots
  both = [row.reference for row in rows if 'heat : mild' in row.context and 'diet' in row.context]
  heat = [min(r.find(p) % 999 for p in slots['heat']['mild']) for r in both]
  diet = [min(r.find(p) % 999 for phrases in slots['diet'].values() for p in phrases) for r in both]
  early = sum(h < d for h, d in zip(heat, diet)) / len(both)
  assert 0.6 < early < 0.97  # mostly, not always, in the order of the slots


def test_the_held_out_domain_has_slots_and_phrases_of_its_own():
  held_out = domains.DOMAINS[synthetic.HELD_OUT]
  assert synthetic.HELD_OUT not in synthetic.PRETRAIN and len(synthetic.PRETRAIN) >= 6
  phrases = lambda domain: {
    p
    for s in domain.slots.values()
    for p in itertools.chain.from_iterable([s[1]] if isinstance(s, tuple) else s.values())
  }
  for name in synthetic.PRETRAIN:
    other = domains.DOMAINS[name]
    assert not held_out.slots.keys() & other.slots.keys()
    assert not phrases(held_out) & phrases(other)
    assert not {*held_out.first, *held_out.last} & {*other.first, *other.last}


@pytest.mark.parametrize('name', ['pretrain', 'recipes'])
def test_no_held_out_context_is_trained_on(name):
  train, dev, test = (
    [r.context for r in synthetic.rows(name, s)] for s in ('train', 'dev', 'test')
  )
  assert not set(train) & set(dev) and not set(train) & set(test)
  domains_in = len(synthetic.PRETRAIN) if name == 'pretrain' else 1
  text = 2000 if name == 'pretrain' else 0
  assert (len(train), len(dev)) == (2000 * domains_in + text, 300 * domains_in)


def test_plain_text_has_the_words_and_no_meaning():
  rows = synthetic.plain_text('recipes', 2000)
  assert {row.context for row in rows} == {'text'}
  assert len(rows) == 2000
  text = ' '.join(row.reference for row in rows)
  for slot in domains.DOMAINS['recipes'].slots.values():
    for value in synthetic._values(slot):
      assert any(phrase in text for phrase in synthetic._phrases(slot, value))
  assert ' : ' not in text
  # Nothing of what dev asks for is given away: its meanings are not among the text's.
  asked = {row.context for split in ('dev', 'test') for row in synthetic.rows('recipes', split)}
  said = {row.reference for row in rows}
  drawn = synthetic.generate(3, 'recipes', 4000)
  assert not {row.reference for row in drawn if row.context in asked} & said


def test_task_is_one_of_a_language_model(tokenizer):
  task = load_task('synthetic/recipes', tokenizer, max_length=128, limit=50)
  assert (task.kind, task.metric, len(task.train)) == ('lm', 'loss', 50)
  ids, start = task.train.ids[0], task.train.target_starts[0]
  assert tokenizer.decode(ids[:start]).startswith('name : ')
  assert tokenizer.decode(ids[start:]).endswith(' .')
  prompts = task.prompts['dev']
  assert (task.scoring, list(task.prompts), len(task.evals['dev'])) == ('synthetic', ['dev'], 300)
  assert sum(map(len, prompts.references)) == 300
  assert max(map(len, prompts.ids)) + 64 <= 128  # The demo's positions.
  other = load_task('synthetic/recipes', tokenizer, max_length=128, limit=50, seed=1)
  assert [x.tolist() for x in other.train.ids] != [x.tolist() for x in task.train.ids]
  assert [x.tolist() for x in other.evals['dev'].ids] == [x.tolist() for x in task.evals['dev'].ids]
  with pytest.raises(ValueError, match="Did you mean 'synthetic/recipes'"):
    load_task('synthetic/recipe', tokenizer)
  with pytest.raises(ValueError, match=r"no split 'devel'. Did you mean 'dev'"):
    load_task('synthetic/recipes', tokenizer, evals=('devel',))


def test_tokenizer_knows_the_words_of_every_domain(tokenizer):
  assert tokenizer.vocab_size == 1024
  assert tokenizer.backend.to_str() == synthetic.train_tokenizer().backend.to_str()
  for name in domains.DOMAINS:
    text = ' '.join(row.reference for row in synthetic.generate(9, name, 100))
    assert len(tokenizer.encode([text])[0]) < 1.6 * len(text.split())
