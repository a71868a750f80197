"""Which runs of a sweep are trained as one program, chosen by what ends soonest.

A program costs its compilation. Runs that share one save theirs, and on an accelerator also the
time that a step takes whatever its size; they pay by the padding of their factors to one shape, and
of their batches where seeds differ. On a CPU the members of a program are computed one after the
other (`step.is_in_turn`), on an accelerator together.

The choice depends on the configs, the data, the kind of device and the number of machines, and on
no clock: every start of a sweep, and every machine of it, finds the same groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from lora_jax import tree
from lora_jax.data import tasks
from lora_jax.models import presets
from lora_jax.sweep import grouping, members, step
from lora_jax.sweep.grouping import Member
from lora_jax.sweep.source import Source
from lora_jax.train import estimate, job, layer_choice, mesh
from lora_jax.tree import Params

MOST = 16  # Members of a program, where memory allows them; a further program costs little more.
# Padding of batches where seeds differ, which have their own; a share of the tokens. By reading.
MIXED = 0.1
# A factor has its product forward, back through it and for its gradient; the seconds of a token
# count the last only.
PRODUCTS = 3
# Copies of the trainable parameters: the state's three, the best, the start, and one for a step.
COPIES = 6
# Bytes kept for the backward pass by layer: 34 a token and unit of width, 5 a token, head and
# column of its row, in 16 bits (arXiv 2205.05198, equation 1).
ACTIVATIONS, SCORES = 34, 5
UNKNOWN_MEMORY = 4 << 30  # Of a device that does not tell, such as a CPU.
SHARE = 0.5  # Of a device's memory that members may fill; the rest is for the base.


class Group(NamedTuple):
  """Runs that are trained as one program, and why they are: one line."""

  members: tuple[Member, ...]
  why: str


class Run(NamedTuple):
  """What the cost of a run depends on, beside its program: its updates and trained arrays."""

  member: Member
  steps: int
  trainable: Params


class Costs(NamedTuple):
  """Estimated seconds and bytes of the runs of a program.

  Attributes:
    program: seconds of compiling all that one group needs.
    overhead: seconds of a step whatever its members.
    token: seconds of a token in a step with this many trained parameters.
    tokens: of one member's step.
    kept: bytes of activations that a further member adds.
    memory: bytes that the members of a group may take.
  """

  program: float
  overhead: float
  token: Callable[[int], float]
  tokens: float
  kept: float
  memory: float

  def most(self, trainable: Params, most: int) -> int:
    """How many members with these arrays fit, from 1 to `most`."""
    each = self.kept + COPIES * 4 * tree.count(trainable)
    return max(1, min(most, int(self.memory / each)))

  def seconds(self, runs: Sequence[Run], trainable: Params) -> float:
    """Seconds of a group from its first compilation to its end, evaluations apart.

    Args:
      runs: of the group.
      trainable: the shapes that hold the arrays of each.
    """
    seeds = {run.member.config.seed for run in runs}
    tokens = self.tokens * (1 + MIXED * (len(seeds) > 1))
    each = tokens * self.token(tree.count(trainable))
    total, compiled = 0.0, set()
    for width, steps in widths([run.steps for run in runs]):
      compiled.add(width)
      total += steps * (self.overhead + width * each)
    return total + self.program * len(compiled)


def choose(of: Sequence[Member], width: int, source: Source, machines: int = 1) -> list[Group]:
  """The groups of a sweep, in the order of their first members.

  Where the layout of layers is left open, the members of a group have the one that was chosen.

  Args:
    of: its members.
    width: members of a program at most; 0 chooses.
    source: of their data and bases, read where the width is chosen.
    machines: that share the sweep; each gets a group if there are as many runs.

  Raises:
    ValueError: as `Source`, and as `job.divide`.
  """
  of = settled(of, source)
  if width:
    why = f'at most {width} runs in a program, as config.sweep.width says'
    return [Group(group, why) for group in grouping.group(of, width)]
  most = min(MOST, -(-len(of) // machines))
  groups = []
  for program in grouping.programs(of):
    groups += _choose(program, most, source) if len(program) > 1 else [Group(program, '')]
  return sorted(groups, key=lambda group: of.index(group.members[0]))


def settled(of: Sequence[Member], source: Source) -> list[Member]:
  """The members, with the layout of their layers chosen where a config leaves it open."""
  found: dict[str, Member] = {}
  for program in grouping.programs(of):
    configs = [member.config for member in program]
    if layer_choice.is_open(configs):  # Otherwise nothing has to be read.
      platform = mesh.platform(mesh.make_mesh(**configs[0].mesh))
      configs = layer_choice.settled(configs, source.task(configs[0]), platform)
    found |= {one.name: one._replace(config=config) for one, config in zip(program, configs)}
  return [found[member.name] for member in of]


def widths(steps: Sequence[int]) -> Iterator[tuple[int, int]]:
  """Members that a group trains at a time, and for how many steps, as its members end.

  Args:
    steps: of each member. The width is halved while the live ones fit into half of it.
  """
  width, done = len(steps), 0
  for end in sorted(set(steps)):
    width = narrowed(width, sum(one > done for one in steps))
    yield width, end - done
    done = end


def narrowed(width: int, live: int) -> int:
  """The width to train on with: halved while the live members fit into half of it."""
  while width > 1 and live <= width // 2:
    width //= 2
  return width


def split(runs: Sequence[Run], costs: Costs, most: int) -> list[Sequence[Run]]:
  """The runs in groups of neighbors for which the estimated seconds of all are least."""
  # Of the first n runs: the least seconds, and where their last group begins.
  least: list[tuple[float, int]] = [(0.0, 0)]
  for end in range(1, len(runs) + 1):
    found = []
    trainable = runs[end - 1].trainable
    for begin in reversed(range(max(0, end - most), end)):
      trainable = members.union([trainable, runs[begin].trainable])
      if end - begin > costs.most(trainable, most):
        break
      found.append((least[begin][0] + costs.seconds(runs[begin:end], trainable), begin))
    least.append(min(found))
  groups, end = [], len(runs)
  while end:
    begin = least[end][1]
    groups.append(runs[begin:end])
    end = begin
  return groups[::-1]


def _choose(program: Sequence[Member], most: int, source: Source) -> list[Group]:
  """The groups of the runs that can share a program."""
  first = program[0].config
  devices = mesh.make_mesh(**first.mesh)
  model, params = source.base(first, devices)
  abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
  task = source.task(first)
  per_epoch = -(-len(task.train) // first.train.batch_size)
  runs = []
  for member in program:
    config = member.config
    _, trainable = job.divide(config, job.make_method(config, model), model, abstract)
    runs.append(Run(member, per_epoch * config.train.epochs, trainable))
  # Neighbors are alike: of one seed, with about as many trained parameters.
  runs.sort(key=lambda run: (run.member.config.seed, tree.count(run.trainable)))
  in_turn = step.is_in_turn(devices)
  platform = mesh.platform(devices)
  costs = estimated(first, platform, model.config, task, scan=model.scan, in_turn=in_turn)
  found = split(runs, costs, most)
  why = reason(runs, found, costs, in_turn=in_turn)
  order = {member.name: place for place, member in enumerate(program)}
  in_order = lambda run: (run.member.config.seed, order[run.member.name])
  return [Group(tuple(run.member for run in sorted(g, key=in_order)), why) for g in found]


def estimated(
  config: grouping.Config,
  platform: str,
  architecture: presets.Config,
  task: tasks.Task,
  *,
  scan: bool,
  in_turn: bool,
) -> Costs:
  """The costs of the runs of a program on this machine's device.

  Args:
    config: of one of the runs.
    platform: of the devices.
    architecture: of the base.
    task: the data.
    scan: whether the layers are scanned.
    in_turn: whether the members of a program are computed one after the other.
  """
  c = architecture
  token = lambda trained: estimate.token_seconds(platform, c, PRODUCTS * trained)
  lengths = task.train.lengths if len(task.train) else np.ones(1)  # Of none, training says why.
  each = float(lengths.mean())
  tokens = each * min(config.train.batch_size, len(task.train))
  size = 1 if config.model.dtype != 'float32' else 2  # By 16 bits.
  kept = ACTIVATIONS * c.hidden_size + SCORES * c.num_heads * int(lengths.max())
  stats = jax.devices()[0].memory_stats() or {}
  return Costs(
    program=estimate.PROGRAMS * estimate.shape_seconds(platform, c, scan=scan),
    overhead=c.num_layers * estimate.SPEEDS.get(platform, estimate.SPEEDS['gpu']).launch,
    token=token,
    tokens=tokens,
    kept=0.0 if in_turn else size * kept * tokens * c.num_layers / config.train.accumulate,
    memory=SHARE * stats.get('bytes_limit', UNKNOWN_MEMORY),
  )


def reason(
  runs: Sequence[Run], groups: Sequence[Sequence[Run]], costs: Costs, *, in_turn: bool
) -> str:
  """One line: the groups, and the estimated seconds of them and of runs that share nothing."""
  together = lambda group: costs.seconds(group, members.union([run.trainable for run in group]))
  chosen = sum(map(together, groups))
  alone = sum(together([run]) for run in runs)
  sizes = ' + '.join(str(len(group)) for group in groups)
  how = 'one after the other' if in_turn else 'side by side'
  return (
    f'{_counted(runs, "run")} in {_counted(groups, "program")} ({sizes} members, computed {how}): '
    f'{chosen:.0f} s estimated, {alone:.0f} s as {_counted(runs, "program")}; '
    f'a program compiles for {costs.program:.0f} s'
  )


def _counted(items: Sequence[object], noun: str) -> str:
  return f'{len(items)} {noun}{"" if len(items) == 1 else "s"}'
