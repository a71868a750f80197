"""Many adapters of one base in one process, mixed in one batch: `Bank`.

    bank = Bank(model, params, capacity=100, rank=16, num_labels=3)
    bank.add('mnli', adapter)
    logits = bank(['mnli', 'rte', BASE], input_ids, segment_ids)

Merged into the base, the adapters of two tasks cannot share a batch (the paper, section 4.2). Here
each example has its own: every factor is stacked on a first axis of adapters, an example takes its
slice, and `vmap` runs the model over examples with the frozen part in common. So the product with a
frozen matrix stays one product over the whole batch, and adding an adapter writes to one slice.
"""

from __future__ import annotations

import difflib
import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lora_jax import methods, stacking, tree
from lora_jax.adapters.adapter import TOKENS, Adapter, check_base
from lora_jax.adapters.fingerprint import fingerprint
from lora_jax.methods.lora import QUERY_VALUE
from lora_jax.serving import fit

BASE = 'base'  # The name of no adapter: the base as it is.


class Bank:
  """LoRA adapters of one base, by name, of any rank, targets, alpha and number of labels.

  An adapter lacks what it does not adapt: its factors there are zero, and a leaf that it did not
  train (a head, a bias) is the base's. The scale is folded into `lora_b` when it is put in.

  Attributes:
    model: the base, its head as wide as the widest.
    capacity: adapters that there is room for.
    rank: the largest; smaller ones are padded with zeros.
    num_labels: outputs of the widest head; None for a model without one.
    arrays: [capacity + 1, ...] by path; slot 0 is the base's.
    compilations: programs compiled so far: one for each shape of a call, one for putting in.
    compiling: seconds that it took.
  """

  def __init__(
    self,
    model: nn.Module,
    params: tree.Params,
    *inputs: Any,
    capacity: int,
    rank: int,
    targets: str | Sequence[str] = QUERY_VALUE,
    train: str | Sequence[str] | None = None,
    num_labels: int | None = None,
    static: Mapping[str, Any] | None = None,
  ):
    """Makes room, and compiles the program that puts an adapter in.

    Args:
      model, params: the base. A head in `params` is that of `BASE`.
      *inputs: what the model is called with, or shapes of it; none is token ids.
      capacity: adapters to make room for, at least 1. Each takes the bytes of its padded factors
        and of its copy of what `train` names.
      rank: the largest rank of an adapter.
      targets: as for `lora`: all modules that any adapter adapts.
      train: as for `lora`: all leaves that any adapter trains besides; None is the model's head.
      num_labels: outputs of the widest head; None is what the model has.
      static: arguments of every call that are no arrays (`{'train': False}`).

    Raises:
      ValueError: for sizes below 1, fewer labels than the base has, or patterns that match nothing.
    """
    for name, size in (('capacity', capacity), ('rank', rank)):
      if size < 1:
        raise ValueError(f'{name}={size}: a bank has room for at least 1')
    inputs = inputs or (TOKENS,)
    self._static = dict(static or {})
    self._labels = {BASE: getattr(model, 'num_labels', 0)}
    model, params = fit.widened(model, nn.unbox(params), num_labels, inputs, self._static)
    train = getattr(model, 'head', ()) if train is None else train
    # With alpha equal to the rank the method's own scale is 1: each adapter's is in its lora_b.
    method = methods.lora(rank=rank, alpha=rank, targets=targets, train=train)
    init = lambda params: method.init(jax.random.key(0), model, params, *inputs, **self._static)
    shapes = tree.flatten(jax.eval_shape(init, params)[1])
    leaves = tree.flatten(params)
    self.model, self.rank, self.capacity = model, rank, capacity
    self.num_labels = getattr(model, 'num_labels', None)
    self.compilations, self.compiling = 0, 0.0
    self._frozen = jax.device_put(
      tree.unflatten({path: leaf for path, leaf in leaves.items() if path not in shapes})
    )
    self._base = {  # What is at slot 0, and where an adapter has nothing.
      path: np.asarray(leaves[path], np.float32) if path in leaves else np.zeros(leaf.shape, 'f')
      for path, leaf in shapes.items()
    }
    self._slots = {BASE: 0}
    self._apply = methods.bind(model.apply, method)
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
    """A bank with room for what these adapters need, and with them in it.

    Args:
      model, params: the base, called with token ids.
      adapters: by name.
      capacity: of the bank, if it is to be more than their number.
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
    """Puts a new adapter in; nothing is compiled for it.

    Args:
      name: for calls; any but `BASE`.
      adapter: as it was loaded or imported; LoRA.
      other_base: put it on this base, though it was trained on another of the same shape.

    Raises:
      ValueError: if the name is taken or the bank is full, or the adapter is not LoRA, not of this
        base, of a higher rank or more labels than there is room for, or adapts or trains other
        places than the bank; the bank is as before then.
    """
    if name in self._slots:
      hint = 'is the name of no adapter' if name == BASE else 'is in the bank: replace or remove it'
      raise ValueError(f'adapter {name!r} {hint}')
    taken = set(self._slots.values())
    free = next((slot for slot in range(1, self.capacity + 1) if slot not in taken), None)
    if free is None:
      raise ValueError(
        f'adapter {name!r}: the bank is full, its capacity is {self.capacity}. Remove one, or call '
        'grow(capacity), which compiles all programs again.'
      )
    self._store(name, adapter, free, other_base)

  def replace(self, name: str, adapter: Adapter, *, other_base: bool = False) -> None:
    """Puts another adapter in the place of one; raises as `add` does."""
    slot = self._slot(name)
    if name == BASE:
      raise ValueError(f'adapter {BASE!r} is the name of no adapter')
    self._store(name, adapter, slot, other_base)

  def remove(self, name: str) -> None:
    """Forgets an adapter; its slot is free for the next.

    Raises:
      ValueError: if there is none of that name.
    """
    self._slot(name)
    if name == BASE:
      raise ValueError(f'{BASE!r} cannot be removed: it is the name of no adapter')
    del self._slots[name], self._labels[name]

  def grow(self, capacity: int) -> None:
    """Makes room for more adapters. Every program is compiled again when it is next used.

    Raises:
      ValueError: if it is less than the capacity there is.
    """
    if capacity < self.capacity:
      raise ValueError(f'grow({capacity}): the capacity is {self.capacity} already')
    more = capacity - self.capacity
    for path, array in self.arrays.items():  # One by one: the old ones go as the new ones come.
      self.arrays[path] = jnp.pad(array, [(0, more)] + [(0, 0)] * (array.ndim - 1))
    self.capacity = capacity

  def __call__(self, names: Sequence[str], *inputs: Any, **named: Any) -> Any:
    """The model's output, each example's by its own adapter.

    Args:
      names: the adapter of each example, or `BASE`.
      *inputs, **named: the model's arguments; the first axis of every array is that of `names`.

    Returns:
      What the model returns. Logits are [examples, ..., num_labels], -inf beyond the outputs that
      an example's adapter has.

    Raises:
      ValueError: for an unknown name (near ones offered), or inputs that are not of as many
        examples as names.
    """
    slots = np.array([self._slot(name) for name in names], np.int32)
    labels = np.array([self._labels[name] for name in names], np.int32)
    for array in jax.tree.leaves((inputs, named)):
      if not np.shape(array) or np.shape(array)[0] != len(names):
        raise ValueError(
          f'{len(names)} names of adapters, but an input of shape {np.shape(array)}: its '
          'first axis is to be that of the examples'
        )
    before, began = self.compilations, time.perf_counter()
    found = self._run(self._frozen, self.arrays, slots, labels, inputs, named)
    if self.compilations > before:  # A call returns when it is dispatched, but after compiling.
      self.compiling += time.perf_counter() - began
    return found

  def _forward(
    self, frozen: Any, arrays: Any, slots: jax.Array, labels: jax.Array, inputs: Any, named: Any
  ) -> Any:
    self.compilations += 1  # Python runs when a program is traced, not when it is executed.
    own = {path: x.at[slots].get(mode='promise_in_bounds') for path, x in arrays.items()}

    def one(own: Any, labels: jax.Array, inputs: Any, named: Any) -> Any:
      inputs, named = jax.tree.map(lambda x: x[None], (inputs, named))
      found = self._apply(frozen, tree.unflatten(own), *inputs, **named, **self._static)
      return jax.tree.map(lambda x: self._masked(x[0], labels), found)

    return jax.vmap(one)(own, labels, inputs, named)

  def _masked(self, x: jax.Array, labels: jax.Array) -> jax.Array:
    if self.num_labels is None or x.shape[-1:] != (self.num_labels,):
      return x
    outside = jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1) >= labels
    return jnp.where(outside, jnp.array(-jnp.inf, x.dtype), x)

  def _write(self, arrays: Any, values: Any, slot: jax.Array) -> Any:
    self.compilations += 1
    put = lambda array, value: jax.lax.dynamic_update_index_in_dim(array, value, slot, 0)
    return jax.tree.map(put, arrays, values)

  def _slot(self, name: str) -> int:
    if name not in self._slots:
      near = difflib.get_close_matches(str(name), self._slots, n=3, cutoff=0.5)
      hint = f'; did you mean {" or ".join(map(repr, near))}?' if near else ''
      raise ValueError(f'unknown adapter {name!r} among {len(self._slots) - 1}{hint}')
    return self._slots[name]

  def _store(self, name: str, adapter: Adapter, slot: int, other_base: bool) -> None:
    if not other_base and adapter.config is not None and hasattr(self.model, 'config'):
      try:
        check_base(adapter, self.model, self._frozen, here=self._fingerprint)
      except ValueError as error:
        raise ValueError(f'adapter {name!r}: {error}') from None
    values = fit.values(name, adapter, self._base, self.rank, self.num_labels)
    self.arrays = self._put(self.arrays, values, slot)
    self._slots[name], self._labels[name] = slot, adapter.num_labels

  @functools.cached_property
  def _fingerprint(self) -> dict[str, Any]:
    own = {path: x for path, x in self._base.items() if path.rpartition('/')[2] not in fit.FACTORS}
    return fingerprint(tree.join(self._frozen, tree.unflatten(own)), self.model.config)
