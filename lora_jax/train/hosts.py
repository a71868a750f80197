"""Several processes, of one host or many, that are one run: `connected`.

JAX's distributed runtime is what joins them. Each runs the same program on its part of the mesh;
the first alone writes what is not a checkpoint.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

JOIN_SECONDS = 300
HEARTBEAT_SECONDS = 40  # A process not heard of for so long is lost, and ends the others.
SHUTDOWN_SECONDS = 3600  # The first process scores texts at the end; the others wait for it.
FLAGS = '--coordinator=HOST:PORT --num_processes=N --process_id=I'
# Variables of a launcher by which JAX finds the processes: their number, and one of each process.
LAUNCHERS = {
  'SLURM': ('SLURM_NTASKS', 'SLURM_STEP_NODELIST'),
  'Open MPI': ('OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK'),
}
PERHAPS = 'a TPU machine'
TPU_HOSTS = ('TPU_WORKER_HOSTNAMES', 'TPU_PROCESS_ADDRESSES')
RESTART = (
  'Start all processes again with the same command: training goes on from its last checkpoint.'
)


@contextlib.contextmanager
def connected(
  coordinator: str = '',
  num_processes: int | None = None,
  process_id: int | None = None,
  *,
  preemptible: bool = False,
  show: Callable[[Exception], None] = traceback.print_exception,
) -> Iterator[None]:
  """Joins this process to the others of the run for the block; one process alone joins nothing.

  Without arguments the processes are found where a launcher started several: SLURM, Open MPI, an
  indexed Kubernetes job or JobSet, TPU slices.

  An error that ends one process ends all: it is shown, and the process leaves without waiting for
  the others, which lose it within `HEARTBEAT_SECONDS`. JAX ends a process that lost another by
  `abort`; what that means is said then by a process that outlives it.

  Args:
    coordinator: HOST:PORT of process 0, which listens there.
    num_processes: of the run; 1 joins nothing, in a cluster too.
    process_id: of this process, from 0.
    preemptible: SIGTERM is for `stopping` to see; otherwise it ends the process as ever.
    show: prints an error.

  Raises:
    ValueError: for arguments that are incomplete or out of range, or a launcher's processes that
      JAX does not find.
  """
  if not _connect(coordinator, num_processes, process_id, preemptible):
    yield
    return
  ended = _last_words(
    f'process {jax.process_index()} of {jax.process_count()} ({socket.gethostname()}) was killed, '
    'or ended because another one is gone. Which one JAX says above, by its number, as far as it '
    f'knows; its "leader" is process 0. {RESTART}'
  )
  try:
    yield
  except Exception as error:
    show(error)
    print(
      f'process {jax.process_index()} of {jax.process_count()} ({socket.gethostname()}) ends by '
      'this error, and with it the others. Where it is a lost connection another one ended first, '
      f'and its own output says why. {RESTART}',
      file=sys.stderr,
    )
    sys.stdout.flush()
    sys.stderr.flush()
    if is_first():  # With it the others lose the runtime: they are to show their own error first.
      time.sleep(5)
    ended()
    os._exit(1)
  except SystemExit:
    jax.distributed.shutdown()
    ended()
    raise
  jax.distributed.shutdown()
  ended()


def is_first() -> bool:
  """Whether this process writes what one alone has to."""
  return jax.process_index() == 0


def wait(what: str) -> None:
  """Waits until all processes are here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(what)


def stopping(interrupted: threading.Event, first: int, last: int) -> bool:
  """Whether to save and end after the steps in (first, last], the same on all processes.

  One process ends when `interrupted` is set. Of several, the one that gets SIGTERM tells the
  others, and JAX has all of them end after the same step; asking costs no exchange.
  """
  if jax.process_count() == 1:
    return interrupted.is_set()
  # The step agreed upon may be any, so each is asked for.
  return any([multihost_utils.reached_preemption_sync_point(i + 1) for i in range(first, last)])


def _connect(
  coordinator: str, num_processes: int | None, process_id: int | None, preemptible: bool
) -> bool:
  """Initialises JAX's distributed runtime if there are other processes; whether there are."""
  if num_processes == 1 and not coordinator and not process_id:
    return False
  arguments, launcher = {}, None
  if coordinator or num_processes is not None or process_id is not None:
    _check(coordinator, num_processes, process_id)
    arguments = dict(
      coordinator_address=coordinator,
      num_processes=num_processes,
      process_id=process_id,
      cluster_detection_method='deactivate',
    )
  elif not (launcher := _launcher()):
    return False
  jax.config.update('jax_enable_preemption_service', preemptible)
  ended = _last_words(
    f'not all processes of the run joined within {JOIN_SECONDS} s. Start them all: with the same '
    '--coordinator, which each has to reach, the same --num_processes, and its own --process_id.'
  )
  try:
    jax.distributed.initialize(
      **arguments,
      initialization_timeout=JOIN_SECONDS,
      heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
      shutdown_timeout_seconds=SHUTDOWN_SECONDS,
    )
  except ValueError as error:
    if launcher == PERHAPS:  # libtpu is here to plan with.
      return False
    raise ValueError(
      f'{launcher} started several processes, and JAX does not find how to join them: {error} '
      f'Give {FLAGS}, or --num_processes=1 if each is a run of its own. (On Kubernetes JAX needs '
      'the package kubernetes.)'
    ) from error
  finally:
    ended()
  if jax.process_count() > 1:
    return True
  signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))  # Taken back from JAX.
  return False


def _check(coordinator: str, num_processes: int | None, process_id: int | None) -> None:
  given = {
    '--coordinator': coordinator or None,
    '--num_processes': num_processes,
    '--process_id': process_id,
  }
  if missing := [name for name, value in given.items() if value is None]:
    raise ValueError(
      f'several processes need {FLAGS}; {" and ".join(missing)} missing. One process needs none.'
    )
  if not re.fullmatch(r'.+:\d+', coordinator):
    raise ValueError(f'--coordinator={coordinator}: expected HOST:PORT of process 0')
  if num_processes < 1:
    raise ValueError(f'--num_processes={num_processes}: expected 1 or more')
  if not 0 <= process_id < num_processes:
    raise ValueError(
      f'--process_id={process_id}: expected 0 to {num_processes - 1}, each for one of the '
      f'{num_processes} processes'
    )


def _launcher() -> str | None:
  """What started this process beside others, by the environment; None if it is alone."""
  found = os.environ
  for name, (size, own) in LAUNCHERS.items():
    if own in found and size in found:
      return name if int(found[size]) > 1 else None
  if any(name in found for name in TPU_HOSTS) or 'MEGASCALE_NUM_SLICES' in found:
    return 'TPU'
  if 'KUBERNETES_SERVICE_HOST' in found:
    return 'Kubernetes' if 'JOB_COMPLETION_INDEX' in found else None
  # A TPU machine's metadata, which JAX reads, say whether it is one of several.
  return PERHAPS if importlib.util.find_spec('libtpu') else None


def _last_words(words: str) -> Callable[[], None]:
  """Has an error printed should this process be killed or aborted; the result calls that off."""
  watcher = subprocess.Popen(
    ['sh', '-c', 'read -r ended || printf "\\n%s\\n" "$0" >&2', f'error: {words}'],
    stdin=subprocess.PIPE,
    stdout=subprocess.DEVNULL,
    start_new_session=True,  # A signal for this process and its children is not for it.
  )

  def ended() -> None:
    with contextlib.suppress(BrokenPipeError):
      watcher.communicate(b'ended\n')

  return ended
