"""The page of plans: the paper's practical claims beside what was worked out here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lora_jax.paper import claims, entries
from lora_jax.report import runs
from lora_jax.report.document import Block, Page, Table
from lora_jax.result_schema import ClaimsPlan, MeasuredPlan, Slices

GB, GIB = 1e9, 2**30
ABOUT = f"""GPT-3 175B with Adam: what each method of table 12 trains, keeps and stores, by
`python -m experiments.plan --paper`; nothing was run. The paper's section 4.2: training memory from
{claims.TRAINING_MEMORY['full']} to {claims.TRAINING_MEMORY['lora']}, a checkpoint from
{claims.CHECKPOINT['full']} to {claims.CHECKPOINT['lora']}, {claims.TRAINED_SHARE} trained,
{claims.TASKS} tasks in {claims.STORAGE['lora']} and not in {claims.STORAGE['full']}."""
MEASURED = """Plans of this machine beside the peak of its memory while the steps were run, by
`python -m experiments.plan --measure`. On a CPU, the peak is the growth of the process's resident
memory after compiling."""
ACCOUNTING = f"""How the accounting differs from the paper's:

- The state is what stays between steps, over all devices: the base in bfloat16 (full fine-tuning
  has none, as it trains everything), the trainable parameters and Adam's two moments in float32.
  Within a step the gradient comes on top, as large as the trainable parameters; activations are in
  neither. The paper's {claims.TRAINING_MEMORY['full']} is 6.9 bytes a parameter, not 12, so it kept
  some of these in 16 bits or on other machines; it does not say which.
- Its {claims.TRAINING_MEMORY['lora']} are the base alone in 16 bits; the state has the factors too.
- A checkpoint is counted at 2 bytes a parameter, as its {claims.CHECKPOINT['full']} is; runs here
  save float32, twice that. {claims.CHECKPOINT['lora']} is 18.9M parameters (r=4, query and value)
  at 2 bytes: 37.7 MB in decimal units, 36 in binary ones.
- Its {claims.TRAINED_SHARE} is 18.9M of 175B, rounded; its {claims.CHECKPOINT_RATIO} times is of
  the same two numbers.
- The base of {claims.TASKS} tasks is stored once: {claims.STORAGE['lora']} is
  {claims.CHECKPOINT['full']} and {claims.TASKS} times {claims.CHECKPOINT['lora']}.
- The model here has the 174.6B parameters of the published widths with GPT-2's vocabulary and dense
  attention; the paper counts {entries.TABLE_4[0].printed}. BitFit and the prefix at every layer are
  printed with up to 1.6M more than their formulas give.
"""


def pages(planned: Mapping[str, ClaimsPlan], measured: Mapping[str, MeasuredPlan]) -> list[Page]:
  """The page of every plan; none without one."""
  if not planned and not measured:
    return []
  blocks: list[Block] = []
  for path, plan in planned.items():
    about = f'{ABOUT} {slices_text(plan)} (`results/runs/{path}`, commit {runs.commits([plan])})'
    blocks += [Table(claim_rows(plan), about), ACCOUNTING]
  if measured:
    blocks.append(Table(measured_rows(measured.values()), MEASURED))
  state = 'GPT-3 175B, planned' if planned else 'plans beside measured peaks'
  return [Page('plan', 'Practical claims', state, blocks)]


def claim_rows(plan: ClaimsPlan) -> list[dict[str, str]]:
  """A row for each method."""
  rows = []
  for name, row in plan['claims'].items():
    rows.append(
      {
        'method': name,
        'trained': f'{row["trained"]:,}',
        'paper': row.get('paper_trained', '-'),
        'share': f'{row["trained"] / row["total"]:.4%}',
        'state, GB': f'{row["state_bytes"] / GB:,.1f}',
        'gradient, GB': f'{row["gradient_bytes"] / GB:,.3f}',
        'checkpoint, MB': f'{row["checkpoint_bytes"] / 1e6:,.1f}',
        f'{plan["tasks"]} tasks, GB': f'{row["tasks_bytes"] / GB:,.1f}',
        'smallest v5e': _slice(row.get('v5e')),
        'smallest v5p': _slice(row.get('v5p')),
      }
    )
  return rows


def measured_rows(plans: Iterable[MeasuredPlan]) -> list[dict[str, str]]:
  """A row for each plan whose step was run."""
  rows = []
  for one in plans:
    plan, peak = one['plan'], one['measured']
    rows.append(
      {
        'model': plan['model'],
        'method': plan['method'],
        'batch': f'{plan["batch_size"]} x {plan["length"]}',
        'dtype': plan['dtype'],
        'planned, GiB': f'{peak["predicted"] / GIB:.3f}',
        'measured, GiB': f'{peak["measured"] / GIB:.3f}',
        'planned / measured': f'{peak["ratio"]:.3f}',
        'device': runs.machine(one),
        'commit': runs.commits([one]),
      }
    )
  return rows


def slices_text(plan: ClaimsPlan) -> str:
  """What the slices were judged by."""
  slices = [row[kind] for row in plan['claims'].values() for kind in ('v5e', 'v5p') if kind in row]
  compilers = {one['compiler'] for each in slices for one in each['tried'] if 'compiler' in one}
  by = f', compiled by {", ".join(sorted(compilers))}' if compilers else ''
  return (
    f'Slices: batch {plan["batch_size"]} of {plan["length"]} tokens, layers scanned and '
    f'rematerialized{by}; in brackets, the GiB to spare on a device. A dash: not searched for.'
  )


def _slice(slices: Slices | None) -> str:
  if slices is None:
    return '-'
  last = slices['tried'][-1]
  if not slices['fits']:
    return f'none up to {last["topology"]}'
  return f'{last["topology"]} ({last["bytes"]["spare"] / GIB:.2f})'
