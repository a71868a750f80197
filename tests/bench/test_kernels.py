"""Kernels of a traced step by kind, on a small program and a small trace written by hand."""

import gzip
import json
import types

import jax
import jax.numpy as jnp
import pytest

from lora_jax.bench import kernels, mfu, steps, timing

STEP = 'jit(step)/while/body/closed_call'
FORWARD, BACKWARD = f'{STEP}/jvp(GPT2)/decoder', f'{STEP}/transpose(jvp(GPT2))/decoder'
LAYER = 'while/body/closed_call/layers.<lambda>/layers'
RANK = 8
PROGRAM = rf"""HloModule jit_step, is_scheduled=true, entry_computation_layout={{(f32[8]{{0}})->f32[8]{{0}}}}

FileNames
1 "step.py"

%fused_norm (p.1: bf16[64,32]) -> bf16[64,32] {{
  %p.1 = bf16[64,32]{{1,0}} parameter(0)
  %rsqrt.1 = bf16[64,32]{{1,0}} rsqrt(%p.1), metadata={{op_name="{FORWARD}/layers_0/mlp_norm/rsqrt"}}
  %mul.1 = bf16[64,32]{{1,0}} multiply(%rsqrt.1, %p.1), metadata={{op_name="{FORWARD}/layers_0/mlp_norm/mul"}}
  ROOT %add.1 = bf16[64,32]{{1,0}} add(%mul.1, %p.1), metadata={{op_name="{FORWARD}/layers_0/add"}}
}}

%gemm_fusion_dot.3_computation (p.2: bf16[64,32], p.3: bf16[32,8]) -> bf16[64,8] {{
  %p.2 = bf16[64,32]{{1,0}} parameter(0)
  %p.3 = bf16[32,8]{{1,0}} parameter(1)
  ROOT %dot.3 = bf16[64,8]{{1,0}} dot(%p.2, %p.3), lhs_contracting_dims={{1}}, rhs_contracting_dims={{0}}, metadata={{op_name="{FORWARD}/layers_0/attention/query/Dense/dot_general"}}
}}

%fused_convert (p.4: f32[64,32]) -> bf16[64,32] {{
  %p.4 = f32[64,32]{{1,0}} parameter(0)
  ROOT %convert.4 = bf16[64,32]{{1,0}} convert(%p.4), metadata={{op_name="{FORWARD}/layers_0/attention/convert_element_type"}}
}}

%fused_pair (p.5: f32[64,32]) -> (f32[64,32], f32[64]) {{
  %p.5 = f32[64,32]{{1,0}} parameter(0)
  %exp.5 = f32[64,32]{{1,0}} exponential(%p.5), metadata={{op_name="{STEP}/jvp()/exp"}}
  %sum.5 = f32[64]{{0}} reduce(%exp.5, %zero), dimensions={{1}}, to_apply=%region, metadata={{op_name="{STEP}/jvp()/reduce_sum"}}
  ROOT %tuple.5 = (f32[64,32]{{1,0}}, /*index=1*/f32[64]{{0}}) tuple(%exp.5, %sum.5)
}}

%fused_gelu (p.6: bf16[64,128]) -> bf16[64,128] {{
  %p.6 = bf16[64,128]{{1,0}} parameter(0)
  ROOT %tanh.6 = bf16[64,128]{{1,0}} tanh(%p.6), metadata={{op_name="{BACKWARD}/{LAYER}/mlp/tanh"}}
}}

%body (arg: (s32[], bf16[64,128])) -> (s32[], bf16[64,128]) {{
  %arg = (s32[], bf16[64,128]{{1,0}}) parameter(0)
  %loop_tanh_fusion = bf16[64,128]{{1,0}} fusion(%arg), kind=kLoop, calls=%fused_gelu, metadata={{op_name="{BACKWARD}/{LAYER}/mlp/tanh"}}
  %cublas-gemm.7 = (bf16[64,128]{{1,0}}, s8[4194304]{{0}}) custom-call(%loop_tanh_fusion, %w), custom_call_target="__cublas$lt$matmul", metadata={{op_name="{BACKWARD}/{LAYER}/mlp/down/dot_general"}}
  %cublas-gemm.8 = (bf16[128,8]{{1,0}}, s8[64]{{0}}) custom-call(%loop_tanh_fusion, %w), custom_call_target="__cublas$lt$matmul", metadata={{op_name="{BACKWARD}/{LAYER}/attention/value/dot_general"}}
  ROOT %tuple.7 = (s32[], bf16[64,128]{{1,0}}) tuple(%arg, %cublas-gemm.7)
}}

ENTRY %main.9 (state: f32[8]) -> f32[8] {{
  %state = f32[8]{{0}} parameter(0), metadata={{op_name="state.trainable[\'lora_a\']"}}
  %while.1 = (s32[], bf16[64,128]{{1,0}}) while(%state), condition=%cond, body=%body, metadata={{op_name="{BACKWARD}/while"}}
  %loop_add_fusion.2 = bf16[64,32]{{1,0}} fusion(%state), kind=kLoop, calls=%fused_norm, metadata={{op_name="{FORWARD}/layers_0/add"}}
  %gemm_fusion_dot.3 = bf16[64,8]{{1,0}} fusion(%state), kind=kCustom, calls=%gemm_fusion_dot.3_computation
  %loop_convert_fusion = bf16[64,32]{{1,0}} fusion(%state), kind=kLoop, calls=%fused_convert
  %input_reduce_fusion.1 = (f32[64,32]{{1,0}}, f32[64]{{0}}) fusion(%state), kind=kInput, calls=%fused_pair
  %cudnn-fmha.2 = (bf16[2,32,2,16]{{3,2,1,0}}, u8[0]{{0}}) custom-call(%state), custom_call_target="__cudnn$fmhaSoftmax", metadata={{op_name="{FORWARD}/layers_0/attention/custom"}}
  %dot.9 = f32[2,32,32]{{2,1,0}} dot(%state, %state), metadata={{op_name="{FORWARD}/layers_0/attention/dot_general"}}
  %dot.10 = f32[8,512]{{1,0}} dot(%state, %state), metadata={{op_name="{STEP}/jvp(GPT2)/embeddings.attend/word.attend/dot_general"}}
  ROOT %multiply.3 = f32[8]{{0}} multiply(%state, %state), metadata={{op_name="{STEP}/mul"}}
}}
"""  # noqa: E501
DEVICE, HOST, COMPUTE, COPY, OPS, MODULES = 1, 701, 14, 15, 90, 91


def named(kind, name, pid, **tid):
  return {'ph': 'M', 'pid': pid, **tid, 'name': kind, 'args': {'name': name}}


def ran(name, microseconds, hlo_op='', tid=COMPUTE, pid=DEVICE, **more):
  args = {'hlo_op': hlo_op, 'hlo_module': 'jit_step', **more} if hlo_op or more else None
  event = {'ph': 'X', 'pid': pid, 'tid': tid, 'ts': 1.5, 'dur': microseconds, 'name': name}
  return event if args is None else event | {'args': args}


METADATA = [
  named('process_name', '/device:GPU:0', DEVICE),
  named('process_name', '/host:CPU', HOST),
  named('thread_name', 'Stream #14(Compute)', DEVICE, tid=COMPUTE),
  named('thread_name', 'Stream #15(MemcpyD2H)', DEVICE, tid=COPY),
  named('thread_name', 'XLA Ops', DEVICE, tid=OPS),
  named('thread_name', 'XLA Modules', DEVICE, tid=MODULES),
]
# A step; the operations of the loop run twice, for its two layers.
KERNELS = [
  *[ran('nvjet_tst_128x256', 10.0, 'cublas-gemm.7'), ran('loop_tanh_fusion', 2.0)] * 2,
  ran('nvjet_tst_64x8', 1.0, 'while.1::cublas-gemm.8'),
  ran('loop_add_fusion_2', 3.0, 'loop_add_fusion.2'),
  ran('gemm_fusion_dot_3', 1.5),
  ran('cudnn_generated_fort_native_sdpa', 4.0, 'cudnn-fmha.2'),
  ran('MemcpyD2H', 0.5, 'while.1', tid=COPY),
  ran('multiply_3', 0.25),
]


def trace(steps_traced=1):
  """A trace of steps, in which summary lines and the host say the same again."""
  events = KERNELS * steps_traced
  again = [event | {'tid': OPS} for event in events]
  again += [ran('jit_step', 99.0, tid=MODULES), ran('ThunkExecute', 99.0, pid=HOST, tid=3)]
  return {'displayTimeUnit': 'ns', 'traceEvents': [*METADATA, *events, *again, {}]}


@pytest.fixture(scope='module')
def program():
  return kernels.parse(PROGRAM)


def test_the_text_of_a_program_is_read_in_all_its_computations(program):
  assert {'body', 'main.9', 'fused_norm'} <= set(program.computations)
  product = program.instructions['cublas-gemm.7']  # In the body of a loop.
  assert product.target == '__cublas$lt$matmul' and product.operands == ('loop_tanh_fusion', 'w')
  assert product.shape == '(bf16[64,128]{1,0}, s8[4194304]{0})' and not product.is_root
  assert product.op_name.endswith('mlp/down/dot_general')
  fusion = program.instructions['input_reduce_fusion.1']
  assert [x.name for x in kernels.inside(program, fusion)] == ['p.5', 'exp.5', 'sum.5', 'tuple.5']
  assert program.instructions['tuple.5'].is_root


@pytest.mark.parametrize(
  'name, kind',
  {
    'cublas-gemm.7': 'dense products',
    'cublas-gemm.8': 'LoRA factors',  # The layer's path, but the rank is among its sizes.
    'gemm_fusion_dot.3': 'LoRA factors',
    'dot.10': 'dense products',  # Eight rows of the head are no rank.
    'dot.9': 'attention',
    'cudnn-fmha.2': 'attention',
    'loop_add_fusion.2': 'norms',  # A residual is its result, a norm most of its work.
    'loop_tanh_fusion': 'activations',
    'loop_convert_fusion': 'copies and casts',
    'input_reduce_fusion.1': 'embedding and loss',  # Its result is a tuple, without a path.
    'multiply.3': 'optimizer',
  }.items(),
)
def test_an_instruction_has_the_kind_of_its_work(program, name, kind):
  assert kernels.kind_of_instruction(program, program.instructions[name], RANK) == kind


@pytest.mark.parametrize(
  'name, about, kind',
  [
    ('loop_add_fusion_2', {}, 'norms'),  # By the name that XLA gives to the kernel,
    ('loop_add_fusion_2__1', {}, 'norms'),
    ('fused_norm', {}, 'norms'),  # or by the computation's.
    ('loop_add_fusion_2', {'hlo_op': 'command_buffer.4'}, 'norms'),
    ('void cutlass::Kernel2<cutlass_80_tensorop>(Params)', {}, 'dense products'),
    ('fmha_cutlassF_bf16_aligned', {}, 'attention'),
    ('MemcpyD2D', {'hlo_op': None}, 'copies and casts'),
    ('mystery', {'tf_op': f'{FORWARD}/layers_0/mlp_norm/mul'}, 'norms'),
    ('mystery', {'hlo_op': ['?']}, 'other'),
    ('', {}, 'other'),
  ],
)
def test_a_kernel_without_an_annotation_is_found_by_its_name(program, name, about, kind):
  assert kernels.kind_of_event(program, kernels.Event(name, 1.0, about), RANK) == kind


def test_only_streams_of_a_device_count(program):
  assert len(kernels.device_events(trace(), program)) == len(KERNELS)


def test_without_streams_operations_count_but_those_that_hold_others(program):
  events = [named('process_name', '/device:TPU:0', DEVICE), METADATA[4], METADATA[5]]
  events += [ran('while.1', 50.0, tid=OPS), ran('cublas-gemm.7', 10.0, tid=OPS)]
  events += [ran('jit_step', 99.0, tid=MODULES)]
  (event,) = kernels.device_events({'traceEvents': events}, program)
  assert event.name == 'cublas-gemm.7' and event.microseconds == 10


@pytest.mark.parametrize('found', [{}, {'traceEvents': None}, {'traceEvents': [None, {'ph': 'X'}]}])
def test_a_trace_without_kernels_has_none(program, found):
  assert kernels.device_events(found, program) == []


def test_an_unreadable_event_is_counted_without_a_time(program):
  broken = ran('nvjet', None) | {'args': 'text'}
  (event,) = kernels.device_events({'traceEvents': [*METADATA, broken]}, program)
  assert event == kernels.Event('nvjet', 0.0, {})


def test_microseconds_and_kernels_are_those_of_one_step(program):
  events = kernels.device_events(trace(steps_traced=3), program)
  kinds, longest, unknown = kernels.tables(events, program, 3, RANK)
  assert next(iter(kinds)) == 'dense products' and list(kinds)[-1] == 'all kernels'
  assert kinds['dense products'] == pytest.approx(
    {'microseconds': 20, 'kernels': 2, 'share': 20 / 34.25}
  )
  expected = {
    'dense products': 20, 'attention': 4, 'activations': 4, 'norms': 3, 'LoRA factors': 2.5,
    'copies and casts': 0.5, 'optimizer': 0.25, 'all kernels': 34.25,
  }  # fmt: skip
  assert {name: row['microseconds'] for name, row in kinds.items()} == pytest.approx(expected)
  assert kinds['all kernels']['kernels'] == len(KERNELS) and unknown == pytest.approx(1)
  shares = [row['share'] for name, row in kinds.items() if name != 'all kernels']
  assert sum(shares) == pytest.approx(1)
  assert longest['loop_add_fusion, jvp(GPT2)/decoder/layers_*/add']['kernels'] == 1
  assert next(iter(longest)).startswith('nvjet_tst_128x256, transpose(jvp(GPT2))/decoder/while')


def test_what_the_profiler_wrote_is_read(tmp_path):
  assert kernels.read_trace(str(tmp_path)) == {}
  folder = tmp_path / 'plugins/profile/2026_01_01'
  folder.mkdir(parents=True)
  with gzip.open(folder / 'host.trace.json.gz', 'wt') as file:
    json.dump(trace(), file)
  assert kernels.read_trace(str(tmp_path)) == trace()


class Doubling:
  """A step that is timed, without a model."""

  model = None

  def __init__(self):
    self.state = jnp.ones(4)
    step = jax.jit(lambda state, frozen, batch: (2 * state, frozen))
    self.compiled = step.lower(self.state, *self.arguments({})).compile()

  def arguments(self, batch):
    return jnp.ones(2), {}

  def program(self, batch):
    return types.SimpleNamespace(compiled=self.compiled)


def test_a_recorded_trace_on_a_cpu_has_no_kernels(program):
  variant = Doubling()
  found = kernels.record(variant, {}, 3)
  assert found['traceEvents'] and kernels.device_events(found, program) == []
  assert variant.state.tolist() == [8] * 4


def case():
  return steps.random_case('lm', 512, 4, 32, 'full')


REACHED = mfu.Product('64^3 in bfloat16', 1e12)


def test_on_a_cpu_it_is_skipped_before_anything_is_compiled():
  found, longest = kernels.measure(None, case(), timing.Rounds(), REACHED, RANK)
  assert not found.rows and not longest.rows
  assert found.skipped == {'lora, auto': 'a CPU has no streams of kernels to trace'}


@pytest.fixture
def accelerator(monkeypatch):
  variant = Doubling()
  monkeypatch.setattr(variant.compiled, 'as_text', lambda: PROGRAM, raising=False)
  monkeypatch.setattr(kernels.jax, 'devices', lambda: [types.SimpleNamespace(platform='gpu')])
  monkeypatch.setattr(kernels, 'build', lambda *args: ({kernels.NAME: variant}, {}))
  monkeypatch.setattr(kernels, 'times', lambda *args: {kernels.NAME: 40e-6})
  monkeypatch.setattr(kernels.mfu, 'flops', lambda *args, **kwargs: 12e6)


def test_the_table_ends_with_the_clock_and_the_rate_of_a_product(monkeypatch, accelerator):
  monkeypatch.setattr(kernels, 'record', lambda *args: trace(kernels.TRACED))
  found, longest = kernels.measure(None, case(), timing.Rounds(), REACHED, RANK)
  total = found.rows['all kernels']['microseconds']
  assert total == pytest.approx(34.25) and longest.rows
  rows = [found.rows[name] for name in list(found.rows)[-2:]]
  assert rows == [
    {'microseconds': pytest.approx(40), 'share': pytest.approx(40 / total)},
    {'microseconds': pytest.approx(12), 'share': pytest.approx(12 / total)},
  ]
  assert '1 kernels of a step are not in the text' in found.note


def test_a_trace_without_streams_is_a_reason_to_skip(monkeypatch, accelerator):
  monkeypatch.setattr(kernels, 'record', lambda *args: {})
  found, _ = kernels.measure(None, case(), timing.Rounds(), REACHED, RANK)
  assert 'no stream' in found.skipped['lora, auto']
