import numpy as np
import pytest

from lora_jax.data import batches, data_to_text, load_tokenizer
from lora_jax.data.data_to_text import Example
from lora_jax.data.dataset import Request

CONTEXT = (
  'name : Blue Spice | Type : coffee shop | price : more than £ 30 | area : city centre | '
  'family friendly : no'
)
ROWS = [
  Example('a', 'one'),
  Example('b', 'two '),
  Example('a', 'three'),
  Example(CONTEXT, 'Blue Spice is closed .'),
  Example('a', 'one'),
]


@pytest.fixture
def gpt2(request):
  return load_tokenizer(request.path.parents[1] / 'golden' / 'tokens' / 'gpt2')


@pytest.fixture
def form(gpt2):
  return data_to_text.papers_form(gpt2)


def test_examples_read_out_the_reference_and_its_end(gpt2, form):
  data = data_to_text.encode(ROWS, form, max_length=512)
  for ids, start, row in zip(data.ids, data.target_starts, ROWS):
    assert gpt2.decode(ids[: start - 1]) == row.context
    assert gpt2.decode(ids[start:-1]) == ' ' + row.reference.strip()
    assert ids[start - 1] == ids[-1] == gpt2.eos_id
  assert data.ids[0].dtype == np.int32
  assert data.num_predictions.tolist() == [len(i) - s for i, s in zip(data.ids, data.target_starts)]


@pytest.mark.parametrize('cut', [90, 95, 101])
def test_overlong_examples_are_cut_on_the_right(cut, form):
  whole = data_to_text.encode(ROWS[3:4], form, max_length=512)
  part = data_to_text.encode(ROWS[3:4], form, max_length=cut)
  np.testing.assert_array_equal(part.ids[0], whole.ids[0][:cut])
  assert part.num_predictions[0] == len(part.ids[0]) - whole.target_starts[0] > 0
  assert (part.cut, whole.cut, part.left_out) == (1, 0, 0)


def test_examples_of_whose_target_nothing_fits_are_left_out_and_counted(gpt2, form, caplog):
  whole = data_to_text.encode(ROWS, form, max_length=512)
  longest = int(whole.target_starts[3])
  for most, kept, cut in ((longest + 1, 5, 1), (longest, 4, 0), (1, 0, 0)):
    part = data_to_text.encode(ROWS, form, max_length=most)
    assert (len(part), part.cut, part.left_out) == (kept, cut, 5 - kept), most
    assert not len(part) or part.num_predictions.min() > 0
  request = Request(tokenizer=gpt2, max_length=longest)
  task = data_to_text.task('e2e', ROWS, {'dev': ROWS[:2]}, request)
  assert task.truncation == {
    'train': {'examples': 4, 'cut': 0, 'left_out': 1},
    'dev': {'examples': 2, 'cut': 0, 'left_out': 0},
  }
  task.warn_of_truncation(longest)
  (message,) = caplog.messages
  assert message.startswith(f'e2e train: config.data.max_length={longest} cuts the end of 0 of 4')
  assert '1 more are left out' in message
  with pytest.raises(ValueError, match=r'none of 5 examples is left.*config\.data\.max_length'):
    batches.Batches(part, batch_size=2, seed=0)


def test_references_are_grouped_wherever_their_rows_stand():
  assert list(data_to_text.group(ROWS).items()) == [
    ('a', ['one', 'three', 'one']),
    ('b', ['two']),
    (CONTEXT, ['Blue Spice is closed .']),
  ]


def test_prompts_are_the_contexts_of_the_examples_whole(form):
  prompts = data_to_text.prompts(ROWS, form, {'short': {'a', 'b'}, 'none': {'c'}})
  examples = data_to_text.encode(ROWS, form, max_length=512)
  assert prompts.contexts == list(dict.fromkeys(row.context for row in ROWS))
  assert sum(map(len, prompts.references)) == len(ROWS)
  for row, ids, start in zip(ROWS, examples.ids, examples.target_starts):
    i = prompts.contexts.index(row.context)
    assert row.reference.strip() in prompts.references[i]
    np.testing.assert_array_equal(prompts.ids[i], ids[:start])
    assert prompts.ids[i].dtype == np.int32
  assert {name: part.tolist() for name, part in prompts.groups.items()} == {
    'short': [True, True, False],
    'none': [False, False, False],
  }
  assert all(part.dtype == bool for part in prompts.groups.values())
  assert data_to_text.prompts(ROWS, form).groups == {}


def test_a_task_has_prompts_for_each_held_out_split_and_limits_training_alone(gpt2):
  evals = {'dev': ROWS, 'test': ROWS[:2]}
  request = lambda **options: Request(tokenizer=gpt2, max_length=90, **options)
  make = lambda **options: data_to_text.task('e2e', ROWS, evals, request(**options))
  task = make(limit=2)
  assert (task.name, task.kind, task.scoring, task.metric) == ('e2e', 'lm', 'e2e', 'loss')
  assert (len(task.train), list(task.evals), list(task.prompts)) == (2, [*evals], [*evals])
  assert [len(task.prompts[split].contexts) for split in evals] == [3, 2]
  assert len(task.evals['dev'].ids[3]) == 90 and task.evals['dev'].cut == 1
  kept = [make(limit=2, seed=seed).train.ids for seed in range(8)]
  assert len({tuple(tuple(ids.tolist()) for ids in train) for train in kept}) > 1
  assert len(make().train) == len(make(limit=99).train) == len(ROWS)


def test_triples_keep_their_names():
  triples = [('Aarhus_Airport', 'cityServed', '"Aarhus, Denmark"'), ('A', 'NO._OF', '1')]
  assert data_to_text.linearize(triples) == (
    'Aarhus_Airport : cityServed : "Aarhus, Denmark" | A : NO._OF : 1'
  )
