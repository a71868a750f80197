"""What the JSON files of `results/runs` hold, by the command that writes them; free of JAX.

`experiment` tells them apart: `analysis`, `baselines`, `bench`, `counts`, `latency` and `plan` are
those of the commands of these names; a run of a config has the config's. Absent keys are
`NotRequired`. An analysis is in `analysis_schema`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

from lora_jax.provenance import Inputs

# A config as JSON: nested sections of plain values.
ConfigJson = Mapping[str, object]
# An evaluation: `step`, `epoch`, and numbers such as `train/loss` and `dev/accuracy`.
Record = Mapping[str, float]


class Parameters(TypedDict):
  """Numbers of parameters."""

  trainable: int
  trainable_without_head: int
  frozen: NotRequired[int]


class Decoding(TypedDict):
  """How texts were generated: the `decode` section of the config, as far as pages show it."""

  strategy: str
  beams: int
  length_penalty: float


class Generated(TypedDict):
  """The texts that a run decoded at its end, by their scores; `parts` are parts of the split."""

  split: str
  contexts: int
  seconds: float
  decode: Decoding
  scores: Mapping[str, float]
  parts: NotRequired[Mapping[str, Mapping[str, float]]]


class Programs(TypedDict):
  """Programs of any size that a run needed after its weights were read, over all its starts.

  `from_cache` of them were kept by an earlier command. `seconds` are those of compiling and reading
  them, without tracing and lowering, and count programs that were compiled at the same time by
  themselves.
  """

  compiled: int
  from_cache: int
  seconds: float


class Origin(TypedDict):
  """What every file says of the code behind its numbers."""

  experiment: str
  commit: str
  versions: NotRequired[Mapping[str, str]]


class Machine(Origin):
  """An origin whose numbers depend on a machine: its devices, hosts and processor."""

  device: str
  cpu: str
  hosts: NotRequired[int]


class ShapeChoice(TypedDict):
  """Why the training batches have as many shapes as `shapes` lists.

  All seconds are estimates (`lora_jax/train/estimate.py`). A shape costs `compile_seconds`;
  `train_seconds` are those of all steps with one shape, with two and so on, and the number was
  chosen for which both together are least. `most` is `config.data.max_shapes`.
  """

  most: int
  compile_seconds: float
  train_seconds: Sequence[float]


class Trained(Origin):
  """What is said of a run, finished or not.

  `paper_table` is the table of the paper that has this run's row (`table 2 †`), '' if none.
  """

  paper_table: str
  task: str
  model: str
  method: str
  preset: str
  seed: int
  metric: str
  history: Sequence[Record]
  config: ConfigJson


class Diverged(Trained):
  """`failed.json` of a run that diverged: what was not finite, at which step."""

  error: str


class GeneralText(TypedDict):
  """Losses on held-out text that is of no task, nats a token, whose rise is what a run forgets.

  Before the first update, where a run that starts from no adapter is its base, at the best and at
  the last evaluation.
  """

  start: float
  best: float
  last: float


class RunResult(Trained, Machine):
  """`result.json` of a finished run.

  `members` is the number of runs that one program trained together; of more than one, `seconds` are
  this run's equal part of those that passed, `programs` those of all of them, and `members_why`
  says why they were trained together. `truncation` says how many `examples` of each split were
  used, how many of them were `cut` at `data.max_length`, and how many had to be `left_out`. `best`
  and `last` are entries of `history`, whose scores have the names of `metric`. `diverged` is not in
  the file: how many seeds of the same settings did, by rate, as pages read it (`report/runs.py`).
  """

  best: Record
  last: Record
  general_text: NotRequired[GeneralText]
  generated: NotRequired[Generated]
  parameters: Parameters
  head: NotRequired[str]
  init_adapter_dropped: NotRequired[Sequence[str]]
  truncation: NotRequired[Mapping[str, Mapping[str, int]]]
  steps: NotRequired[int]
  members: NotRequired[int]
  members_why: NotRequired[str]
  seconds: Mapping[str, float]
  programs: NotRequired[Programs]
  examples_per_second: NotRequired[float]
  tokens_per_second: float
  padding: float
  shapes: NotRequired[Sequence[Sequence[int]]]
  shape_choice: NotRequired[ShapeChoice]
  inputs: NotRequired[Inputs]
  diverged: NotRequired[Mapping[float, int]]


class Timing(TypedDict):
  """Forward passes of one variant: milliseconds, and per cent of slow-down to the bare model."""

  mean: float
  sd: float
  slowdown: float
  trials: int


class LatencySetting(TypedDict):
  """The variants at one batch and length; `adapters` is how many parameters table 1's have."""

  batch: int
  length: int
  adapters: NotRequired[str]
  rows: Mapping[str, Timing]


class Latency(Machine):
  """What `experiments.latency` writes: the settings of table 1, and the grid of figure 5."""

  model: str
  layers: int
  dtype: str
  settings: Sequence[LatencySetting]
  grid: Sequence[LatencySetting]


class Bench(Machine):
  """What `experiments.bench` and `experiments.compare_peers` write.

  Attributes:
    rounds: timed rounds of which a figure is the median.
    measured: for each title, rows of named numbers.
    notes: by title their units, and what they mean.
    skipped: by title why a row is missing, by its name.
    peers: versions of the other libraries that were measured.
  """

  rounds: int
  measured: Mapping[str, Mapping[str, Mapping[str, float]]]
  notes: NotRequired[Mapping[str, str]]
  skipped: NotRequired[Mapping[str, Mapping[str, str]]]
  peers: NotRequired[Mapping[str, str]]


class Constant(TypedDict):
  """What one prediction for all of a dev set scores.

  Attributes:
    label: the most common class of the training set; '' for a value, where it is its mean.
    counts: examples of the training set by their class.
    score: of the dev set, in [0, 1]; 0 for a correlation, which a constant does not have.
  """

  metric: str
  label: str
  counts: Mapping[str, int]
  split: str
  score: float


class PublishedTexts(TypedDict):
  """The scores of a published system's texts, in the form of `Generated.scores`."""

  about: str
  scores: Mapping[str, float]


class Baselines(Origin):
  """What `experiments.baselines` writes: what is reached without training a model, by task."""

  constants: Mapping[str, Constant]
  systems: Mapping[str, Mapping[str, PublishedTexts]]


class CountRow(TypedDict):
  """A row of the paper's tables: the number of parameters that is printed and that is computed."""

  table: str
  model: str
  method: str
  options: Mapping[str, object]
  quoted: bool
  printed: str
  computed: int
  note: str


class Counts(Origin):
  """What `experiments.counts` writes."""

  counts: Sequence[CountRow]


class Slice(TypedDict):
  """A TPU slice that was tried: what it would hold in bytes, and by which compiler."""

  topology: str
  fits: NotRequired[bool]
  bytes: Mapping[str, float]
  compiler: NotRequired[str]


class Slices(TypedDict):
  """The slices that were tried, in growing order, and whether the last one fits."""

  fits: bool
  tried: Sequence[Slice]


class ClaimRow(TypedDict):
  """What a method trains, keeps and stores of GPT-3 175B: parameters, and bytes."""

  trained: int
  total: int
  state_bytes: int
  gradient_bytes: int
  checkpoint_bytes: int
  checkpoint_bytes_float32: int
  tasks_bytes: int
  paper_trained: NotRequired[str]
  v5e: NotRequired[Slices]
  v5p: NotRequired[Slices]


class Claims(TypedDict):
  """The practical claims of section 4.2, worked out."""

  claims: Mapping[str, ClaimRow]
  batch_size: int
  length: int
  tasks: int


class PlannedJob(TypedDict):
  """A planned job, as far as pages show it."""

  model: str
  method: str
  batch_size: int
  length: int
  dtype: str


class PlannedPeak(TypedDict):
  """The peak of memory that was planned and that was measured, in bytes."""

  predicted: float
  measured: float
  ratio: float


class ClaimsPlan(Origin, Claims):
  """What `experiments.plan --paper` writes."""


class MeasuredPlan(Machine):
  """What `experiments.plan --measure` writes."""

  plan: PlannedJob
  measured: PlannedPeak


class ChaosRow(TypedDict):
  """How often something happened to a run; `too_late`: when it was over, or too early to matter."""

  times: int
  too_late: int
  unexpected: int


class Chaos(TypedDict):
  """What happened to runs of one job, and what came of them.

  Attributes:
    seconds: of a run that nothing happens to.
    rows: by what happened.
    finished: runs that the same command finished in the end.
    problems: a line for each run that differs, is not finished or ended in an unexpected way.
  """

  seconds: float
  rows: Mapping[str, ChaosRow]
  finished: int
  problems: Sequence[str]


class ChaosTrial(Machine, Chaos):
  """What `experiments.chaos` writes."""
