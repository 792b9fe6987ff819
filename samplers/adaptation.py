"""Stan's windowed warmup: dual averaging for the step size, Welford for the metric.

A *group* of chains that move in lockstep shares one tuning and adapts it together; a chain that
runs alone is a group of one, and its warmup is Stan's. Everything here is pure and works inside
one compiled loop; all gradients that it spends are counted.

Sources: Hoffman & Gelman (2014), §3.2, for dual averaging and the first step size; Stan Reference
Manual, "HMC algorithm parameters", for the windows, the constants and the regularization.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..models.target import Density
from .integrators import PhasePoint, leapfrog, log_joint
from .metrics import Metric, make_metric, sample_momentum

SETTLING = 0.15
"""Part of a scarce warmup budget that is kept for the step size after the last window."""
MIN_OBSERVATIONS = 10
"""A metric estimated from fewer positions is worse than the one before it."""


class Tuning(NamedTuple):
    """What warmup finds and sampling uses; shared by a group of chains."""

    step_size: Array
    metric: Metric


class DualAveraging(NamedTuple):
    """Nesterov's dual averaging on log ε (Hoffman & Gelman 2014, eq. 6)."""

    log_step_size: Array
    log_averaged: Array
    error_sum: Array
    updates: Array
    center: Array


def start_averaging(step_size: Array) -> DualAveraging:
    """Restart around ten times ``step_size``: larger steps are cheaper to rule out."""
    zero = jnp.zeros_like(step_size)
    log_step = jnp.log(step_size)
    return DualAveraging(log_step, zero, zero, zero, jnp.log(10.0) + log_step)


def update_averaging(
    state: DualAveraging,
    acceptance: Array,
    target: float,
    *,
    gamma: float = 0.05,
    t0: float = 10.0,
    kappa: float = 0.75,
) -> DualAveraging:
    """One observation of the acceptance; the constants are Stan's."""
    updates = state.updates + 1.0
    eta = 1.0 / (updates + t0)
    error_sum = (1.0 - eta) * state.error_sum + eta * (target - acceptance)
    log_step_size = state.center - error_sum * jnp.sqrt(updates) / gamma
    weight = updates**-kappa
    log_averaged = weight * log_step_size + (1.0 - weight) * state.log_averaged
    return DualAveraging(log_step_size, log_averaged, error_sum, updates, state.center)


class Welford(NamedTuple):
    """Running mean and sum of squared deviations (Welford 1962)."""

    mean: Array
    deviations: Array
    """``f[dim]``, or ``f[dim, dim]`` for a dense metric."""
    observations: Array


def start_welford(dim: int, dense: bool, dtype) -> Welford:
    """No observation yet."""
    shape = (dim, dim) if dense else (dim,)
    return Welford(jnp.zeros(dim, dtype), jnp.zeros(shape, dtype), jnp.zeros((), dtype))


def update_welford(state: Welford, positions: Array) -> Welford:
    """Take in a group's positions, ``f[chain, dim]``, one after the other."""

    def one(state: Welford, x: Array) -> tuple[Welford, None]:
        n = state.observations + 1.0
        before = x - state.mean
        mean = state.mean + before / n
        after = x - mean
        product = jnp.outer(after, before) if state.deviations.ndim == 2 else after * before
        return Welford(mean, state.deviations + product, n), None

    return jax.lax.scan(one, state, positions)[0]


def regularized_variance(state: Welford) -> Array:
    """The sample (co)variance shrunk towards 10⁻³ I, with the weight of five observations."""
    n = state.observations
    shrunk = (n / (n + 5.0)) * state.deviations / jnp.maximum(n - 1.0, 1.0)
    floor = 1e-3 * 5.0 / (n + 5.0)
    return shrunk + floor * (jnp.eye(len(shrunk)) if shrunk.ndim == 2 else 1.0)


def reasonable_step_size(
    key: Array,
    density: Density,
    positions: Array,
    tuning: Tuning,
    target: float = 0.8,
    evaluated: tuple[Array, Array] | None = None,
) -> tuple[Array, Array]:
    """Double or halve the step until a leapfrog step's mean acceptance crosses ``target``.

    Hoffman & Gelman (2014), algorithm 4, with Stan's threshold.

    Parameters
    ----------
    positions : of a group, ``f[chain, dim]``
    evaluated : log densities and gradients there, where they are known already

    Returns
    -------
    step size ``f[]``, gradients spent by each chain ``i[]``
    """
    chains = positions.shape[0]
    log_densities, gradients = evaluated or over_group(density.value_and_grad)(positions)

    def acceptance(key: Array, step_size: Array) -> Array:
        def one(key: Array, position: Array, log_density: Array, gradient: Array) -> Array:
            momentum = sample_momentum(key, tuning.metric)
            start = PhasePoint(position, momentum, log_density, gradient)
            end = leapfrog(density, tuning.metric, start, step_size)
            change = log_joint(tuning.metric, end) - log_joint(tuning.metric, start)
            return jnp.exp(jnp.minimum(0.0, change))

        keys = jax.random.split(key, chains)
        return jnp.mean(over_group(one)(keys, positions, log_densities, gradients))

    def unfinished(carry: tuple[Array, Array, Array, Array]) -> Array:
        step_size, _, crossed, trials = carry
        return ~crossed & (trials < 100) & jnp.isfinite(step_size) & (step_size > 0)

    def trial(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        step_size, direction, _, trials = carry
        above = acceptance(jax.random.fold_in(key, trials), step_size) > target
        wanted = jnp.where(above, 1, -1)
        direction = jnp.where(trials == 0, wanted, direction)
        crossed = wanted != direction
        factor = jnp.where(crossed, 1.0, jnp.where(direction > 0, 2.0, 0.5))
        return step_size * factor, direction, crossed, trials + 1

    start = (tuning.step_size, jnp.int32(0), jnp.bool_(False), jnp.int32(0))
    step_size, _, crossed, trials = jax.lax.while_loop(unfinished, trial, start)
    return jnp.where(crossed, step_size, tuning.step_size), trials + (0 if evaluated else 1)


def over_group(function):
    """``vmap``, except that a group of one runs unbatched.

    Under ``vmap`` a conditional becomes a selection and both of its branches are executed; a chain
    that runs alone must not pay for that.
    """

    def call(*args):
        size = jax.tree.leaves(args)[0].shape[0]
        if size > 1:
            return jax.vmap(function)(*args)
        out = function(*jax.tree.map(lambda leaf: leaf[0], args))
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], out)

    return call


@dataclass(frozen=True)
class WindowedAdaptation:
    """When and what to adapt.

    Parameters
    ----------
    num_warmup : warmup steps, divided into Stan's initial, slow and final phases.
    budget_fraction : of the whole budget that warmup may spend.
    target_acceptance : what dual averaging aims at.
    metric : ``"diagonal"``, ``"dense"`` or ``"identity"``.
    step_size : a fixed step size; dual averaging is then off.
    """

    num_warmup: int = 1000
    budget_fraction: float = 0.5
    target_acceptance: float = 0.8
    metric: Literal["diagonal", "dense", "identity"] = "diagonal"
    step_size: float | None = None

    def __post_init__(self) -> None:
        if self.metric not in ("diagonal", "dense", "identity"):
            raise ValueError(f"metric={self.metric!r}: give 'diagonal', 'dense' or 'identity'")
        if not 0 < self.target_acceptance < 1:
            raise ValueError(f"target_acceptance={self.target_acceptance}: give a value in (0, 1)")
        if not 0 < self.budget_fraction < 1:
            raise ValueError(f"budget_fraction={self.budget_fraction}: give a value in (0, 1)")
        if self.step_size is not None and not self.step_size > 0:
            raise ValueError(f"step_size={self.step_size}: give a positive value")
        if self.num_warmup < 0:
            raise ValueError(f"num_warmup={self.num_warmup}: give 0 or more")

    @property
    def adapts(self) -> bool:
        """Whether there is anything to find."""
        return self.num_warmup > 0 and not (self.metric == "identity" and self.step_size is not None)

    @property
    def windows(self) -> Windows:
        return stan_windows(self.num_warmup)


class Windows(NamedTuple):
    """Stan's phases, in warmup steps."""

    slow_start: int
    """First step whose position is used for the metric."""
    ends: np.ndarray
    """``i[window]``: where each window of the slow phase ends. The metric is set and the step size
    starts anew; after the last one only the step size adapts."""

    @property
    def final_start(self) -> int:
        """First step of the last phase."""
        return int(self.ends[-1]) if len(self.ends) else 0


def stan_windows(num_warmup: int) -> Windows:
    """75 steps, then windows of 25, 50, 100, … with the last stretched, then 50 steps.

    Fewer than 150 steps are divided as 15 %, 75 %, 10 %; fewer than 20 adapt only the step size.
    """
    if num_warmup < 20:
        return Windows(num_warmup, np.zeros(0, int))
    if num_warmup >= 150:
        start, size, last = 75, 25, num_warmup - 50
    else:
        start, last = int(0.15 * num_warmup), num_warmup - int(0.1 * num_warmup)
        size = last - start
    ends = [start + size]
    while ends[-1] < last:
        # A window that leaves no room for a next one of twice its size takes all that is left.
        size *= 2
        ends.append(ends[-1] + size if ends[-1] + 3 * size <= last else last)
    return Windows(start, np.array(ends))


class AdaptationState(NamedTuple):
    """Where a group's warmup stands."""

    tuning: Tuning
    averaging: DualAveraging
    welford: Welford
    step: Array
    """The next warmup step; jumps ahead where the budget is spent faster than the steps."""
    closed: Array
    """Windows closed so far."""


def start_adaptation(
    config: WindowedAdaptation,
    key: Array,
    density: Density,
    positions: Array,
    evaluated: tuple[Array, Array] | None = None,
) -> tuple[AdaptationState, Array]:
    """Identity metric and a first step size; returns the gradients that each chain spent.

    ``evaluated`` is as in `reasonable_step_size`.
    """
    dim, dtype = positions.shape[-1], positions.dtype
    dense = config.metric == "dense"
    metric = make_metric(jnp.eye(dim, dtype=dtype) if dense else jnp.ones(dim, dtype))
    first = jnp.asarray(1.0 if config.step_size is None else config.step_size, dtype)
    tuning = Tuning(first, metric)
    spent = jnp.int32(0)
    if config.step_size is None:
        step_size, spent = reasonable_step_size(key, density, positions, tuning, evaluated=evaluated)
        tuning = tuning._replace(step_size=step_size)
    welford = start_welford(dim, dense, dtype)
    averaging = start_averaging(tuning.step_size)
    return AdaptationState(tuning, averaging, welford, jnp.int32(0), jnp.int32(0)), spent


def adapt(
    config: WindowedAdaptation,
    key: Array,
    density: Density,
    state: AdaptationState,
    positions: Array,
    acceptance: Array,
    progress: Array,
) -> tuple[AdaptationState, Array]:
    """Learn from one step of a group.

    Parameters
    ----------
    positions : where the chains are now, ``f[chain, dim]``
    acceptance : of the step, ``f[chain]``
    progress : the part of the warmup's budget that is spent. The step is never behind it: where steps
        are costly, the phases are as long in gradients as they would have been in steps, and the last
        one, in which the step size settles, has the last `SETTLING` of the budget.

    Returns
    -------
    the state after the step, gradients spent by each chain
    """
    windows = config.windows
    tuning, averaging, welford, step, closed = state
    adapts_step, adapts_metric = config.step_size is None, config.metric != "identity"

    if adapts_step:
        averaging = update_averaging(averaging, jnp.mean(acceptance), config.target_acceptance)
        tuning = tuning._replace(step_size=jnp.exp(averaging.log_step_size))
    slow = (step >= windows.slow_start) & (closed < len(windows.ends))
    if adapts_metric:
        welford = jax.lax.cond(slow, update_welford, lambda w, _: w, welford, positions)

    due = jnp.minimum(progress / (1.0 - SETTLING), 1.0) * windows.final_start
    next_step = jnp.maximum(due.astype(step.dtype), step + 1)
    ended = jnp.sum(next_step >= jnp.asarray(windows.ends, step.dtype)).astype(closed.dtype)
    closes = (ended > closed) & (welford.observations >= MIN_OBSERVATIONS)

    def close_window() -> tuple[Tuning, DualAveraging, Welford, Array]:
        fresh = start_welford(welford.mean.shape[0], config.metric == "dense", welford.mean.dtype)
        metric = make_metric(regularized_variance(welford))
        # A covariance that overflows or that rounding leaves indefinite has no finite factor: every
        # momentum would be NaN for the rest of the run.
        usable = jnp.all(jnp.isfinite(metric.factor))
        metric = jax.tree.map(lambda new, old: jnp.where(usable, new, old), metric, tuning.metric)
        renewed = tuning._replace(metric=metric)
        if not adapts_step:
            return renewed, averaging, fresh, jnp.int32(0)
        step_size, spent = reasonable_step_size(key, density, positions, renewed)
        renewed = renewed._replace(step_size=step_size)
        return renewed, start_averaging(step_size), fresh, spent

    spent = jnp.int32(0)
    if adapts_metric:
        tuning, averaging, welford, spent = jax.lax.cond(
            closes, close_window, lambda: (tuning, averaging, welford, spent)
        )
    closed = jnp.where(closes, ended, closed)
    return AdaptationState(tuning, averaging, welford, next_step, closed), spent


def finish_adaptation(config: WindowedAdaptation, state: AdaptationState) -> Tuning:
    """The tuning to sample with: the averaged step size, if any was averaged."""
    if config.step_size is not None:
        return state.tuning
    averaged = jnp.exp(state.averaging.log_averaged)
    step_size = jnp.where(state.averaging.updates > 0, averaged, state.tuning.step_size)
    return state.tuning._replace(step_size=step_size)


def shared_tuning(tunings: Sequence[Tuning]) -> Tuning:
    """One tuning for chains that adapted on their own.

    The median of the step sizes and of the variances, which one chain that went astray cannot
    spoil; of dense metrics the mean, since a median of matrices need not be positive definite.
    """
    step_size = jnp.median(jnp.stack([t.step_size for t in tunings]))
    inverses = jnp.stack([t.metric.inverse_mass_matrix for t in tunings])
    inverse = jnp.mean(inverses, axis=0) if inverses.ndim == 3 else jnp.median(inverses, axis=0)
    return Tuning(step_size, make_metric(inverse))
