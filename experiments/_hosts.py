"""Flags of the commands that several processes run together, one on each host or more.

If SLURM, Open MPI, an indexed Kubernetes job, a JobSet or a TPU slice starts the processes, the
flags are not needed. Otherwise start each process with the same command and its own number:

  python -m experiments.train ... --coordinator=10.0.0.1:1234 --num_processes=2 --process_id=0
  python -m experiments.train ... --coordinator=10.0.0.1:1234 --num_processes=2 --process_id=1
"""

import contextlib
from collections.abc import Callable

from absl import flags

from experiments import _cli
from lora_jax.train import hosts

COORDINATOR = flags.DEFINE_string(
  'coordinator', '', 'HOST:PORT of process 0, a free port at which it listens.'
)
NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'Number of processes of the run; 1 to run alone on a cluster.'
)
PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Number of this process, from 0.')


def run(main: Callable[[], None], *, preemptible: bool = False) -> None:
  """Does what `_cli.run` does, in a process that is connected to the others of the run."""

  def connected() -> contextlib.AbstractContextManager[None]:
    given = COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value
    return hosts.connected(*given, preemptible=preemptible, show=_cli.show)

  _cli.run(main, connected)


def output(text: str) -> None:
  """Prints a result once, from the first of the processes."""
  if hosts.is_first():
    print(text)
