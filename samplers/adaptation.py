"""Warmup: a metric from windows of draws, a step size by dual averaging, an integration time.

A *group* of chains that move in lockstep shares one tuning and adapts it together; chains that run
alone are groups of one, which share their metric before the last phase and all of their tuning after
it. Everything here is pure and works inside one compiled loop; all gradients that it spends are counted.

Sources: Seyboldt, Carlson & Carpenter (2026, arXiv 2603.18845) and nutpie for the metric and the
overlapping windows; Hoffman & Gelman (2014), §3.2, for dual averaging; Stan Reference Manual, "HMC
algorithm parameters", for the schedule ``"stan"`` with its constants.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ..models.target import Density
from .base import Kernel
from .groups import over_group as over_group
from .integrators import TrajectoryLength
from .mass_matrix import Moments, estimated, initial_inverse, start_moments, update_moments
from .metrics import Metric, make_metric
from .schedules import SETTLING, Windows, overlapping_windows, stan_windows
from .step_size import DualAveraging, reasonable_step_size, start_averaging, update_averaging
from .trajectory_time import LongestScale, quarter_period, start_scale, update_scale

MIN_OBSERVATIONS = 10
"""A metric estimated from fewer positions is worse than the one before it."""
GENTLE = 0.3
"""Dual averaging's γ in the overlapping schedule. With Stan's 0.05 log ε swings by more than 1 for dozens
of steps; acceptance falls faster above the right step size than it rises below it, so that the average
of such swings is too small: acceptance comes out as 0.86–0.95 for a target of 0.8."""

METRICS = ("diagonal", "dense", "identity")
ESTIMATORS = ("auto", "fisher", "variance")
SCHEDULES = ("overlapping", "stan")


class Tuning(NamedTuple):
    """What warmup finds and sampling uses; shared by a group of chains."""

    step_size: Array
    metric: Metric
    integration_time: Array | None = None
    """How long to integrate, where a rule has looked for it; None where the configuration says it."""


@dataclass(frozen=True)
class WindowedAdaptation:
    """When and what to adapt.

    Parameters
    ----------
    num_warmup : warmup steps, divided into phases by the schedule.
    budget_fraction : of the whole budget that warmup may spend.
    target_acceptance : what dual averaging aims at.
    metric : ``"diagonal"``, ``"dense"`` or ``"identity"``.
    estimator : of the metric: ``"fisher"`` from positions and gradients, ``"variance"`` from positions
        alone; ``"auto"`` is the first where the kernel knows the gradients at its positions.
    schedule : ``"overlapping"`` windows, or ``"stan"``: Stan's windows, its restarts of the step size
        and its constants. With ``estimator="variance"`` the latter is Stan's warmup, but
        for what chains share: lockstep chains all of it, others one tuning at its end.
    step_size : a fixed step size; dual averaging is then off.
    """

    num_warmup: int = 500
    budget_fraction: float = 0.5
    target_acceptance: float = 0.8
    metric: Literal["diagonal", "dense", "identity"] = "diagonal"
    estimator: Literal["auto", "fisher", "variance"] = "auto"
    schedule: Literal["overlapping", "stan"] = "overlapping"
    step_size: float | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"metric={self.metric!r}: give 'diagonal', 'dense' or 'identity'")
        if self.estimator not in ESTIMATORS:
            raise ValueError(f"estimator={self.estimator!r}: give 'auto', 'fisher' or 'variance'")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule={self.schedule!r}: give 'overlapping' or 'stan'")
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
        return (stan_windows if self.schedule == "stan" else overlapping_windows)(self.num_warmup)

    def uses_gradients(self, kernel: Kernel) -> bool:
        """Whether the metric is estimated from gradients too.

        Raises
        ------
        ValueError
            If the Fisher estimate was asked for by name and the kernel has no gradients to offer.
        """
        if self.estimator == "fisher" and kernel.gradient is None:
            raise ValueError(
                "estimator='fisher' needs the gradient at the chain's position, which this sampler's kernel "
                "does not keep; give estimator='variance' or 'auto'"
            )
        return self.estimator != "variance" and self.metric != "identity" and kernel.gradient is not None

    def follows_scale(self, trajectory: TrajectoryLength | None) -> bool:
        """Whether warmup looks for the longest scale: by that rule, and about the mean of a window."""
        wanted = trajectory is not None and trajectory.finds == "scale"
        return wanted and self.adapts and len(self.windows.ends) > 0


class AdaptationState(NamedTuple):
    """Where a group's warmup stands."""

    tuning: Tuning
    averaging: DualAveraging
    window: Moments
    """What the metric is estimated from."""
    next_window: Moments | None
    """Of the window that follows and has begun already; None where windows do not overlap."""
    step: Array
    """The next warmup step; jumps ahead where the budget is spent faster than the steps."""
    closed: Array
    """Windows closed so far."""
    scale: LongestScale | None = None
    """Where the integration time follows the longest scale."""


def first_tuning(
    config: WindowedAdaptation, dim: int, dtype, trajectory: TrajectoryLength | None = None
) -> Tuning:
    """The identity metric, the fixed step size or 1, and a first integration time for the longest scale.

    That of a pilot is found later, and where nothing looks for one the configuration's holds.
    """
    metric = make_metric(jnp.eye(dim, dtype=dtype) if config.metric == "dense" else jnp.ones(dim, dtype))
    time = None
    if trajectory is not None and config.follows_scale(trajectory):
        time = jnp.asarray(trajectory.integration_time, dtype)
    return Tuning(jnp.asarray(1.0 if config.step_size is None else config.step_size, dtype), metric, time)


def start_adaptation(
    config: WindowedAdaptation,
    key: Array,
    density: Density,
    positions: Array,
    evaluated: tuple[Array, Array],
    uses_gradients: bool = False,
    trajectory: TrajectoryLength | None = None,
) -> tuple[AdaptationState, Array]:
    """A first metric and a first step size; returns the gradients that each chain spent.

    Parameters
    ----------
    positions : of a group, ``f[chain, dim]``
    evaluated : log densities and gradients there
    uses_gradients : see `WindowedAdaptation.uses_gradients`. The first metric is then that of
        `mass_matrix.initial_inverse`, else the identity
    trajectory : of the sampler, if its length is one
    """
    dim, dtype, dense = positions.shape[-1], positions.dtype, config.metric == "dense"
    tuning, spent = first_tuning(config, dim, dtype, trajectory), jnp.int32(0)
    if uses_gradients and config.num_warmup > 0:
        tuning = tuning._replace(metric=make_metric(initial_inverse(evaluated[1], dense)))
    if config.step_size is None:
        step_size, spent = reasonable_step_size(
            key, density, positions, tuning.step_size, tuning.metric, evaluated=evaluated
        )
        tuning = tuning._replace(step_size=step_size)
    empty = start_moments(dim, dense, dtype, uses_gradients)
    later = empty if config.windows.overlapping else None
    averaging = _start_averaging(config, tuning.step_size)
    scale = start_scale(dim, dtype) if config.follows_scale(trajectory) else None
    return AdaptationState(tuning, averaging, empty, later, jnp.int32(0), jnp.int32(0), scale), spent


def adapt(
    config: WindowedAdaptation,
    key: Array,
    density: Density,
    state: AdaptationState,
    positions: Array,
    gradients: Array | None,
    acceptance: Array,
    progress: Array,
    unit_time: float = math.pi / 2,
) -> tuple[AdaptationState, Array]:
    """Learn from one step of a group.

    Parameters
    ----------
    positions : where the chains are now, ``f[chain, dim]``
    gradients : of the log density there, where the metric uses them
    acceptance : of the step, ``f[chain]``
    progress : the part of the warmup's budget that is spent. The step is never behind it: where steps
        are costly, the phases are as long in gradients as they would have been in steps, and the last
        one, in which the step size settles, has the last `SETTLING` of the budget.
    unit_time : the integration time for a longest scale of 1, where the time follows that

    Returns
    -------
    the state after the step, gradients spent by each chain
    """
    windows = config.windows
    step, closed = state.step, state.closed
    if config.step_size is None:
        averaging = update_averaging(
            state.averaging, jnp.mean(acceptance), config.target_acceptance, **_constants(config)
        )
        tuning = state.tuning._replace(step_size=jnp.exp(averaging.log_step_size))
        state = state._replace(tuning=tuning, averaging=averaging)

    due = jnp.minimum(progress / (1.0 - SETTLING), 1.0) * windows.final_start
    next_step = jnp.maximum(due.astype(step.dtype), step + 1)
    spent = jnp.int32(0)
    adapts_metric = config.metric != "identity"
    if len(windows.ends) and (adapts_metric or state.scale is not None):
        # A metric that stays needs no window, but the longest scale needs a mean.
        since = windows.slow_start if adapts_metric else windows.last_start
        slow = (step >= since) & (closed < len(windows.ends))
        state = jax.lax.cond(slow, _observe, lambda s, *_: s, state, positions, gradients)
    if len(windows.ends) and adapts_metric:
        ended = jnp.sum(next_step >= jnp.asarray(windows.ends, step.dtype)).astype(closed.dtype)
        state, spent = jax.lax.cond(
            (ended > closed) & (state.window.positions.observations >= MIN_OBSERVATIONS),
            lambda: _close_window(config, key, density, state, positions, ended),
            lambda: (state, jnp.int32(0)),
        )
    if state.scale is not None:
        # The window's mean serves the last phase too, in which the window stands still.
        window = state.window.positions
        deviations = positions - window.mean
        scale = update_scale(state.scale, state.tuning.metric, deviations)
        begun = (step >= windows.last_start) & (window.observations > 0)
        scale = jax.tree.map(lambda new, old: jnp.where(begun, new, old), scale, state.scale)
        tuning = state.tuning._replace(integration_time=quarter_period(scale, unit_time))
        state = state._replace(scale=scale, tuning=tuning)
    return state._replace(step=next_step), spent


def _observe(state: AdaptationState, positions: Array, gradients: Array | None) -> AdaptationState:
    later = state.next_window
    return state._replace(
        window=update_moments(state.window, positions, gradients),
        next_window=later and update_moments(later, positions, gradients),
    )


def _close_window(
    config: WindowedAdaptation,
    key: Array,
    density: Density,
    state: AdaptationState,
    positions: Array,
    ended: Array,
) -> tuple[AdaptationState, Array]:
    """Set the metric, find a step size for it, go on with the next window."""
    tuning = state.tuning._replace(metric=_renewed(state))
    averaging, spent = state.averaging, jnp.int32(0)
    if config.step_size is None:
        step_size, spent = reasonable_step_size(key, density, positions, tuning.step_size, tuning.metric)
        tuning, averaging = tuning._replace(step_size=step_size), _start_averaging(config, step_size)
    empty = jax.tree.map(jnp.zeros_like, state.window)
    if (window := state.next_window) is None:
        # The last one stays: its mean serves the last phase.
        last = ended >= len(config.windows.ends)
        empty = jax.tree.map(lambda old, new: jnp.where(last, old, new), state.window, empty)
        return AdaptationState(tuning, averaging, empty, None, state.step, ended, state.scale), spent
    # A successor with too few positions waits for more, and the old window serves on.
    succeeds = window.positions.observations >= MIN_OBSERVATIONS
    window, later = jax.tree.map(
        lambda new, old: jnp.where(succeeds, new, old), (window, empty), (state.window, window)
    )
    return AdaptationState(tuning, averaging, window, later, state.step, ended, state.scale), spent


def _renewed(state: AdaptationState) -> Metric:
    """The metric that the window says, or the old one.

    A covariance that overflows or that rounding leaves indefinite has no finite factor: every momentum
    would be NaN for the rest of the run.
    """
    old = state.tuning.metric
    metric = make_metric(estimated(state.window, old.inverse_mass_matrix))
    usable = jnp.all(jnp.isfinite(metric.factor))
    return jax.tree.map(lambda a, b: jnp.where(usable, a, b), metric, old)


def _start_averaging(config: WindowedAdaptation, step_size: Array) -> DualAveraging:
    return start_averaging(step_size, center=10.0 if config.schedule == "stan" else 1.0)


def _constants(config: WindowedAdaptation) -> dict[str, float]:
    return {} if config.schedule == "stan" else {"gamma": GENTLE}


def settle(config: WindowedAdaptation, states: Sequence[AdaptationState]) -> list[AdaptationState]:
    """Where all groups stand at the beginning of the last phase: with one metric and one step size.

    So each finds its step size for the metric that all will sample with. In Stan's schedule groups
    remain on their own.
    """
    if config.schedule == "stan":
        return list(states)
    shared = shared_tuning([finish_adaptation(config, state) for state in states])
    averaging = _start_averaging(config, shared.step_size)
    return [state._replace(tuning=shared, averaging=averaging) for state in states]


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
    times = [t.integration_time for t in tunings if t.integration_time is not None]
    return Tuning(step_size, make_metric(inverse), jnp.median(jnp.stack(times)) if times else None)
