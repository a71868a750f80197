"""Where the time of a train step goes on an accelerator: its kernels, by the kind of their work."""

from __future__ import annotations

import collections
import glob
import gzip
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax

from lora_jax import stacking
from lora_jax.bench import mfu
from lora_jax.bench.steps import Batch, Case, Make, Variant, build, times
from lora_jax.bench.timing import Measured, Rounds, Row, Rows, seconds_of

NAME = 'lora, auto'  # Of the step, as part mfu has it.
TRACED = 5  # Dispatches in a trace: kernels repeat within a percent.
LONGEST, NAME_LENGTH = 10, 60  # Rows of the second table, and characters of a kernel's name in it.
DENSE, FACTORS, ATTENTION = 'dense products', 'LoRA factors', 'attention'
COPIES, SUMS, OTHER = 'copies and casts', 'biases and residuals', 'other'
OPTIMIZER = 'optimizer'
# The kind of an operation by its path in the model, which JAX writes into the program; the first
# match counts. A product is told from its factors' by shape, for both have the layer's path.
PATHS = {
  FACTORS: r'/Dense/|lora_[ab]|/(query|value)/mul$',
  'norms': r'norm/',
  ATTENTION: r'(^|/)attention/(?!(query|key|value|output)/)',
  DENSE: r'(^|/)dot_general$',
  'embedding and loss': r'embeddings?[/.]|/classifier/|/lm_head|jvp\(\)|jvp\(jit|take_along_axis',
  'activations': r'/(erf|tanh|gelu|silu|logistic)$|/mlp/(?!(up|down|gate)/)',
  SUMS: r'jvp\(\w+\).*/(add|add_any)$',
  OPTIMIZER: r'^jit\(\w+\)/(?!.*jvp)',  # Under no gradient.
}
# The same by the name of a kernel, of a library or generated, where that is all there is.
KERNELS = {
  ATTENTION: r'fmha|flash|sdpa|cudnn',
  DENSE: r'nvjet|cutlass|gemm|cublas|xmma|splitk',
  COPIES: r'memcpy|memset|transpose|copy|convert|concatenate',
}
HEAD = r'/classifier/|/lm_head|\.attend/'  # Products that have no factors.
VAGUE = {SUMS, OTHER}  # What else is in a fusion says more.
MOVES = frozenset((
  'bitcast', 'bitcast-convert', 'broadcast', 'concatenate', 'constant', 'convert', 'copy',
  'copy-done', 'copy-start', 'dynamic-slice', 'dynamic-update-slice', 'get-tuple-element', 'iota',
  'pad', 'parameter', 'reshape', 'reverse', 'slice', 'transpose', 'tuple',
))  # fmt: skip
CONTAINERS = frozenset(('call', 'conditional', 'while'))  # Their time is that of what they hold.
INDEX = r'(s32|u32|s64|pred)\[\]'  # Of a slice: a scalar that costs nothing.


class Instruction(NamedTuple):
  """An instruction of a compiled program, as its text has it.

  Attributes:
    name, opcode: `fusion.12` and `fusion`.
    shape: of its result, as `(bf16[4096,768]{1,0}, s8[64]{0})`.
    operands: names of its arguments.
    op_name: the path of the operation that it was made from, '' if unknown.
    computation: name of the one it calls, if it is a fusion; '' otherwise.
    target: of a custom call.
    is_root: whether it is the result of its computation.
  """

  name: str
  opcode: str
  shape: str
  operands: tuple[str, ...]
  op_name: str
  computation: str
  target: str
  is_root: bool


class Program(NamedTuple):
  """A compiled program.

  Attributes:
    instructions: of all computations, by name.
    computations: the instructions of each, by its name.
    kernels: names of instructions by those that XLA gives to their kernels.
  """

  instructions: Mapping[str, Instruction]
  computations: Mapping[str, Sequence[Instruction]]
  kernels: Mapping[str, str]


class Event(NamedTuple):
  """What an accelerator ran: the kernel's name, its time, and what the profiler says of it."""

  name: str
  microseconds: float
  about: Mapping[str, object]


INSTRUCTION = re.compile(r'\s+(ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([a-z][\w-]*)\(([^)]*)\)')
COMPUTATION = re.compile(r'(?:ENTRY )?%?([\w.-]+) .*-> .*\{$')


def parse(text: str) -> Program:
  """Reads the text of a compiled program; a line of an unknown form is left out."""
  computations: dict[str, list[Instruction]] = {}
  current: list[Instruction] = []
  for line in text.splitlines():
    if found := INSTRUCTION.match(line):
      root, name, shape, opcode, operands = found.groups()
      about = {
        key: match[1] if (match := re.search(pattern, line)) else ''
        for key, pattern in (
          ('op_name', r'op_name="([^"]*)"'),
          ('computation', r'calls=%?([\w.-]+)'),
          ('target', r'custom_call_target="([^"]*)"'),
        )
      }
      arguments = tuple(re.findall(r'%([\w.-]+)', operands))
      made = Instruction(name, opcode, shape, arguments, **about, is_root=bool(root))
      current.append(made)
    elif found := COMPUTATION.match(line):
      current = computations.setdefault(found[1], [])
  instructions = {made.name: made for found in computations.values() for made in found}
  # A kernel is called as its instruction or, in some versions, as the computation in it.
  kernels = {plain(one.computation): one.name for one in instructions.values() if one.computation}
  kernels |= {plain(name): name for name in instructions}
  return Program(instructions, computations, kernels)


def plain(name: str) -> str:
  """A name as XLA gives it to a kernel: `loop_add_fusion_3` of `loop_add_fusion.3`."""
  return re.sub(r'\W', '_', name)


def inside(program: Program, one: Instruction) -> Iterator[Instruction]:
  """The instructions of a fusion, of those in it too; of another instruction, itself."""
  held = program.computations.get(one.computation, ())
  if not held:
    yield one
  for each in held:
    yield from inside(program, each)


def kind_of_path(op_name: str) -> str:
  """The kind of an operation by its path in the model."""
  return next((kind for kind, path in PATHS.items() if re.search(path, op_name)), OTHER)


def is_of_factors(program: Program, product: Instruction, rank: int) -> bool:
  """Whether a product has a matrix of the rank of the factors, or of two of them side by side."""
  operands = [program.instructions.get(name) for name in product.operands[:2]]
  shapes = [product.shape, *(one.shape for one in operands if one)]
  arrays = [re.search(r'\[([\d,]+)\]', shape) for shape in shapes]
  sizes = {int(n) for array in arrays if array for n in array[1].split(',')[-2:]}
  return not re.search(HEAD, product.op_name) and bool(sizes & {rank, 2 * rank})


def kind_of_instruction(program: Program, one: Instruction, rank: int) -> str:
  """The kind of an instruction's work.

  A fusion with a product counts as that product; one that only moves data as a copy; another by the
  path of its result or, where that says little, by what is most often in it.

  Args:
    program: the program.
    one: an instruction of it.
    rank: of the factors of LoRA.
  """
  held = list(inside(program, one))
  if re.search(KERNELS[ATTENTION], one.target):
    return ATTENTION
  products = [x for x in held if x.opcode == 'dot' or re.search(KERNELS[DENSE], x.target)]
  if products:
    product = products[0]
    if kind_of_path(product.op_name or one.op_name) == ATTENTION:
      return ATTENTION
    return FACTORS if is_of_factors(program, product, rank) else DENSE
  work = [x for x in held if x.opcode not in MOVES and not re.match(INDEX, x.shape)]
  if not work:
    return COPIES if all(x.opcode in MOVES for x in held) else kind_of_path(one.op_name)
  root = next((x.op_name for x in held if x.is_root), '')
  kind = kind_of_path(one.op_name or root)
  if kind in VAGUE:
    counts = collections.Counter(kind_of_path(x.op_name) for x in work)
    clear = [(name, n) for name, n in counts.most_common() if name not in VAGUE]
    kind = clear[0][0] if clear else kind
  # What adds up the parts of a product that was split has the product's path.
  return FACTORS if kind == DENSE and is_of_factors(program, one, rank) else kind


def instruction_of(program: Program, event: Event) -> Instruction | None:
  """The instruction that a kernel belongs to; None if neither the profiler nor its name tells."""
  annotated = str(event.about.get('hlo_op') or '').split('::')[-1]  # The innermost of several.
  named = program.kernels.get(plain(event.name))
  named = named or program.kernels.get(re.sub(r'__\d+$', '', plain(event.name)))
  for name in (annotated, event.name, named or ''):
    found = program.instructions.get(name)
    if found and found.opcode not in CONTAINERS:
      return found
  return None


def kind_of_event(program: Program, event: Event, rank: int) -> str:
  """The kind of a kernel's work: by its instruction, else by what the profiler says, or its name.

  Args:
    program: the program that it is of.
    event: the kernel.
    rank: of the factors of LoRA.
  """
  one = instruction_of(program, event)
  kind = kind_of_instruction(program, one, rank) if one else OTHER
  if kind == OTHER:
    kind = kind_of_path(path_of(program, event))
  if kind == OTHER:
    named = (kind for kind, name in KERNELS.items() if re.search(name, event.name, re.IGNORECASE))
    kind = next(named, OTHER)
  return kind


def path_of(program: Program, event: Event) -> str:
  """The path of the operation of a kernel, '' if unknown."""
  one = instruction_of(program, event)
  if one:
    paths = (x.op_name for x in inside(program, one) if x.is_root or x is one)
    return one.op_name or next(paths, '')
  told = str(event.about.get('tf_op') or event.about.get('name') or '')
  return told if '/' in told else ''  # Not the name of the whole module.


def device_events(trace: Mapping[str, object], program: Program) -> list[Event]:
  """The kernels of a trace of Chrome's format, from the streams of its accelerators.

  Other lines of a device say the same again, by operation, module and step. Where a device has no
  streams the line of operations counts, without those that hold others.

  Args:
    trace: what the profiler wrote.
    program: the program that was traced.
  """
  events = trace.get('traceEvents')
  events = [x for x in events if isinstance(x, dict)] if isinstance(events, list) else []
  processes: dict[object, str] = {}
  threads: dict[tuple[object, object], str] = {}
  for event in events:
    if event.get('ph') == 'M' and isinstance(event.get('args'), dict):
      label = str(event['args'].get('name', ''))
      if event.get('name') == 'process_name':
        processes[event.get('pid')] = label
      elif event.get('name') == 'thread_name':
        threads[event.get('pid'), event.get('tid')] = label
  lines: dict[str, list[Event]] = {'Stream': [], 'XLA Ops': []}
  for event in events:
    if event.get('ph') == 'X' and processes.get(event.get('pid'), '').startswith('/device:'):
      thread = threads.get((event.get('pid'), event.get('tid')), '')
      for prefix, found in lines.items():
        if thread.startswith(prefix):
          found.append(_event(event))
  if lines['Stream']:
    return lines['Stream']
  return [event for event in lines['XLA Ops'] if not _is_container(program, event)]


def _event(event: Mapping[str, object]) -> Event:
  """An event; what it does not tell in the usual form is 0 or empty."""
  duration, about = event.get('dur'), event.get('args')
  microseconds = float(duration) if isinstance(duration, int | float) else 0.0
  return Event(str(event.get('name', '')), microseconds, about if isinstance(about, dict) else {})


def _is_container(program: Program, event: Event) -> bool:
  names = (str(event.about.get('hlo_op') or ''), event.name)
  found = (program.instructions.get(name) for name in names)
  return any(one is not None and one.opcode in CONTAINERS for one in found)


def read_trace(folder: str) -> dict[str, object]:
  """The trace that JAX's profiler left in a folder; empty if it left none."""
  paths = glob.glob(f'{folder}/plugins/profile/*/*.trace.json.gz')
  if not paths:
    return {}
  with gzip.open(max(paths), 'rt', encoding='utf-8') as file:
    found = json.load(file)
  return found if isinstance(found, dict) else {}


def record(variant: Variant, batch: Batch, dispatches: int) -> dict[str, object]:
  """The trace of a few dispatches of a step that is warm already."""
  compiled = variant.program(batch).compiled
  placed = jax.block_until_ready(jax.device_put(variant.arguments(batch)))

  def run() -> object:
    variant.state, metrics = compiled(variant.state, *placed)
    return variant.state, metrics

  options = jax.profiler.ProfileOptions()
  options.python_tracer_level = 0  # A trace holds a million events; Python's would crowd it.
  with tempfile.TemporaryDirectory(prefix='trace-') as folder:
    with jax.profiler.trace(folder, profiler_options=options):
      seconds_of(run, dispatches)
    return read_trace(folder)


def summed(events: Iterable[tuple[str, Event]], steps: int, of: float) -> Rows:
  """Microseconds and number of kernels of a step by a label, the longest first.

  Args:
    events: each with its label.
    steps: number of steps that they are of.
    of: microseconds of a step that shares are of.
  """
  rows: dict[str, Row] = collections.defaultdict(lambda: {'microseconds': 0.0, 'kernels': 0.0})
  for label, event in events:
    rows[label]['microseconds'] += event.microseconds / steps
    rows[label]['kernels'] += 1 / steps
  ordered = sorted(rows.items(), key=lambda item: -item[1]['microseconds'])
  return {label: _row(row['microseconds'], of, row['kernels']) for label, row in ordered}


def _row(microseconds: float, of: float, kernels: float | None = None) -> Row:
  row = {'microseconds': microseconds, 'share': microseconds / of if of else 0.0}
  return row if kernels is None else row | {'kernels': round(kernels, 2)}


def label_of(program: Program, event: Event) -> str:
  """The name of a kernel and its path, without the numbers that tell one layer from another."""
  name = re.sub(r'[^\w:.]+', ' ', event.name)[:NAME_LENGTH].strip()
  if plain(event.name) in program.kernels:
    name = re.sub(r'([._]\d+)+$', '', name)
  path = re.sub(r'^jit\(\w+\)/(while/body/)?(closed_call/)?', '', path_of(program, event))
  return f'{name}, {stacking.generalize(path) or "unknown operation"}'


def tables(
  events: Sequence[Event], program: Program, steps: int, rank: int
) -> tuple[Rows, Rows, float]:
  """A step's kernels by kind, with all of them last; the longest; and how many have no instruction.

  Args:
    events: kernels of the traced steps.
    program: the program that they are of.
    steps: number of steps that were traced.
    rank: of the factors of LoRA.
  """
  total = sum(event.microseconds for event in events) / steps
  kinds = summed(((kind_of_event(program, x, rank), x) for x in events), steps, total)
  longest = summed(((label_of(program, x), x) for x in events), steps, total)
  kinds['all kernels'] = _row(total, total, len(events) / steps)
  unknown = sum(instruction_of(program, event) is None for event in events)
  return kinds, dict(list(longest.items())[:LONGEST]), unknown / steps


def measure(
  make: Make, case: Case, rounds: Rounds, reached: mfu.Product, rank: int
) -> tuple[Measured, Measured]:
  """The kernels of a step of LoRA by kind, and the longest; skipped where there is no accelerator.

  Args:
    make: makes the step.
    case: the batch.
    rounds: how the untraced step is timed.
    reached: a product on the same device.
    rank: of the factors of LoRA.
  """
  about = 'Kernels by name and operation, those of all layers together; shares are of all kernels.'
  if jax.devices()[0].platform == 'cpu':
    return _skipped({NAME: 'a CPU has no streams of kernels to trace'})
  variants, skipped = build({NAME: make}, case, rounds)
  if not variants:
    return _skipped(skipped)
  variant = variants[NAME]
  clock = 1e6 * times(variants, case, rounds)[NAME]
  batch = case.times(rounds.steps_per_call)
  program = parse(variant.program(batch).compiled.as_text() or '')
  events = device_events(record(variant, batch, TRACED), program)
  if not events:
    return _skipped({NAME: "the profiler's trace has no stream of an accelerator"})
  kinds, longest, unknown = tables(events, program, TRACED * rounds.steps_per_call, rank)
  total = kinds['all kernels']['microseconds']
  product = 1e6 * mfu.flops(variant.model, case, frozen=True) / reached.flops
  kinds['a step by the clock'] = _row(clock, total)
  kinds['dense products at the rate of a product'] = _row(product, total)
  note = (
    f'Microseconds of a step of LoRA (r={rank}, query and value) by the kind of its kernels, from '
    f'a trace of {TRACED} x {rounds.steps_per_call} steps, and shares of all kernels; {unknown:.4g}'
    ' kernels of a step are not in the text of the program and are sorted by name. By the clock: '
    f'the same program, not traced, {rounds}; what it takes beyond all kernels, the device waits. '
    f'At the rate of a product: the FLOPs of dense products at the {reached.flops / 1e12:.4g} '
    f'TFLOP/s that {reached.what} reached.'
  )
  return Measured(kinds, note), Measured(longest, about)


def _skipped(reasons: Mapping[str, str]) -> tuple[Measured, Measured]:
  return Measured({}, 'Kernels of a step of LoRA by kind.', reasons), Measured({}, '')
