"""Many adapters of one base in one process, mixed in one batch: `Bank`.

    bank = Bank(model, params, capacity=100, rank=16, num_labels=3)
    bank.add('mnli', adapter)
    logits = bank(['mnli', 'rte', BASE], input_ids, segment_ids)

Merged into the base, the adapters of two tasks cannot share a batch (the paper, section 4.2). In a
bank each example has its own adapter: every factor has a first axis of adapters, an example takes
its slice, and `vmap` runs the model over examples with the frozen part in common. So the product
with a frozen matrix stays one product over the whole batch, and adding an adapter writes one slice.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lora_jax import errors, methods, stacking, tree
from lora_jax.adapters.adapter import Adapter, check_base
from lora_jax.adapters.fingerprint import Fingerprint, fingerprint
from lora_jax.methods.lora import FACTORS, QUERY_VALUE
from lora_jax.methods.models import AnyModel, as_linen
from lora_jax.models.presets import TOKENS
from lora_jax.serving import fit

BASE = 'base'  # A name for the base without an adapter.
RESERVED = f'the name {BASE!r} is reserved for the base without an adapter'
Arrays = dict[str, jax.Array]


class Bank:
  """LoRA adapters of one base, by name, of any rank, targets, alpha and number of labels.

  Where an adapter adapts nothing its factors are zero, and a leaf that it did not train (a head, a
  bias) is the base's. Its scale is folded into `lora_b` when it is added.

  Attributes:
    model: the base model, with the widest head.
    capacity: number of adapters that the bank has room for.
    rank: the largest rank; factors of smaller ranks are padded with zeros.
    num_labels: outputs of the widest head; None for a model without a head.
    arrays: arrays [capacity + 1, ...] by path; slot 0 is the base's.
    compilations: programs compiled so far: one for each shape of a call, and one that adds.
    compiling: seconds of compilation so far.
  """

  def __init__(
    self,
    model: AnyModel,
    params: tree.Params,
    *inputs: Any,
    capacity: int,
    rank: int,
    targets: str | Sequence[str] = QUERY_VALUE,
    train: str | Sequence[str] | None = None,
    num_labels: int | None = None,
    static: Mapping[str, Any] | None = None,
  ):
    """Allocates the arrays, and compiles the program that adds an adapter.

    Args:
      model, params: the base, of Linen or of NNX. A head in `params` is that of `BASE`.
      *inputs: the arguments of a call of the model, or their shapes; none means token ids.
      capacity: number of adapters to make room for, at least 1. Each takes the bytes of its padded
        factors and of its copy of the leaves of `train`.
      rank: the largest rank of an adapter.
      targets: patterns, as for `lora`, of all modules that any adapter adapts.
      train: patterns, as for `lora`, of all further leaves that any adapter trains; None means the
        model's head.
      num_labels: outputs of the widest head; None means as many as the model has.
      static: arguments of every call that are not arrays (`{'train': False}`).

    Raises:
      ValueError: for sizes below 1, fewer labels than the base has, or patterns that match nothing.
    """
    for name, size in (('capacity', capacity), ('rank', rank)):
      if size < 1:
        raise ValueError(f'{name}={size}: expected at least 1')
    inputs = inputs or (TOKENS,)
    self._static = dict(static or {})
    self._labels = {BASE: getattr(model, 'num_labels', 0)}
    linen, params = fit.widen_head(
      as_linen(model), nn.unbox(params), num_labels, inputs, self._static
    )
    train = getattr(linen, 'head', ()) if train is None else train
    # With alpha equal to the rank the method's own scale is 1: each adapter's is in its lora_b.
    method = methods.lora(rank=rank, alpha=rank, targets=targets, train=train)
    init = lambda params: method.init(jax.random.key(0), linen, params, *inputs, **self._static)
    shapes = tree.flatten(jax.eval_shape(init, params)[1])
    leaves = tree.flatten(params)
    self.model, self.rank, self.capacity = cast(nn.Module, linen), rank, capacity
    self.num_labels = getattr(linen, 'num_labels', None)
    self.compilations, self.compiling = 0, 0.0
    self._frozen = jax.device_put(
      tree.unflatten({path: leaf for path, leaf in leaves.items() if path not in shapes})
    )
    self._base = {  # The values of slot 0, and of what an adapter lacks.
      path: np.asarray(leaves[path], np.float32) if path in leaves else np.zeros(leaf.shape, 'f')
      for path, leaf in shapes.items()
    }
    self._slots = {BASE: 0}
    self._apply = methods.bind(linen, method)
    self._run, self._put = jax.jit(self._forward), jax.jit(self._write, donate_argnums=0)
    self.arrays = {
      path: jnp.zeros((capacity + 1, *value.shape), jnp.float32)
      for path, value in self._base.items()
    }
    self.arrays = self._put(self.arrays, self._base, 0)

  @classmethod
  def of(
    cls,
    model: nn.Module,
    params: tree.Params,
    adapters: Mapping[str, Adapter],
    *,
    capacity: int = 0,
    other_base: bool = False,
  ) -> Bank:
    """A bank that holds these adapters, with the rank, targets and labels that they need.

    Args:
      model, params: the base, which is called with token ids.
      adapters: adapters by name.
      capacity: the bank's capacity, at least the number of adapters.
      other_base: as for `add`.

    Raises:
      ValueError: as `Bank` and `add` do.
    """
    needs = fit.needs(adapters, stacking.is_scanned(params))
    has = getattr(model, 'num_labels', None)
    bank = cls(
      model,
      params,
      capacity=max(capacity, len(adapters)),
      rank=needs.rank,
      targets=needs.targets,
      train=needs.train,
      num_labels=has and max(has, needs.num_labels),
    )
    for name, adapter in adapters.items():
      bank.add(name, adapter, other_base=other_base)
    return bank

  @property
  def names(self) -> list[str]:
    """The adapters, in the order in which they were added."""
    return [name for name in self._slots if name != BASE]

  @property
  def nbytes(self) -> int:
    """Bytes of all slots; the frozen base is not among them."""
    return tree.nbytes(self.arrays)

  def labels(self, name: str) -> int:
    """Outputs of an adapter's head; 0 for a model without one."""
    self._slot(name)
    return self._labels[name]

  def add(self, name: str, adapter: Adapter, *, other_base: bool = False) -> None:
    """Adds an adapter; nothing is compiled for it.

    Args:
      name: the adapter's name in calls; any but `BASE`.
      adapter: an adapter of LoRA, as it was loaded or imported.
      other_base: accept an adapter that was trained on another base of the same shape.

    Raises:
      ValueError: if the name is in use or the bank is full; if the adapter is not of LoRA or not of
        this base, has a higher rank or more labels than the bank, or adapts or trains other places
        than the bank. The bank does not change then.
    """
    if name == BASE:
      raise ValueError(f'adapter {BASE!r}: {RESERVED}')
    if name in self._slots:
      raise ValueError(f'adapter {name!r} is in the bank already: replace or remove it')
    used = set(self._slots.values())
    free = next((slot for slot in range(1, self.capacity + 1) if slot not in used), None)
    if free is None:
      raise ValueError(
        f'adapter {name!r}: the bank is full, its capacity is {self.capacity}. Remove one, or call '
        'grow(capacity), which compiles all programs again.'
      )
    self._store(name, adapter, free, other_base)

  def replace(self, name: str, adapter: Adapter, *, other_base: bool = False) -> None:
    """Replaces an adapter by another; raises as `add` does."""
    slot = self._slot(name)
    if name == BASE:
      raise ValueError(f'adapter {BASE!r} cannot be replaced: {RESERVED}')
    self._store(name, adapter, slot, other_base)

  def remove(self, name: str) -> None:
    """Removes an adapter, which frees its slot.

    Raises:
      ValueError: for an unknown name.
    """
    self._slot(name)
    if name == BASE:
      raise ValueError(f'adapter {BASE!r} cannot be removed: {RESERVED}')
    del self._slots[name], self._labels[name]

  def grow(self, capacity: int) -> None:
    """Makes room for more adapters. Every program is compiled again when it is next used.

    Raises:
      ValueError: if `capacity` is less than the present capacity.
    """
    if capacity < self.capacity:
      raise ValueError(f'grow({capacity}): the capacity is {self.capacity} already')
    more = capacity - self.capacity
    for path, array in self.arrays.items():  # One by one, so that each old array is freed.
      self.arrays[path] = jnp.pad(array, [(0, more)] + [(0, 0)] * (array.ndim - 1))
    self.capacity = capacity

  def __call__(self, names: Sequence[str], *inputs: Any, **named: Any) -> Any:
    """The model's output, with each example computed by its own adapter.

    Args:
      names: the adapter of each example, or `BASE`.
      *inputs, **named: the model's arguments; the first axis of every array is that of `names`.

    Returns:
      What the model returns. Logits are [examples, ..., num_labels], -inf beyond the outputs that
      an example's adapter has.

    Raises:
      ValueError: for an unknown name (near ones are offered), or if the number of examples is not
        that of names.
    """
    slots = np.array([self._slot(name) for name in names], np.int32)
    labels = np.array([self._labels[name] for name in names], np.int32)
    for array in jax.tree.leaves((inputs, named)):
      if not np.shape(array) or np.shape(array)[0] != len(names):
        raise ValueError(
          f'{len(names)} names of adapters, but an input of shape {np.shape(array)}: its '
          'first axis must be that of the examples'
        )
    before, began = self.compilations, time.perf_counter()
    outputs = self._run(self._frozen, self.arrays, slots, labels, inputs, named)
    if self.compilations > before:  # A call compiles before it returns, but does not wait to run.
      self.compiling += time.perf_counter() - began
    return outputs

  def _forward(
    self,
    frozen: tree.Params,
    arrays: Arrays,
    slots: jax.Array,
    labels: jax.Array,
    inputs: tuple[Any, ...],
    named: dict[str, Any],
  ) -> Any:
    self.compilations += 1  # Python runs when a program is traced, not when it is executed.
    own = {path: x.at[slots].get(mode='promise_in_bounds') for path, x in arrays.items()}

    def compute_example(
      own: Arrays, labels: jax.Array, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
      inputs, named = jax.tree.map(lambda x: x[None], (inputs, named))
      outputs = self._apply(frozen, tree.unflatten(own), *inputs, **named, **self._static)
      return jax.tree.map(lambda x: self._mask_labels(x[0], labels), outputs)

    return jax.vmap(compute_example)(own, labels, inputs, named)

  def _mask_labels(self, x: jax.Array, labels: jax.Array) -> jax.Array:
    """Logits with -inf beyond the first `labels` outputs; other outputs as they are."""
    if self.num_labels is None or x.shape[-1:] != (self.num_labels,):
      return x
    outside = jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1) >= labels
    return jnp.where(outside, jnp.array(-jnp.inf, x.dtype), x)

  def _write(self, arrays: Arrays, values: Arrays, slot: jax.Array) -> Arrays:
    self.compilations += 1
    put = lambda array, value: jax.lax.dynamic_update_index_in_dim(array, value, slot, 0)
    return jax.tree.map(put, arrays, values)

  def _slot(self, name: str) -> int:
    if name not in self._slots:
      raise ValueError(f'unknown adapter {name!r}. {errors.nearest(name, self._slots)}')
    return self._slots[name]

  def _store(self, name: str, adapter: Adapter, slot: int, other_base: bool) -> None:
    if not other_base and adapter.config is not None and hasattr(self.model, 'config'):
      try:
        check_base(adapter, self.model, self._frozen, fingerprint=self._fingerprint)
      except ValueError as error:
        raise ValueError(f'adapter {name!r}: {error}') from None
    values = fit.values(name, adapter, self._base, self.rank, self.num_labels)
    self.arrays = self._put(self.arrays, values, slot)
    self._slots[name], self._labels[name] = slot, adapter.num_labels

  @functools.cached_property
  def _fingerprint(self) -> Fingerprint:
    own = {path: x for path, x in self._base.items() if path.rpartition('/')[2] not in FACTORS}
    return fingerprint(tree.join(self._frozen, tree.unflatten(own)), self.model.config)
