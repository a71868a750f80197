"""The page of plans: the paper's practical claims beside what was worked out here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_jax.report.page import Block, Page, Table

GB, GIB = 1e9, 2**30
ABOUT = """GPT-3 175B with Adam: what each method of table 12 trains, keeps and stores, by
`python -m experiments.plan --paper`; nothing was run. The paper's section 4.2: training memory from
1.2 TB to 350 GB, a checkpoint from 350 GB to 35 MB, 0.01 % trained, 100 tasks in 354 GB and not in
35 TB."""
MEASURED = """Plans of this machine beside the peak of its memory while the steps were run, by
`python -m experiments.plan --measure`. Of a CPU the peak is what the process's resident memory
grew by after compiling."""
ACCOUNTING = """How the accounting differs from the paper's:

- State is what stays between steps, over all devices: the base in bfloat16 (full fine-tuning has
  none: all of it is trained), what is trained and Adam's two moments in float32. The gradient, as
  large as what is trained, comes on top within a step, and activations are in neither. The paper's
  1.2 TB is 6.9 bytes a parameter, not 12, so it kept some of these in 16 bits or on other
  machines; it does not say which.
- Its 350 GB are the base alone in 16 bits; the base here is that, and the state adds the factors.
- A checkpoint is counted at 2 bytes a parameter, as its 350 GB are; runs here save float32, twice
  that. 35 MB is 18.9M parameters (r=4, query and value) at 2 bytes: 37.7 MB in decimal units, 36 in
  binary ones.
- Its 0.01 % is 18.9M of 175B rounded, and its 10,000 times is of the same two figures.
- Of 100 tasks the base is stored once. Its 354 GB is 350 GB and 100 times 35 MB.
- The model here is the 174.6B parameters of the published widths with GPT-2's vocabulary and dense
  attention; the paper counts 175,255.8M. BitFit and the prefix at every layer are printed with up
  to 1.6M more than their formulas give.
"""


def pages(found: Mapping[str, Mapping[str, Any]]) -> list[Page]:
  """The page of every file whose experiment is `plan`; none without."""
  plans = {path: one for path, one in found.items() if 'claims' in one}
  measured = [one for one in found.values() if one['experiment'] == 'plan' and 'measured' in one]
  blocks: list[Block] = []
  for path, plan in plans.items():
    about = f'{ABOUT} {slice_text(plan)} (`results/runs/{path}`, commit {plan["commit"][:10]})'
    blocks += [Table(claim_rows(plan), about), ACCOUNTING]
  if measured:
    blocks.append(Table(measured_rows(measured), MEASURED))
  return (
    [
      Page(
        'plan',
        'Practical claims',
        'GPT-3 175B, planned' if plans else 'plans beside measured peaks',
        blocks,
      )
    ]
    if blocks
    else []
  )


def claim_rows(plan: Mapping[str, Any]) -> list[dict[str, str]]:
  """A row for each method."""
  rows = []
  for name, row in plan['claims'].items():
    rows.append(
      {
        'method': name,
        'trained': f'{row["trained"]:,}',
        'paper': row['paper_trained'],
        'share': f'{row["trained"] / row["total"]:.4%}',
        'state, GB': f'{row["state_bytes"] / GB:,.1f}',
        'gradient, GB': f'{row["gradient_bytes"] / GB:,.3f}',
        'checkpoint, MB': f'{row["checkpoint_bytes"] / 1e6:,.1f}',
        f'{plan["tasks"]} tasks, GB': f'{row["tasks_bytes"] / GB:,.1f}',
        **{f'smallest {kind}': _slice(row.get(kind)) for kind in ('v5e', 'v5p')},
      }
    )
  return rows


def measured_rows(plans: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
  """A row for each plan whose step was run."""
  rows = []
  for one in plans:
    plan, found = one['plan'], one['measured']
    rows.append(
      {
        'model': plan['model'],
        'method': plan['method'],
        'batch': f'{plan["batch_size"]} x {plan["length"]}',
        'dtype': plan['dtype'],
        'planned, GiB': f'{found["predicted"] / GIB:.3f}',
        'measured, GiB': f'{found["measured"] / GIB:.3f}',
        'planned / measured': f'{found["ratio"]:.3f}',
        'device': f'{one["device"]} ({one["cpu"]})',
        'commit': one['commit'][:10],
      }
    )
  return rows


def slice_text(plan: Mapping[str, Any]) -> str:
  """What the slices were judged by."""
  compilers = {
    one['compiler']
    for row in plan['claims'].values()
    for kind in ('v5e', 'v5p')
    for one in row.get(kind, {}).get('tried', ())
    if 'compiler' in one
  }
  by = f', compiled by {", ".join(sorted(compilers))}' if compilers else ''
  return (
    f'Slices: batch {plan["batch_size"]} of {plan["length"]} tokens, layers scanned and '
    f'rematerialised{by}; in brackets the GiB to spare on a device. A dash: not looked for.'
  )


def _slice(found: Mapping[str, Any] | None) -> str:
  if found is None:
    return '-'
  last = found['tried'][-1]
  if not found['fits']:
    return f'none up to {last["topology"]}'
  return f'{last["topology"]} ({last["bytes"]["spare"] / GIB:.2f})'
