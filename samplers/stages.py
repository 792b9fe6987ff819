"""Delayed rejection: proposals, their ghosts, and the loop over the stages.

Tierney & Mira (1999) and Green & Mira (2001), for deterministic involutions as in Modi, Barnett &
Carpenter, "Delayed rejection Hamiltonian Monte Carlo for sampling multiscale distributions",
Bayesian Analysis 2023 (arXiv 2110.00610).

Notation of this file: F_k is the k-th stage's trajectory followed by a momentum flip (an
involution that preserves volume), π the joint density of position and momentum, α_k(x) the
probability of accepting F_k(x) once stages 1 … k−1 have been rejected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ..models.target import Density
from .adaptation import Tuning
from .integrators import DIVERGENCE_THRESHOLD, PhasePoint, flip, trajectory

type Propose = Callable[[int, PhasePoint, Array], tuple[PhasePoint, Array]]
"""``(stage, x, wanted) -> (F_stage(x), gradients spent)``, stages from 0.

Where ``wanted`` is False no gradient is spent and the point means nothing: under ``vmap`` both
branches of a conditional are executed, and a chain must not pay for the other one.
"""


@dataclass(frozen=True)
class StageSettings:
    """The stages of a delayed-rejection sampler.

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
    """

    stages: int = 3
    reduction: float = 5.0
    length: Literal["time", "steps"] = "steps"
    retry: Literal["always", "probabilistic"] = "probabilistic"

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


def flipped_trajectories(density: Density, tuning: Tuning, settings: StageSettings, first: Array) -> Propose:
    """F_k as leapfrog trajectories whose first stage has ``first`` steps, ``i[]``."""

    def propose(stage: int, point: PhasePoint, wanted: Array) -> tuple[PhasePoint, Array]:
        steps = jnp.where(wanted, settings.stage_steps(stage, first), 0)
        step_size = tuning.step_size / settings.reduction**stage
        return flip(trajectory(density, tuning.metric, point, step_size, steps)), steps

    return propose


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


def log_uniform(key: Array, stage: int) -> Array:
    """log u of the acceptance test of a stage, u ~ U(0, 1]; a stream of its own for every stage."""
    u = jax.random.uniform(jax.random.fold_in(key, stage))
    return jnp.log1p(-u)


def attempt(
    stage: int,
    start: PhasePoint,
    log_rejections: list[Array],
    propose: Propose,
    log_joint: Callable[[PhasePoint], Array],
    power: float,
    wanted: Array,
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
    wanted : ``bool[]``; where False nothing is spent and the result means nothing
    """
    proposal, gradients = propose(stage, start, wanted)
    numerator, denominator = log_joint(proposal), log_joint(start)
    possible, zero = wanted & (numerator > -jnp.inf), jnp.zeros_like(denominator)

    ghost_rejections: list[Array] = []
    for ghost in range(stage):

        def rejection(ghost: int = ghost, possible: Array = possible) -> tuple[Array, Array]:
            tried = attempt(ghost, proposal, ghost_rejections, propose, log_joint, power, possible)
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
    log_ratio = jnp.where(possible, numerator, 0.0) - jnp.where(possible, denominator, 0.0)
    log_ratio += power * correction
    log_acceptance = jnp.where(possible, jnp.minimum(0.0, log_ratio), -jnp.inf)
    return Attempt(proposal, log_acceptance, gradients)


class Outcome(NamedTuple):
    """What the stages have come to."""

    chosen: PhasePoint
    """F_k(x) of the accepted stage, or x."""
    accepted_stage: Array
    """From 1; 0 while nothing has been accepted."""
    tried_stages: Array
    gradients: Array
    first_acceptance: Array
    """α₁, which the step size is adapted to."""
    diverged: Array
    """Whether the last stage tried lost the energy and nothing was accepted."""


def transition(
    key: Array,
    start: PhasePoint,
    propose: Propose,
    log_joint: Callable[[PhasePoint], Array],
    settings: StageSettings,
) -> Outcome:
    """Try the stages one after the other until one is accepted; π is invariant.

    The momentum of an accepted proposal is reversed, that of a rejected start is not.
    """
    zero = jnp.int32(0)
    outcome = Outcome(start, zero, zero, zero, jnp.zeros_like(start.log_density), jnp.bool_(False))
    trying = jnp.bool_(True)
    log_rejections: list[Array] = []
    key_retry = jax.random.fold_in(key, 1 << 16)
    for stage in range(settings.stages):
        tried = jax.lax.cond(
            trying,
            lambda k=stage, wanted=trying: attempt(
                k, start, log_rejections, propose, log_joint, settings.power, wanted
            ),
            lambda: Attempt(start, jnp.full_like(start.log_density, -jnp.inf), jnp.int32(0)),
        )
        # A stage that was rejected has α < 1, hence a finite log(1 − α).
        log_rejection = log1mexp(tried.log_acceptance)
        accepted = trying & (log_uniform(key, stage) <= tried.log_acceptance)
        lost = log_joint(start) - log_joint(tried.proposal) > DIVERGENCE_THRESHOLD
        outcome = Outcome(
            chosen=jax.tree.map(
                lambda new, old, take=accepted: jnp.where(take, new, old), tried.proposal, outcome.chosen
            ),
            accepted_stage=jnp.where(accepted, stage + 1, outcome.accepted_stage),
            tried_stages=outcome.tried_stages + trying,
            gradients=outcome.gradients + tried.gradients * trying,
            first_acceptance=outcome.first_acceptance if stage else jnp.exp(tried.log_acceptance),
            diverged=jnp.where(trying, lost & ~accepted, outcome.diverged),
        )
        trying &= ~accepted
        if settings.retry == "probabilistic":
            trying &= log_uniform(key_retry, stage) <= log_rejection
        log_rejections.append(jnp.where(trying, log_rejection, 0.0))
    return outcome
