"""Several processes, on one host or many, that do one run together: `connected`.

JAX's distributed runtime connects them. Each runs the same program on its part of the mesh; only
the first writes files other than checkpoints.
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
import time
import traceback
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from lora_jax.train.signals import Stop

JOIN_SECONDS = 300
HEARTBEAT_SECONDS = 40  # A process that is silent for so long counts as lost and ends the others.
SHUTDOWN_SECONDS = 3600  # The others wait for the first process, which scores texts at the end.
FLAGS = '--coordinator=HOST:PORT --num_processes=N --process_id=I'
# Variables by which JAX finds a launcher's processes: their number, and one that each process has.
LAUNCHERS = {
  'SLURM': ('SLURM_NTASKS', 'SLURM_STEP_NODELIST'),
  'Open MPI': ('OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK'),
}
MAYBE_TPU = 'a TPU machine'
TPU_HOSTS = ('TPU_WORKER_HOSTNAMES', 'TPU_PROCESS_ADDRESSES')
# Not INVALID_ARGUMENT or RESOURCE_EXHAUSTED, which are of this process itself.
LOSSES = re.compile('(ABORTED|CANCEL[A-Z]+|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|UNKNOWN): ')
RESTART = (
  'Start all processes again with the same command: training resumes from its last checkpoint.'
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
  """Connects this process to the others of the run, for the block; does nothing for a single one.

  Without arguments, processes that a launcher started find each other: SLURM, Open MPI, an indexed
  Kubernetes job or JobSet, TPU slices.

  An error that ends one process ends all: it is shown, and the process exits with 1 without waiting
  for the others, which notice the loss within `HEARTBEAT_SECONDS`. JAX then ends them by `abort`,
  which says little; a helper process that outlives them prints what happened. An error that may be
  that of a lost process is shown at once, and waits for that end: only a mistake exits with 1.

  Args:
    coordinator: HOST:PORT at which process 0 listens.
    num_processes: the number of processes of the run; 1 connects to no other, in a cluster too.
    process_id: the number of this process, from 0.
    preemptible: whether `stopping` is to see SIGTERM; otherwise SIGTERM ends the process.
    show: prints an error.

  Raises:
    ValueError: if arguments are incomplete or out of range, or JAX does not find a launcher's
      processes.
  """
  if not _connect(coordinator, num_processes, process_id, preemptible):
    yield
    return
  name = f'process {jax.process_index()} of {jax.process_count()} ({socket.gethostname()})'
  ended = _last_words(
    f'{name} was killed, or it ended because another process was lost. If JAX knows which one, its '
    f'message above gives the number (its "leader" is process 0). {RESTART}'
  )
  try:
    with _python_alone_prints():
      yield
  except Exception as error:
    show(error)
    print(
      f'{name} ends because of this error, and with it all others. If the error is a lost '
      'connection, another process ended first, and its own output says why. Fix the cause, which '
      'may be in the command, and start all processes again: training resumes from its last '
      'checkpoint.',
      file=sys.stderr,
    )
    sys.stdout.flush()
    sys.stderr.flush()
    if may_be_a_loss(error):  # Then JAX ends this process: by its status scripts start it again.
      time.sleep(HEARTBEAT_SECONDS + 10)
    elif is_first():  # The others lose the runtime with it: let them show their own errors first.
      time.sleep(5)
    ended()
    os._exit(1)
  except SystemExit:
    jax.distributed.shutdown()
    ended()
    raise
  jax.distributed.shutdown()
  ended()


def may_be_a_loss(error: BaseException) -> bool:
  """Whether an error may tell of another process that was lost: by the status that begins it.

  JAX raises what its runtime tells as errors of several types, with the same words.
  """
  chain: list[BaseException] = []
  cause: BaseException | None = error
  while cause is not None and cause not in chain:
    chain.append(cause)
    cause = cause.__cause__ or cause.__context__
  return jax.process_count() > 1 and any(LOSSES.match(str(one)) for one in chain)


def is_first() -> bool:
  """Whether this is the process that writes what must be written once."""
  return jax.process_index() == 0


def wait(what: str) -> None:
  """Waits until all processes have called this; `what` names the place in errors."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(what)


def agreed(number: int) -> int:
  """The number that the first process gives, on all processes."""
  if jax.process_count() == 1:
    return number
  return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def from_first(text: str) -> str:
  """The text that the first process gives, on all processes."""
  if jax.process_count() == 1:
    return text
  content = np.frombuffer(text.encode(), np.uint8)
  content = np.resize(content, agreed(len(content)))  # All give as many bytes.
  return bytes(multihost_utils.broadcast_one_to_all(content)).decode()


def stopping(interrupted: Stop, first: int, last: int) -> bool:
  """Whether to save and exit after the steps in (first, last], the same on all processes.

  A single process exits when `interrupted` is set. Of several, the one that gets SIGTERM tells the
  others, and JAX has all of them exit after the same step; asking costs no communication.
  """
  if jax.process_count() == 1:
    return interrupted.is_set()
  # Any of the steps may be the one that the processes agreed on.
  return any([multihost_utils.reached_preemption_sync_point(i + 1) for i in range(first, last)])


def _connect(
  coordinator: str, num_processes: int | None, process_id: int | None, preemptible: bool
) -> bool:
  """Initializes JAX's distributed runtime if there are other processes, and says whether so."""
  if num_processes == 1 and not coordinator and not process_id:
    return False
  launcher, given = None, bool(coordinator) or num_processes is not None or process_id is not None
  if given:
    _check(coordinator, num_processes, process_id)
  elif not (launcher := _launcher()):
    return False
  jax.config.update('jax_enable_preemption_service', preemptible)
  ended = _last_words(
    f'not all processes of the run connected within {JOIN_SECONDS} s. Start all of them, with the '
    'same --coordinator, which each must be able to reach, the same --num_processes, and each with '
    'its own --process_id.'
  )
  try:
    jax.distributed.initialize(
      coordinator_address=coordinator or None,
      num_processes=num_processes,
      process_id=process_id,
      cluster_detection_method='deactivate' if given else None,
      initialization_timeout=JOIN_SECONDS,
      heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
      shutdown_timeout_seconds=SHUTDOWN_SECONDS,
    )
  except ValueError as error:
    if launcher == MAYBE_TPU:  # libtpu is installed, but only to plan with.
      return False
    raise ValueError(
      f'{launcher} started several processes, but JAX cannot find how to connect them: {error} '
      f'Give {FLAGS}, or --num_processes=1 if each process is a run of its own. (On Kubernetes JAX '
      'needs the package kubernetes.)'
    ) from error
  finally:
    ended()
  if jax.process_count() > 1:
    return True
  # JAX took over SIGTERM; give it back to Python's handler.
  signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
  return False


def _check(coordinator: str, num_processes: int | None, process_id: int | None) -> None:
  """Raises a ValueError unless all three flags are given and in range."""
  if not coordinator or num_processes is None or process_id is None:
    given = dict(
      coordinator=coordinator or None, num_processes=num_processes, process_id=process_id
    )
    missing = ' and '.join(f'--{name}' for name, value in given.items() if value is None)
    raise ValueError(f'several processes need {FLAGS}; {missing} missing. One process needs none.')
  if not re.fullmatch(r'.+:\d+', coordinator):
    raise ValueError(f'--coordinator={coordinator}: expected HOST:PORT of process 0')
  if num_processes < 1:
    raise ValueError(f'--num_processes={num_processes}: expected 1 or more')
  if not 0 <= process_id < num_processes:
    raise ValueError(
      f'--process_id={process_id}: expected 0 to {num_processes - 1}, another one for each of the '
      f'{num_processes} processes'
    )


def _launcher() -> str | None:
  """The launcher that started this process beside others, by the environment; None if alone."""
  found = os.environ
  for name, (size, own) in LAUNCHERS.items():
    if own in found and size in found:
      return name if int(found[size]) > 1 else None
  if any(name in found for name in TPU_HOSTS) or 'MEGASCALE_NUM_SLICES' in found:
    return 'TPU'
  if 'KUBERNETES_SERVICE_HOST' in found:
    return 'Kubernetes' if 'JOB_COMPLETION_INDEX' in found else None
  # JAX reads from a TPU machine's metadata whether it is one of several.
  return MAYBE_TPU if importlib.util.find_spec('libtpu') else None


@contextlib.contextmanager
def _python_alone_prints() -> Iterator[None]:
  """Has libraries in C++ write to standard error what they would write to standard output.

  Gloo, which connects CPUs, says there how many peers it has, before a command's JSON.
  """
  standard = sys.__stdout__
  if standard is None or sys.stdout is not standard:  # Prints go elsewhere already.
    yield
    return
  standard.flush()
  own = os.dup(1)
  with open(own, 'w', encoding=standard.encoding) as stream:
    os.dup2(2, 1)
    try:
      with contextlib.redirect_stdout(stream):
        yield
    finally:
      stream.flush()
      os.dup2(own, 1)


def _last_words(words: str) -> Callable[[], None]:
  """Starts a helper that prints an error if this process is killed or aborted.

  Returns:
    a function that ends the helper, for a process that exits on its own.
  """
  watcher = subprocess.Popen(
    ['sh', '-c', 'read -r ended || printf "\\n%s\\n" "$0" >&2', f'error: {words}'],
    stdin=subprocess.PIPE,
    stdout=subprocess.DEVNULL,
    start_new_session=True,  # So that a signal to this process group does not end the helper.
  )

  def ended() -> None:
    with contextlib.suppress(BrokenPipeError):
      watcher.communicate(b'ended\n')

  return ended
