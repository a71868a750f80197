"""Flags of the commands that several processes run together, one on each host or more.

Where SLURM, Open MPI, an indexed Kubernetes job, a JobSet or a TPU slice starts them, none are
needed. Elsewhere each process is started with the same command and its own number:

  python -m experiments.train ... --coordinator=10.0.0.1:1234 --num_processes=2 --process_id=0
  python -m experiments.train ... --coordinator=10.0.0.1:1234 --num_processes=2 --process_id=1
"""

from collections.abc import Callable

from absl import flags

from experiments import _cli
from lora_jax.train import hosts

COORDINATOR = flags.DEFINE_string('coordinator', '', 'HOST:PORT of process 0, free there.')
NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'Processes of the run; 1: alone.')
PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Number of this process, from 0.')


def run(main: Callable[[], None], *, preemptible: bool = False) -> None:
  """As `_cli.run`, in a process that is connected to the others of the run."""

  def joined() -> None:
    given = COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value
    with hosts.connected(*given, preemptible=preemptible, show=_cli.show):
      main()

  _cli.run(joined)


def output(text: str) -> None:
  """Prints a result once, from the first of the processes."""
  if hosts.is_first():
    print(text)
