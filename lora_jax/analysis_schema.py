"""What `experiments.analyze` writes: the directions that one run or two learned; free of JAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NotRequired, TypedDict


class AnalyzedRun(TypedDict):
  """A run that was analyzed."""

  run: str
  model: str
  task: str
  ranks: Sequence[int]
  scales: Sequence[float]
  seed: NotRequired[int]


class Spectrum(TypedDict):
  """The singular values of one layer's update."""

  path: NotRequired[str]
  layer: int
  matrix: str
  rank: NotRequired[int]
  norm: float
  effective_rank: float
  stable_rank: float
  singular_values: Sequence[float]


class LayerSimilarity(TypedDict):
  """The similarity of the updates of all layers to one another."""

  matrix: str
  side: str
  layers: Sequence[int]
  top: Sequence[Sequence[float]]
  top_by_chance: float
  whole: Sequence[Sequence[float]]
  whole_by_chance: float


class PairMap(TypedDict):
  """The similarity of two runs' updates of one layer, `phi[i][j]`, and what it comes to."""

  layer: int
  matrix: str
  path: str
  phi: Sequence[Sequence[float]]
  top: float
  top_of_first_in_second: float
  whole: float
  whole_by_chance: float


class WeightMap(TypedDict):
  """The similarity of a weight and its update, and of the weight and a random matrix."""

  layer: int
  matrix: str
  phi: Sequence[Sequence[float]]
  control: Sequence[Sequence[float]]


class Amplification(TypedDict):
  """A row of table 7: norms of a weight in the directions of its update, its own, random ones."""

  layer: int
  matrix: str
  rank: int
  scale: float
  weight: float
  on_update: float
  on_weight: float
  on_random: float
  update: float
  amplification: float


class RandomMap(TypedDict):
  """The similarity of two random matrices."""

  phi: Sequence[Sequence[float]]


class Measured(TypedDict, total=False):
  """What an analysis measured: the first four of one run, the others of two."""

  spectra: Sequence[Spectrum]
  layers: Sequence[LayerSimilarity]
  figure8: Sequence[WeightMap]
  table7: Sequence[Amplification]
  maps: Sequence[PairMap]
  control: Sequence[RandomMap]
  middle: int
  spread: Sequence[int]


class Analysis(TypedDict):
  """`analysis.json` of one run (`single`) or two (`pair`), by their factors or their updates."""

  experiment: str
  kind: Literal['single', 'pair']
  of: str
  runs: Sequence[AnalyzedRun]
  measured: Measured
