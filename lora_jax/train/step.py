"""The compiled functions of training: one or several updates, and the outputs for an evaluation.

The gradient is taken with respect to `trainable` alone; `frozen` is a constant of the loss:

    loss, grads = jax.value_and_grad(loss)(trainable, frozen, batch)
    updates, opt_state = optimizer.update(grads, opt_state, trainable)

so no dense gradient of a frozen kernel exists, and the optimizer's state is as small as
`trainable`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Sharding

from lora_jax import compilation
from lora_jax.methods.interception import intercepted
from lora_jax.models.presets import INPUTS
from lora_jax.train import dispatch, losses, mesh
from lora_jax.tree import Params

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]
Apply = Callable[..., jax.Array]  # `apply(frozen, trainable, **inputs)`, see `methods.bind`.


class TrainState(NamedTuple):
  """All that changes in training; the frozen base is no part of it.

  Attributes:
    step: number of updates made, int32.
    trainable: the trainable parameters, float32.
    opt_state: the optimizer's state.
    key: raw key data, uint32 [2]; the dropout of a step is a function of it and of the step.

  Where arrays lie, or the axes of a `vmap`, are given by a state of shardings or of axes.
  """

  step: Any
  trainable: Any
  opt_state: Any
  key: Any


Update = Callable[[TrainState, Params, Batch], tuple[TrainState, Metrics]]
Outputs = Callable[[Params, Params, Batch], dict[str, jax.Array]]
Jitted = jax.stages.Wrapped  # A function that `jax.jit` made: it can be lowered, too.


def init_state(trainable: Params, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
  """The state before the first update. The arrays are copies: a train step may donate them."""
  key = jax.random.key_data(jax.random.key(seed))
  trainable = jax.tree.map(jnp.array, trainable)
  return TrainState(jnp.zeros((), jnp.int32), trainable, optimizer.init(trainable), key)


def model_inputs(batch: Batch) -> dict[str, jax.Array]:
  """The arrays of a batch that the model is called with."""
  return {name: batch[name] for name in INPUTS if name in batch}


def count_tokens(batch: Batch) -> Metrics:
  """Numbers of examples, of tokens, and of tokens with padding, int32."""
  segments = batch['segment_ids']  # Numbered from 1 in each row.
  return {
    'examples': segments.max(-1).sum(),
    'tokens': (segments > 0).sum(),
    'padded_tokens': jnp.asarray(segments.size),
  }


def make_update(
  apply: Apply,
  optimizer: optax.GradientTransformation,
  kind: str,
  *,
  smoothing: float = 0.0,
  accumulate: int = 1,
  shardings: TrainState | None = None,
) -> Update:
  """One update, `update(state, frozen, batch) -> (state, metrics)`, not compiled.

  The metrics are `loss` (mean over the batch's label positions), `grad_norm` (global, before the
  clip) and those of `count_tokens`.

  Args:
    apply: the bound model.
    optimizer: optax transformation over `trainable`.
    kind: the task's kind, which names the loss.
    smoothing: label smoothing, in [0, 1).
    accumulate: number of parts that a batch's rows are split into, one after the other. The loss is
      normalized over the whole batch, so the update is the same.
    shardings: where the state lies on a mesh (`mesh.state_shardings`), and so the gradient; None
      leaves it to the compiler.
  """

  def loss(
    trainable: Params, frozen: Params, batch: Batch, key: jax.Array, total: jax.Array
  ) -> jax.Array:
    inputs = model_inputs(batch)
    with _rows_kept(shardings):
      logits = apply(frozen, trainable, **inputs, deterministic=False, rngs={'dropout': key})
    each = losses.per_position(kind, logits, batch['labels'], smoothing)
    return (each * batch['weights']).sum() / total

  def update(state: TrainState, frozen: Params, batch: Batch) -> tuple[TrainState, Metrics]:
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    total = jnp.maximum(batch['weights'].sum(), 1.0)
    if accumulate == 1:
      value, grads = jax.value_and_grad(loss)(state.trainable, frozen, batch, key, total)
    else:
      value, grads = _accumulated(loss, accumulate, state.trainable, frozen, batch, key, total)
    if shardings:
      grads = jax.lax.with_sharding_constraint(grads, shardings.trainable)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.trainable)
    trainable = optax.apply_updates(state.trainable, updates)
    metrics = {'loss': value, 'grad_norm': optax.tree.norm(grads), **count_tokens(batch)}
    after = TrainState(state.step + 1, trainable, opt_state, state.key)
    return (jax.lax.with_sharding_constraint(after, shardings) if shardings else after), metrics

  return update


def make_train_step(
  apply: Apply,
  optimizer: optax.GradientTransformation,
  kind: str,
  *,
  smoothing: float = 0.0,
  accumulate: int = 1,
  shardings: TrainState | None = None,
  family: str = '',
) -> Jitted:
  """A jitted `step(state, frozen, batches) -> (state, metrics)`; `state` is donated.

  `batches` has a leading axis of K batches, one update each, in one dispatch; the metrics are [K].
  Arguments are those of `make_update`; the model's family decides how it is compiled.
  """
  update = make_update(
    apply, optimizer, kind, smoothing=smoothing, accumulate=accumulate, shardings=shardings
  )

  def step(state: TrainState, frozen: Params, batches: Batch) -> tuple[TrainState, Metrics]:
    return dispatch.repeated(lambda state, batch: update(state, frozen, batch), state, batches)

  # The result's sharding is stated besides: what leaves a loop may otherwise lie elsewhere than
  # within it. The metrics are read by every process.
  out = (shardings, shardings.step) if shardings else None
  options = compilation.options(family, shardings.step if shardings else None)
  return jax.jit(step, donate_argnums=0, out_shardings=out, compiler_options=options)


def make_outputs(apply: Apply, kind: str) -> Outputs:
  """`outputs(frozen, trainable, batch)`, not compiled: loss and prediction by position, [R, E].

  The prediction is the class of the largest logit, or the value of a regression. For a language
  model there is none. The loss of a class is NaN where any logit is not finite.
  """

  def outputs_of(frozen: Params, trainable: Params, batch: Batch) -> dict[str, jax.Array]:
    logits = apply(frozen, trainable, **model_inputs(batch), deterministic=True)
    outputs = {'loss': losses.per_position(kind, logits, batch['labels'])}
    if kind == 'classification':
      outputs['loss'] = jnp.where(jnp.isfinite(logits).all(-1), outputs['loss'], jnp.nan)
      outputs['prediction'] = jnp.argmax(logits, axis=-1)
    elif kind == 'regression':
      outputs['prediction'] = logits[..., 0]
    return outputs

  return outputs_of


def make_eval_step(
  apply: Apply, kind: str, where: Sharding | None = None, family: str = ''
) -> Jitted:
  """`make_outputs`, jitted; the outputs lie at `where`, None leaves that to the compiler."""
  options = compilation.options(family, where)
  return jax.jit(make_outputs(apply, kind), out_shardings=where, compiler_options=options)


def _accumulated(
  loss: Callable[..., jax.Array],
  parts: int,
  trainable: Params,
  frozen: Params,
  batch: Batch,
  key: jax.Array,
  total: jax.Array,
) -> tuple[jax.Array, Params]:
  """Value and gradient of the loss, as sums over `parts` of the batch's rows."""

  Sums = tuple[jax.Array, Params]

  def add(sums: Sums, part_and_key: tuple[Batch, jax.Array]) -> tuple[Sums, None]:
    part, key = part_and_key
    one = jax.value_and_grad(loss)(trainable, frozen, part, key, total)
    return jax.tree.map(jnp.add, sums, one), None

  # Every parts-th row goes to a part: each device keeps the rows that it has.
  split = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), dict(batch))
  zeros = jnp.zeros(()), jax.tree.map(jnp.zeros_like, trainable)
  sums, _ = jax.lax.scan(add, zeros, (split, jax.random.split(key, parts)))
  return sums


def _rows_kept(shardings: TrainState | None) -> contextlib.AbstractContextManager[None]:
  """On a mesh, keeps activations split by the rows of the batch; see `mesh.hold_rows`."""
  return intercepted(mesh.hold_rows(shardings.step.mesh) if shardings else None)
