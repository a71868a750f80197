"""Estimated seconds of compiling and of computing, by which the shapes of a run are chosen.

The estimates depend on the platform, the model and the method alone, never on a clock: dropout
draws its masks by the shape of a batch, so shapes that followed measured times would give two runs
of one config different results. That costs little: where compiling takes twice or half the
estimated seconds, the chosen shapes end an epoch of RTE, MRPC or CoLA at most 4 % later than the
best ones would, and where it takes four times as long 12 % later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lora_jax.models import presets

if TYPE_CHECKING:
  from lora_jax.train.job import Job  # It imports this module.


class Speed(NamedTuple):
  """What a platform does in a second, roughly.

  Attributes:
    flops: floating-point operations of a train step, per second.
    program: seconds of tracing and compiling a train step, apart from its layers.
    layer: further seconds of each looped layer.
    launch: seconds of a layer's step that do not grow with its tokens.
    scanned: seconds of a step of scanned layers, over those of looped ones.
  """

  flops: float
  program: float
  layer: float
  launch: float
  scanned: float


# Measured on two cores of an EPYC (MiniLM: 4,450 tokens a second; 5.4 s a program of 6 layers; an
# epoch of RTE 68 s of CPU looped, 82 s scanned) and on an H100 (RoBERTa-base, bfloat16: 200
# TFLOP/s; 12 s a program of 12 layers). Launches: an H200, RoBERTa-base 16x64 in bfloat16, takes
# 2.485 ms for one run and 17.87 ms for 16 in one program, so 1.46 ms + 1.03 ms a run. A scanned
# step was not measured beside a looped one there; an epoch of RTE ended in 24 s scanned, in 47 s
# looped. A TPU was not measured: half of a v5e's peak, and the GPU's seconds.
SPEEDS = {
  'cpu': Speed(1.5e11, 3.0, 0.4, 0.0, 1.5),
  'gpu': Speed(2e14, 4.0, 0.7, 1.2e-4, 1.1),
  'tpu': Speed(1e14, 4.0, 0.7, 1.2e-4, 1.1),
}
EVALUATION = 0.4  # Share of a train step's seconds of compiling that an evaluation's program takes.
# Train steps that a run compiles, by seconds: two shapes of batches and two of evaluation.
PROGRAMS = 2 * (1 + EVALUATION)


def shape_seconds(platform: str, architecture: presets.Config, *, scan: bool) -> float:
  """Seconds of compiling the train step for one more shape of batches.

  Args:
    platform: `cpu`, `gpu` or `tpu`; an unknown one counts as a GPU.
    architecture: of the model.
    scan: whether the layers are scanned, so that one is compiled for all.
  """
  speed = SPEEDS.get(platform, SPEEDS['gpu'])
  return speed.program + speed.layer * (1 if scan else architecture.num_layers)


def is_scanned_sooner(
  platform: str, architecture: presets.Config, *, tokens: float, steps: int
) -> bool:
  """Whether a run ends sooner with scanned layers than with looped ones.

  Args:
    platform, architecture: as for `shape_seconds`.
    tokens: of a step.
    steps: of the run.
  """
  speed = SPEEDS.get(platform, SPEEDS['gpu'])
  saved = PROGRAMS * speed.layer * (architecture.num_layers - 1)
  step = architecture.num_layers * speed.launch + tokens * token_seconds(platform, architecture, 0)
  return steps * step * (speed.scanned - 1) < saved


def token_seconds(platform: str, architecture: presets.Config, trained: int) -> float:
  """Seconds of a token in a train step: 4 N operations, and 2 for each trained parameter.

  N, the parameters of the layers, is counted as 12 x layers x width^2. The forward pass and the
  backward pass through the activations take 2 N each, the gradient of a trained matrix as much.

  Args:
    platform, architecture: as for `shape_seconds`.
    trained: number of trained parameters; more than N are counted as N.
  """
  layers = 12 * architecture.num_layers * architecture.hidden_size**2
  return (4 * layers + 2 * min(trained, layers)) / SPEEDS.get(platform, SPEEDS['gpu']).flops


def shape_tokens(work: Job, platform: str) -> tuple[float, float]:
  """What one more shape costs in tokens: of training, and of evaluation."""
  architecture = work.model.config
  compiling = shape_seconds(platform, architecture, scan=work.model.scan)
  training = token_seconds(platform, architecture, work.summary.trainable)
  forward = token_seconds(platform, architecture, 0) / 2
  return compiling / training, EVALUATION * compiling / forward


def length_tokens(platform: str, architecture: presets.Config, *, scan: bool) -> float:
  """What one more length of prompts costs in decoding, in tokens of a prompt.

  Two programs are compiled for it, each as large as an evaluation's.

  Args:
    platform, architecture, scan: as for `shape_seconds`.
  """
  compiling = 2 * EVALUATION * shape_seconds(platform, architecture, scan=scan)
  return compiling / (token_seconds(platform, architecture, 0) / 2)
