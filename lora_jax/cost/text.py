"""A plan in words."""

from __future__ import annotations

from collections.abc import Mapping

from lora_jax.cost.memory import Plan
from lora_jax.cost.search import Skipped
from lora_jax.cost.topology import GIB

PARTS = (
  ('base', 'frozen base'),
  ('trainable', 'trainable parameters'),
  ('optimizer', 'optimizer state'),
  ('gradients', 'gradients'),
  ('activations', 'activations, gathered layers, workspace'),
  ('batch', 'batch'),
  ('program', 'program'),
)
LAYERS = {
  True: 'scanned',
  False: 'looped',
  None: 'looped (config.model.scan=None: the run may choose scanned ones, which take other memory; '
  'true or false fixes it)',
}


def describe(plan: Plan) -> str:
  """The lines of a plan."""
  sizes, counts = plan['bytes'], plan['parameters']
  axes = ', '.join(f'{axis} {size}' for axis, size in plan['mesh'].items())
  total = counts['trained'] + counts['frozen']
  head = f'; {counts["head"]:,} in the task head' if counts['head'] else ''
  source = 'compiled by' if plan['exact'] else 'ESTIMATE, since libtpu is not installed, by'
  kept = {'none': '', 'file': ' with kernels as in the file'}
  quantized = kept.get(plan['quantize'], f' with kernels in {plan["quantize"]}')
  lines = [
    f'{plan["model"]}, {plan["method"]}, on {plan["topology"]}: {verdict(plan)}',
    f'  {source} {plan["compiler"]} in {plan["compile_seconds"]:.0f} s; mesh {axes}',
    f'  batch {plan["batch_size"]} x {plan["length"]} tokens, compute {plan["dtype"]}, base '
    f'{plan["param_dtype"]}{quantized}, remat {plan["remat"]}, layers {LAYERS[plan["scan"]]}',
    f'  parameters: trained {counts["trained"]:,} ({counts["trained"] / total:.3%}{head}), '
    f'frozen {counts["frozen"]:,}',
    '  memory of a device, GiB:',
  ]
  if plan.get('exhausted'):
    lines.insert(3, '  the search for the largest batch ended at its limit: a larger one may fit')
  for name, title in PARTS:
    if (size := sizes[name]) is not None:
      lines.append(f'    {size / GIB:10.3f}  {title}')
  if sizes['total'] is not None:
    lines.append(f'    {sizes["total"] / GIB:10.3f}  in all, of {sizes["capacity"] / GIB:.2f}')
  lines.append(
    f'  FLOPs of a step {plan["flops"]:.3g} (products, recomputed ones included); at '
    f'{plan["utilization"]:.0%} of the peak {duration(plan["step_seconds"])} a step, '
    f'{plan["tokens_per_second"]:,.0f} tokens/s'
  )
  if plan['steps']:
    lines.append(f'  {plan["steps"]:,} steps: {plan["hours"]:,.2f} hours')
  else:
    lines.append('  hours: the number of examples is not known; give --examples')
  saved = plan['checkpoint']
  lines.append(
    f'  checkpoint: trainable parameters {amount(saved["trained"])}, with the optimizer '
    f'{amount(saved["resumable"])}'
  )
  return '\n'.join(lines)


def verdict(plan: Plan) -> str:
  """Whether a plan fits, and by how much."""
  spare = plan['bytes']['spare']
  if spare is None:
    return f'does not fit ({plan["message"][:200] or "the compiler says no more"})'
  if plan['fits']:
    return f'fits, {spare / GIB:.2f} GiB to spare on each device'
  return f'does not fit: {-spare / GIB:.2f} GiB too much on each device'


def row(plan: Plan | Skipped) -> str:
  """One line that compares a plan with others."""
  if isinstance(plan, Skipped):
    return f'{plan.topology}: does not fit ({plan.message})'
  axes = 'x'.join(str(size) for size in plan['mesh'].values())
  return (
    f'{plan["topology"]} ({axes}): batch {plan["batch_size"]}, remat {plan["remat"]}, '
    f'{duration(plan["step_seconds"])} a step: {verdict(plan)}'
  )


def measured(found: Mapping[str, float]) -> str:
  """A line about the measured peak, see `measure.measure`."""
  return (
    f'  peak of steps run here {found["measured"] / GIB:.3f} GiB; the plan says '
    f'{found["predicted"] / GIB:.3f}, {found["ratio"]:.3f} times that'
  )


def amount(size: float) -> str:
  """Bytes in decimal units, as files are measured."""
  for unit in ('B', 'kB', 'MB', 'GB'):
    if size < 1000:
      return f'{size:.4g} {unit}'
    size /= 1000
  return f'{size:.4g} TB'


def duration(seconds: float) -> str:
  """Seconds or milliseconds."""
  return f'{seconds:.3g} s' if seconds >= 1 else f'{1000 * seconds:.3g} ms'
