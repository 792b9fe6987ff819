"""Delayed-rejection Hamiltonian Monte Carlo.

Modi, Barnett & Carpenter, "Delayed rejection Hamiltonian Monte Carlo for sampling multiscale
distributions", Bayesian Analysis 2023 (arXiv 2110.00610); the general acceptance probability is
that of Tierney & Mira (1999) and Green & Mira (2001) for deterministic involutions.

Notation of this file: F_k is the k-th stage's trajectory followed by a momentum flip (an
involution that preserves volume), π the joint density of position and momentum, α_k(x) the
probability of accepting F_k(x) once stages 1 … k−1 have been rejected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ..models.target import Density
from .adaptation import Tuning, WindowedAdaptation
from .base import Cost, Info, Kernel
from .driver import run_kernel
from .hmc import HMCState, init, log_uniform, moved, refresh
from .integrators import (
    DIVERGENCE_THRESHOLD,
    PhasePoint,
    TrajectoryLength,
    flip,
    log_joint,
    trajectory,
)

type Propose = Callable[[int, PhasePoint], tuple[PhasePoint, Array]]
"""``(stage, x) -> (F_stage(x), gradients spent)``, stages from 0."""


class Attempt(NamedTuple):
    """One stage tried from one phase point."""

    proposal: PhasePoint
    log_acceptance: Array
    """log α_k(x), in [−inf, 0]."""
    gradients: Array
    """Spent on the proposal and on its ghosts."""


def log1mexp(a: Array) -> Array:
    """log(1 − eᵃ) for a ≤ 0 without cancellation; −inf at 0 (Mächler 2012)."""
    safe = jnp.minimum(a, -jnp.finfo(a.dtype).tiny)
    value = jnp.where(safe > -jnp.log(2.0), jnp.log(-jnp.expm1(safe)), jnp.log1p(-jnp.exp(safe)))
    return jnp.where(a >= 0, -jnp.inf, value)


def attempt(
    stage: int,
    start: PhasePoint,
    log_rejections: list[Array],
    propose: Propose,
    log_joint: Callable[[PhasePoint], Array],
    power: float,
) -> Attempt:
    """Propose F_k(x) and compute log α_k(x).

    With y = F_k(x),

        α_k(x) = 1 ∧ π(y)/π(x) · ∏_{j<k} [(1 − α_j(y)) / (1 − α_j(x))]^power

    The α_j(y) belong to ghosts: stages tried from the proposal, by this same function. A proposal
    of zero density and a proposal with a ghost that would surely be accepted have α_k = 0, and no
    further gradient is spent on them; a ghost of zero density has α = 0 itself.

    Parameters
    ----------
    stage : from 0
    log_rejections : log(1 − α_j(x)), one per earlier stage, all finite
    power : 1 where a rejected stage is always followed by the next, 2 where it is followed with
        probability 1 − α_j (which then enters the balance a second time)
    """
    proposal, gradients = propose(stage, start)
    numerator, denominator = log_joint(proposal), log_joint(start)
    possible, zero = numerator > -jnp.inf, jnp.zeros_like(denominator)

    ghost_rejections: list[Array] = []
    for ghost in range(stage):

        def rejection(ghost: int = ghost) -> tuple[Array, Array]:
            tried = attempt(ghost, proposal, ghost_rejections, propose, log_joint, power)
            return log1mexp(tried.log_acceptance), tried.gradients

        # Impossible already: a placeholder of 0, so that nothing later subtracts infinities.
        log_rejection, spent = jax.lax.cond(possible, rejection, lambda: (zero, jnp.int32(0)))
        possible &= log_rejection > -jnp.inf
        ghost_rejections.append(jnp.where(possible, log_rejection, 0.0))
        gradients += spent

    correction = sum(
        (y - x for y, x in zip(ghost_rejections, log_rejections, strict=True)),
        start=zero,
    )
    log_ratio = jnp.where(possible, numerator, denominator) - denominator + power * correction
    log_acceptance = jnp.where(possible, jnp.minimum(0.0, log_ratio), -jnp.inf)
    return Attempt(proposal, log_acceptance, gradients)


@dataclass(frozen=True)
class DelayedRejectionHMC:
    """HMC that answers a rejection with another, finer trajectory from the same phase point.

    Stage k integrates with step ε/a^(k−1), from the same position and momentum.

    Parameters
    ----------
    stages : K ≥ 1; 1 is plain HMC.
    reduction : a > 1, by which the step shrinks from stage to stage.
    length : ``"time"`` keeps the integration time, N·a^(k−1) steps at stage k, as in the paper's
        experiments; ``"steps"`` keeps the number of steps, N at every stage, which makes a retry far
        cheaper and is the default.
    retry : ``"always"`` tries the next stage after every rejection; ``"probabilistic"`` with
        probability 1 − α_k, which spends less where stage k nearly succeeded.
    trajectory : how far the first stage integrates; gives N.
    adaptation : how the step size and the metric are found; aims at the first stage's acceptance.
    """

    stages: int = 3
    reduction: float = 5.0
    length: Literal["time", "steps"] = "steps"
    retry: Literal["always", "probabilistic"] = "probabilistic"
    trajectory: TrajectoryLength = field(default_factory=TrajectoryLength)
    adaptation: WindowedAdaptation = field(default_factory=WindowedAdaptation)

    layout: ClassVar[str] = "independent"
    run = run_kernel

    def __post_init__(self) -> None:
        if self.stages < 1:
            raise ValueError(f"stages={self.stages}: at least one stage is needed")
        if not self.reduction > 1:
            raise ValueError(f"reduction={self.reduction}: the step must shrink, give more than 1")
        if self.length not in ("time", "steps"):
            raise ValueError(f"length={self.length!r}: give 'time' or 'steps'")
        if self.retry not in ("always", "probabilistic"):
            raise ValueError(f"retry={self.retry!r}: give 'always' or 'probabilistic'")

    @property
    def power(self) -> float:
        """How often a rejection enters the balance: once by itself, once more if the retry is a draw."""
        return 1.0 if self.retry == "always" else 2.0

    def stage_steps(self, stage: int, first: Array) -> Array:
        """Leapfrog steps of a stage (from 0) whose first stage has ``first``; never from a time."""
        if self.length == "steps":
            return first
        return jnp.round(first * self.reduction**stage).astype(first.dtype)

    def kernel(self, density: Density, tuning: Tuning) -> Kernel:
        """Up to K proposals a step, each with its ghosts; all their gradients are counted."""

        def joint(point: PhasePoint) -> Array:
            return log_joint(tuning.metric, point)

        def step(key: Array, state: HMCState) -> tuple[HMCState, Info]:
            key_momentum, key_accept, key_retry = _keys(key)
            start = refresh(key_momentum, state, tuning)
            first = self.trajectory.steps(state.iteration, tuning.step_size)

            def propose(stage: int, point: PhasePoint) -> tuple[PhasePoint, Array]:
                steps = self.stage_steps(stage, first)
                step_size = tuning.step_size / self.reduction**stage
                return flip(trajectory(density, tuning.metric, point, step_size, steps)), steps

            outcome = _untried(start)
            log_rejections: list[Array] = []
            acceptances: list[Array] = []
            for stage in range(self.stages):
                tried = jax.lax.cond(
                    outcome.trying,
                    lambda k=stage: attempt(k, start, log_rejections, propose, joint, self.power),
                    lambda: _nothing(start),
                )
                # A stage that was rejected has α < 1, hence a finite log(1 − α).
                log_rejection = log1mexp(tried.log_acceptance)
                accepted = log_uniform(key_accept, stage) <= tried.log_acceptance
                retried = log_uniform(key_retry, stage) <= log_rejection
                again = ~accepted & (retried if self.retry == "probabilistic" else True)
                diverged = joint(start) - joint(tried.proposal) > DIVERGENCE_THRESHOLD
                outcome = _judge(outcome, tried, stage, accepted, diverged, again)
                log_rejections.append(jnp.where(outcome.trying, log_rejection, 0.0))
                acceptances.append(jnp.exp(tried.log_acceptance))

            info = Info(
                cost=Cost(gradients=outcome.gradients),
                acceptance=acceptances[0],
                divergent=outcome.diverged & (outcome.accepted_stage == 0),
                extra={
                    "energy": -joint(outcome.chosen),
                    "num_integration_steps": first,
                    "accepted_stage": outcome.accepted_stage,
                    "tried_stages": outcome.tried_stages,
                },
            )
            return moved(state, outcome.chosen), info

        return Kernel(
            init=lambda key, position: init(density, position),
            step=step,
            position=lambda state: state.position,
        )


class _Outcome(NamedTuple):
    """What the stages so far have come to."""

    chosen: PhasePoint
    accepted_stage: Array
    """From 1; 0 while nothing has been accepted."""
    tried_stages: Array
    gradients: Array
    diverged: Array
    """Whether the last stage tried lost the energy."""
    trying: Array


def _untried(start: PhasePoint) -> _Outcome:
    return _Outcome(start, jnp.int32(0), jnp.int32(0), jnp.int32(0), jnp.bool_(False), jnp.bool_(True))


def _nothing(start: PhasePoint) -> Attempt:
    return Attempt(start, jnp.full_like(start.log_density, -jnp.inf), jnp.int32(0))


def _judge(
    outcome: _Outcome, tried: Attempt, stage: int, accepted: Array, diverged: Array, again: Array
) -> _Outcome:
    """The outcome after one more stage; unchanged where the trying had already ended."""
    trying = outcome.trying
    take = trying & accepted
    return _Outcome(
        chosen=jax.tree.map(lambda new, old: jnp.where(take, new, old), tried.proposal, outcome.chosen),
        accepted_stage=jnp.where(take, stage + 1, outcome.accepted_stage),
        tried_stages=outcome.tried_stages + trying,
        gradients=outcome.gradients + tried.gradients * trying,
        diverged=jnp.where(trying, diverged, outcome.diverged),
        trying=trying & again,
    )


def _keys(key: Array) -> tuple[Array, Array, Array]:
    # The first two are those of HMC, so that one stage is HMC draw for draw.
    momentum, accept = jax.random.split(key)
    return momentum, accept, jax.random.fold_in(accept, 1 << 16)
