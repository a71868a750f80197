"""The page of runs to which things happened: what came of each, and of the runs."""

from __future__ import annotations

from collections.abc import Mapping

from lora_jax.report import runs
from lora_jax.report.document import Page, Table
from lora_jax.result_schema import ChaosTrial

ABOUT = """A short job of SST-2's form is started again and again by one command. Each time
something happens to it at a random moment: a signal; SIGKILL and a flipped bit in its newest
checkpoint; a disk that is full until the process ends; SIGKILL and a start with one of its input
files changed; a second process. When it has finished, its history, its metrics and the arrays of
its best and last checkpoint are compared with those of a run that nothing happened to, to the last
bit."""


def pages(found: Mapping[str, ChaosTrial]) -> list[Page]:
  """The page; none where nothing was tried."""
  if not found:
    return []
  problems = sum(len(trial['problems']) for trial in found.values())
  times = sum(row['times'] for trial in found.values() for row in trial['rows'].values())
  title = 'Interrupted, damaged and disturbed runs'
  blocks: list[str | Table] = [ABOUT]
  for trial in found.values():
    blocks.append(
      f'{trial["finished"]} runs finished in the end; {len(trial["problems"])} differ, are not '
      f'finished or ended in an unexpected way. {runs.machine(trial)}, {runs.commits([trial])}.'
    )
    blocks += [Table(rows(trial), 'What happened, and how often:'), *trial['problems']]
  blocks.append('Made by `python -m experiments.chaos --workdir=DIR --out=FILE`.')
  return [Page('chaos', title, f'{problems} problems in {times}', blocks)]


def rows(trial: ChaosTrial) -> list[dict[str, str]]:
  """A row for each kind of thing that happened."""
  return [
    {
      'what': kind,
      'times': str(row['times']),
      'too late or too early to matter': str(row['too_late']),
      'ended in an unexpected way': str(row['unexpected']),
    }
    for kind, row in trial['rows'].items()
  ]
