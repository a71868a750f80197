"""Laws of batches, over layouts, kinds of tasks, groups and multiples of rows."""

import collections
import itertools
import time

import numpy as np
import pytest

from lora_jax.data import (
  Batches,
  Dataset,
  collect,
  eval_batches,
  load_task,
  load_tokenizer,
  shapes,
)
from lora_jax.data.layout import HostShard

KINDS = ('classification', 'regression', 'lm', 'unlabeled')
LAYOUTS = ('pack', 'pad', 'pad_max')


def make(kind, n=150, seed=0, longest=60):
  rng = np.random.default_rng(seed)
  lengths = np.clip(rng.gamma(3, 5, n).astype(int) + 4, 4, longest)
  ids = [rng.integers(1, 500, length).astype(np.int32) for length in lengths]
  if kind == 'lm':  # One example is all context: it was cut before its target.
    starts = np.array([*rng.integers(1, lengths[:-1]), 0], np.int32)
    starts[-1] = len(ids[-1])
    return Dataset(ids=ids, target_starts=starts)
  types = [rng.integers(0, 2, len(x)).astype(np.int32) for x in ids]
  labels = {
    'classification': rng.integers(0, 3, n).astype(np.int32),
    'regression': rng.random(n).astype(np.float32),
    'unlabeled': None,
  }[kind]
  return Dataset(ids=ids, token_types=types, labels=labels)


def check(batch, data):
  """Everything that a batch [R, L], [R, E] promises; returns the examples that it holds."""
  ids, segments = batch['input_ids'], batch['segment_ids']
  assert (batch['position_ids'].dtype, ids.dtype, segments.dtype) == (np.int32,) * 3
  held = []
  expected = collections.defaultdict(list)
  for row in range(len(ids)):
    for segment in range(1, segments[row].max() + 1):
      columns = np.flatnonzero(segments[row] == segment)
      assert (np.diff(columns) == 1).all()
      np.testing.assert_array_equal(batch['position_ids'][row, columns], np.arange(len(columns)))
      tokens = ids[row, columns]
      found = [i for i, x in enumerate(data.ids) if np.array_equal(x, tokens)]
      assert len(found) == 1
      held += found
      if data.token_types is not None:
        np.testing.assert_array_equal(
          batch['token_type_ids'][row, columns], data.token_types[found[0]]
        )
      if data.target_starts is None:
        label = 0 if data.labels is None else data.labels[found[0]]
        expected[row].append((columns[0], label, found[0]))
      else:
        targets = range(data.target_starts[found[0]], len(tokens))
        expected[row] += [(columns[t - 1], tokens[t], found[0]) for t in targets]
    padding = segments[row] == 0
    for name in ('input_ids', 'position_ids', 'token_type_ids'):
      if name in batch:
        assert not batch[name][row, padding].any()
    used = batch['weights'][row] == 1
    names = ('prediction_positions', 'labels', 'index')
    assert list(zip(*(batch[name][row, used] for name in names))) == expected[row]
    unused = [batch[name][row, ~used].tolist() for name in ('weights', *names)]
    assert unused == [[x] * int(np.sum(~used)) for x in (0, 0, 0, -1)]
  assert ('token_type_ids' in batch) == (data.token_types is not None)
  labels = np.float32 if data.labels is not None and data.labels.dtype.kind == 'f' else np.int32
  assert (batch['labels'].dtype, batch['weights'].dtype) == (labels, np.float32)
  return held


def each(stacked):
  """The batches of an item of an epoch, one by one, without the empty ones, which stand last."""
  batches = [{k: v[i] for k, v in stacked.items()} for i in range(len(stacked['input_ids']))]
  held = [bool(batch['segment_ids'].any()) for batch in batches]
  assert held == sorted(held, reverse=True)
  for batch in batches[sum(held) :]:
    assert not batch['weights'].any() and (batch['index'] == -1).all()
  return batches[: sum(held)]


# 19 batches: as few items as groups of `asked` make, of the least number of batches.
@pytest.mark.parametrize(
  'rows_multiple, asked, group',
  [(1, 1, 1), (4, 1, 1), (1, 3, 3), (2, 5, 5), (1, 9, 7), (1, 40, 19)],
)
@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('kind', KINDS)
def test_an_epoch_holds_every_example_once(kind, layout, rows_multiple, asked, group):
  data = make(kind)
  batches = Batches(data, batch_size=8, layout=layout, rows_multiple=rows_multiple, group=asked)
  assert batches.group == group
  order = batches.order(2)
  assert sorted(order) == list(range(len(data)))
  step, shapes = 0, set()
  for stacked in batches.epoch(2):
    assert len(stacked['input_ids']) == group
    present = each(stacked)
    assert len(present) == batches.updates(step) == batches.updates(step + 2 * 19)
    for batch in present:
      held = check(batch, data)
      assert sorted(held) == sorted(order[8 * step : 8 * (step + 1)])
      assert len(batch['input_ids']) % rows_multiple == 0
      shapes.add((*batch['input_ids'].shape, batch['labels'].shape[1]))
      if layout != 'pack':
        assert batch['segment_ids'].max() == 1
      step += 1
  assert step == batches.steps_per_epoch == 19
  assert len(shapes) <= 8
  if layout == 'pad_max':
    assert {shape[1] for shape in shapes} == {data.lengths.max()}


def test_the_order_depends_on_seed_and_epoch_alone():
  data = make('classification')
  order = lambda seed, epoch, **kw: Batches(data, seed=seed, **kw).order(epoch).tolist()
  expected = order(5, 3, batch_size=8)
  assert order(5, 3, batch_size=32, layout='pad', rows_multiple=2, group=2) == expected
  pairs = itertools.product((0, 1, 5), (0, 1, 3))
  assert len({tuple(order(*pair, batch_size=8)) for pair in pairs}) == 9
  # Uniform: over many epochs every example stands in the first half as often.
  batches = Batches(data, batch_size=8)
  half = np.zeros(len(data))
  for epoch in range(400):
    half[batches.order(epoch)[: len(data) // 2]] += 1
  assert abs(half / 400 - 0.5).max() < 0.12  # 4.8 standard deviations


def test_shapes_do_not_depend_on_the_seed():
  data = make('lm')
  shapes = [Batches(data, batch_size=8, seed=seed).planned.shapes for seed in (0, 1)]
  assert shapes[0] == shapes[1]


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('group', [1, 3])
def test_resuming_inside_an_epoch_gives_the_same_batches(layout, group):
  data = make('lm')
  batches = Batches(data, batch_size=8, layout=layout, group=group)
  whole = [batch for stacked in batches.epoch(1) for batch in each(stacked)]
  again = Batches(data, batch_size=8, layout=layout, group=group)
  for start in range(batches.steps_per_epoch + 1):
    rest = [batch for stacked in again.epoch(1, start) for batch in each(stacked)]
    assert len(rest) == len(whole) - start
    for batch, expected in zip(rest, whole[start:]):
      assert batch.keys() == expected.keys()
      for name in batch:
        np.testing.assert_array_equal(batch[name], expected[name], strict=True)
  # After a start inside a group, groups stand where they stood.
  sizes = [len(each(stacked)) for stacked in again.epoch(1, 4)]
  assert sizes == ([1] * 15 if group == 1 else [2, 3, 3, 3, 3, 1])
  assert again.updates(4) == sizes[0] and again.updates(18) == 1


@pytest.mark.parametrize('kind, group, start', [('lm', 3, 0), ('lm', 3, 4), ('regression', 1, 2)])
def test_the_shapes_of_an_epoch_are_those_of_its_batches(kind, group, start):
  batches = Batches(make(kind), batch_size=8, group=group)
  expected = [(*x['input_ids'].shape[1:], x['labels'].shape[2]) for x in batches.epoch(1, start)]
  assert list(batches.shapes(1, start)) == expected


def test_a_batch_that_fits_no_shape_gets_one():
  data = make('lm', n=64)
  batches = Batches(data, batch_size=8)
  batches.planned = shapes.Planned([shapes.Shape(1, 32, 4)], [])
  held = [i for stacked in batches.epoch(0) for batch in each(stacked) for i in check(batch, data)]
  assert sorted(held) == list(range(64))


def test_fewer_examples_than_a_batch():
  data = make('classification', n=5)
  (stacked,) = Batches(data, batch_size=32, rows_multiple=4).epoch(0)
  assert sorted(check(each(stacked)[0], data)) == [0, 1, 2, 3, 4]


def test_padding_is_what_the_batches_hold():
  data = make('lm', n=400)
  for layout in LAYOUTS:
    batches = Batches(data, batch_size=16, layout=layout)
    items = list(batches.epoch(0))
    tokens = sum(int((x['segment_ids'] > 0).sum()) for x in items)
    used = sum(float(x['weights'].sum()) for x in items)
    assert tokens == batches.tokens == data.lengths.sum()
    assert batches.padding == pytest.approx(1 - tokens / sum(x['input_ids'].size for x in items))
    assert batches.prediction_padding == pytest.approx(
      1 - used / sum(x['labels'].size for x in items)
    )


def test_packing_wastes_little_and_padding_less_than_the_maximum():
  data = make('classification', n=2000)
  waste = [Batches(data, batch_size=16, layout=layout).padding for layout in LAYOUTS]
  assert waste[0] < 0.1 < waste[1] < waste[2]


def test_row_length_and_max_length_are_kept():
  data = make('classification')
  packed = Batches(data, batch_size=16, row_length=96)
  assert {x['input_ids'].shape[-1] for x in packed.epoch(0)} == {96}
  padded = Batches(data, batch_size=16, layout='pad_max', max_length=128)
  assert {x['input_ids'].shape for x in padded.epoch(0)} == {(1, 16, 128)}


@pytest.mark.parametrize('held', [(0,), (2, 3), (1, 3)])
def test_a_host_shard_is_those_rows_of_the_batch(held):
  options = dict(batch_size=8, rows_multiple=4, group=2, row_length=64)
  whole = Batches(make('regression'), **options)
  part = Batches(make('regression'), **options, host_shard=HostShard(4, held))
  assert part.planned == whole.planned
  for ours, theirs in zip(part.epoch(1, 3), whole.epoch(1, 3), strict=True):
    for name, rows in theirs.items():
      parts = np.split(rows, 4, axis=1)
      np.testing.assert_array_equal(ours[name], np.concatenate([parts[i] for i in held], axis=1))
  with pytest.raises(ValueError, match='rows_multiple=4 is not a multiple of the 3 host shards'):
    Batches(make('regression'), **options, host_shard=HostShard(3, (0,)))


@pytest.mark.parametrize('rows_multiple', [1, 4])
@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('kind', KINDS)
def test_evaluation_sees_every_example_once(kind, layout, rows_multiple):
  data = make(kind, n=203)
  batches = eval_batches(data, 16, layout=layout, rows_multiple=rows_multiple)
  listed = list(batches)
  held = [i for batch in listed for i in check(batch, data)]
  assert sorted(held) == list(range(203))
  assert len(listed) == len(batches)
  assert all(len(batch['input_ids']) % rows_multiple == 0 for batch in listed)
  assert len(set(batches.shapes)) <= 9
  again = list(batches)
  assert all(np.array_equal(a['index'], b['index']) for a, b in zip(listed, again))
  cells = sum(batch['input_ids'].size for batch in listed)
  assert batches.padding == pytest.approx(1 - data.lengths.sum() / cells)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_collect_puts_outputs_back_in_order(layout):
  data = make('classification')
  batches = list(eval_batches(data, 16, layout=layout))
  outputs = [np.stack([b['labels'], b['index']], -1).astype(np.float32) for b in batches]
  collected = collect([b['index'] for b in batches], outputs, len(data))
  np.testing.assert_array_equal(collected, np.stack([data.labels, np.arange(len(data))], -1))
  with pytest.raises(ValueError, match=r'outputs for 150 examples, found none for \d+ of'):
    collect([b['index'] for b in batches[1:]], outputs[1:], len(data))
  with pytest.raises(ValueError, match='indices up to 149'):
    collect([b['index'] for b in batches], outputs, len(data) - 1)


def test_collect_sums_the_predictions_of_an_example():
  data = make('lm').take(range(149))  # The last one has no target.
  stacked = list(Batches(data, batch_size=8, group=3).epoch(0))
  collected = collect([x['index'] for x in stacked], [x['labels'] for x in stacked], 149)
  expected = [x[start:].sum() for x, start in zip(data.ids, data.target_starts)]
  np.testing.assert_array_equal(collected, expected)


@pytest.mark.parametrize(
  'arguments, message',
  [
    (dict(layout='packed'), "unknown layout 'packed'. Did you mean 'pack'"),
    (dict(batch_size=0), "sizes of at least 1, found {'batch_size': 0}"),
    (dict(max_length=20), r'example \d+ has \d+ tokens, max_length is 20'),
    (dict(row_length=20), r'example \d+ has \d+ tokens, row_length is 20'),
  ],
)
def test_errors(arguments, message):
  data = make('classification')
  with pytest.raises(ValueError, match=message):
    Batches(data, **{'batch_size': 8, **arguments})
  with pytest.raises(ValueError, match=message):
    eval_batches(data, **{'batch_size': 8, **arguments})


def test_an_empty_dataset_is_refused():
  with pytest.raises(ValueError, match='at least one example'):
    Batches(Dataset(ids=[], labels=np.zeros(0, np.int32)), batch_size=8)


@pytest.mark.real_data
@pytest.mark.parametrize('name', ['cola', 'mrpc', 'rte', 'e2e'])
def test_packed_padding_on_real_data(name, shared_data):
  kind = 'gpt2' if name == 'e2e' else 'bert-base-uncased'
  tokenizer = load_tokenizer(shared_data / f'tokenizer-{kind}.zip')
  limit = 12000 if name == 'e2e' else 0
  data = load_task(name, tokenizer, data_dir=str(shared_data), limit=limit).train
  for batch_size in (16, 32, 64):
    batches = Batches(data, batch_size=batch_size, seed=1)
    begin, shapes = time.process_time(), set()
    for batch in batches.epoch(1):
      shapes.add((batch['input_ids'].shape, batch['labels'].shape))
    milliseconds = 1e3 * (time.process_time() - begin) / batches.steps_per_epoch
    assert batches.padding <= 0.10
    assert len(shapes) <= 8
    assert milliseconds < 3
    if name == 'e2e':
      assert batches.prediction_padding <= 0.2
