"""The compiled functions of training: one or several updates, and the outputs for evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from lora_jax.train import losses, mesh
from lora_jax.train.state import TrainState

Batch = Mapping[str, jax.Array]
INPUTS = ('input_ids', 'segment_ids', 'position_ids', 'token_type_ids', 'prediction_positions')


def model_inputs(batch: Batch) -> dict[str, jax.Array]:
  """What of a batch goes into the model."""
  return {name: batch[name] for name in INPUTS if name in batch}


def counts(batch: Batch) -> dict[str, jax.Array]:
  """Numbers of examples, of tokens without padding, and of slots: tokens with padding, int32."""
  segments = batch['segment_ids']  # Numbered from 1 in each row.
  return {
    'examples': segments.max(-1).sum(),
    'tokens': (segments > 0).sum(),
    'slots': jnp.asarray(segments.size),
  }


Update = Callable[[TrainState, Any, Batch], tuple[TrainState, dict[str, jax.Array]]]


def make_update(
  apply: Callable[..., jax.Array],
  optimizer: optax.GradientTransformation,
  kind: str,
  *,
  smoothing: float = 0.0,
  accumulate: int = 1,
  shardings: TrainState | None = None,
) -> Update:
  """One update, `update(state, frozen, batch) -> (state, metrics)`, not compiled.

  The metrics are `loss` (mean over the batch's read-outs), `grad_norm` (global, before the clip)
  and those of `counts`.

  The gradient is taken in `trainable` alone, so no dense gradient of a frozen kernel exists.

  Args:
    apply: `apply(frozen, trainable, **inputs)`, see `methods.bind`.
    optimizer: optax transformation over `trainable`.
    kind: the task's kind, which names the loss.
    smoothing: label smoothing.
    accumulate: number of parts that a batch's rows are split into, one after the other. The loss is
      normalised over the whole batch, so the update is the same.
    shardings: where the state lies on a mesh (`mesh.state_shardings`), and so the gradient; None
      leaves it to the compiler.
  """

  rows = contextlib.nullcontext
  if shardings:
    rows = lambda: nn.intercept_methods(mesh.hold_rows(shardings.step.mesh))

  def held(values: Any, where: Any) -> Any:
    return jax.lax.with_sharding_constraint(values, where) if shardings else values

  def gradient(state: TrainState, frozen: Any, batch: Batch) -> tuple[jax.Array, Any]:
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    total = jnp.maximum(batch['weights'].sum(), 1.0)

    def loss(trainable: Any, part: Batch, key: jax.Array) -> jax.Array:
      rngs = {'dropout': key}
      with rows():
        logits = apply(frozen, trainable, **model_inputs(part), deterministic=False, rngs=rngs)
      each = losses.per_position(kind, logits, part['labels'], smoothing)
      return (each * part['weights']).sum() / total

    if accumulate == 1:
      return jax.value_and_grad(loss)(state.trainable, batch, key)

    def add(sums: Any, part_and_key: tuple[Batch, jax.Array]) -> tuple[Any, None]:
      one = jax.value_and_grad(loss)(state.trainable, *part_and_key)
      return jax.tree.map(jnp.add, sums, one), None

    # Every accumulate-th row to a part: each device keeps the rows that it has.
    parts = jax.tree.map(
      lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), dict(batch)
    )
    zeros = jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.trainable)
    sums, _ = jax.lax.scan(add, zeros, (parts, jax.random.split(key, accumulate)))
    return sums

  def update(state: TrainState, frozen: Any, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
    loss, grads = gradient(state, frozen, batch)
    grads = held(grads, shardings and shardings.trainable)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.trainable)
    trainable = optax.apply_updates(state.trainable, updates)
    metrics = {'loss': loss, 'grad_norm': optax.tree.norm(grads), **counts(batch)}
    after = TrainState(state.step + 1, trainable, opt_state, state.key)
    return held(after, shardings), metrics

  return update


def make_train_step(
  apply: Callable[..., jax.Array],
  optimizer: optax.GradientTransformation,
  kind: str,
  *,
  smoothing: float = 0.0,
  accumulate: int = 1,
  shardings: TrainState | None = None,
) -> Update:
  """A jitted `step(state, frozen, batches) -> (state, metrics)`; `state` is donated.

  `batches` has a leading axis of K batches, one update each, in one dispatch; the metrics are [K].
  Arguments are those of `make_update`.
  """
  update = make_update(
    apply, optimizer, kind, smoothing=smoothing, accumulate=accumulate, shardings=shardings
  )

  def step(state: TrainState, frozen: Any, batches: Batch) -> tuple[TrainState, dict[str, Any]]:
    return jax.lax.scan(lambda state, batch: update(state, frozen, batch), state, dict(batches))

  # Stated besides: what leaves a loop may otherwise lie elsewhere than within it. The metrics are
  # read by every process.
  out = (shardings, shardings.step) if shardings else None
  return jax.jit(step, donate_argnums=0, out_shardings=out)


def make_outputs(
  apply: Callable[..., jax.Array], kind: str
) -> Callable[[Any, Any, Batch], dict[str, jax.Array]]:
  """`outputs(frozen, trainable, batch)`, not compiled: each read-out's loss and prediction, [R, E].

  The prediction is the class of the largest logit, or the value of a regression. For a language
  model there is none: the vocabulary's argmax is of no use to its evaluation.
  """

  def outputs_of(frozen: Any, trainable: Any, batch: Batch) -> dict[str, jax.Array]:
    logits = apply(frozen, trainable, **model_inputs(batch), deterministic=True)
    outputs = {'loss': losses.per_position(kind, logits, batch['labels'])}
    if kind == 'classification':
      outputs['prediction'] = jnp.argmax(logits, axis=-1)
    elif kind == 'regression':
      outputs['prediction'] = logits[..., 0]
    return outputs

  return outputs_of


def make_eval_step(
  apply: Callable[..., jax.Array], kind: str, where: jax.sharding.Sharding | None = None
) -> Callable[[Any, Any, Batch], dict[str, jax.Array]]:
  """`make_outputs`, jitted; the outputs lie at `where`, None leaves that to the compiler."""
  return jax.jit(make_outputs(apply, kind), out_shardings=where)
