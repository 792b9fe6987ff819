"""Hamiltonian dynamics: phase points, the leapfrog step, trajectories and their lengths.

One leapfrog step costs exactly one evaluation of the oracle, because a `PhasePoint` carries the
gradient at its position. Where an evaluation fails the gradient is 0 by contract: the map stays
volume-preserving and reversible, and an end point there has log joint density −inf.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ..models.target import Density
from .metrics import Metric, kinetic_energy, velocity

DIVERGENCE_THRESHOLD = 1000.0
"""Energy error beyond which a trajectory is called divergent (Stan's and PyMC's value)."""


class PhasePoint(NamedTuple):
    """A point of phase space with what was evaluated there."""

    position: Array
    momentum: Array
    log_density: Array
    gradient: Array


def log_joint(metric: Metric, point: PhasePoint) -> Array:
    """log π(θ) − ½ pᵀM⁻¹p, −inf where it is undefined; the negative of the Hamiltonian."""
    value = point.log_density - kinetic_energy(metric, point.momentum)
    return jnp.where(jnp.isnan(value) | jnp.isposinf(value), -jnp.inf, value)


def flip(point: PhasePoint) -> PhasePoint:
    """The same point with its momentum reversed; trajectory ∘ flip is an involution."""
    return point._replace(momentum=-point.momentum)


def leapfrog(
    density: Density,
    metric: Metric,
    point: PhasePoint,
    step_size: Array,
    active: Array | None = None,
) -> PhasePoint:
    """One kick–drift–kick step; one gradient (Duane et al. 1987; Neal 2011, eqs. 2.28–2.30).

    ``active`` is as in `Density.value_and_grad`.
    """
    half = point.momentum + 0.5 * step_size * point.gradient
    position = point.position + step_size * velocity(metric, half)
    log_density, gradient = density.value_and_grad(position, active)
    return PhasePoint(position, half + 0.5 * step_size * gradient, log_density, gradient)


def trajectory(
    density: Density, metric: Metric, start: PhasePoint, step_size: Array, num_steps: Array | int
) -> PhasePoint:
    """The end of ``num_steps`` leapfrog steps; ``num_steps`` gradients.

    Under ``vmap`` the loop lasts as long as the longest chain's; the others are inactive meanwhile.
    """
    return jax.lax.fori_loop(
        0, num_steps, lambda i, point: leapfrog(density, metric, point, step_size, i < num_steps), start
    )


def van_der_corput(i: Array) -> Array:
    """The i-th point of the base-2 low-discrepancy sequence in (0, 1), from 1/2 at i = 0.

    Lengths are jittered along it instead of at random: chains that step together then integrate
    for equally many steps, so that lockstep execution wastes no gradient, and the jitter is
    independent of the state, which leaves the target invariant (Hoffman, Radul & Sountsov 2021
    jitter ChEES-HMC so).
    """
    bits = (jnp.asarray(i).astype(jnp.uint32) + jnp.uint32(1))[..., None] >> jnp.arange(32, dtype=jnp.uint32)
    weights = 0.5 ** jnp.arange(1, 33)
    return jnp.sum((bits & 1) * weights, axis=-1)


@dataclass(frozen=True)
class TrajectoryLength:
    """How far to integrate.

    Parameters
    ----------
    integration_time : in the units of the adapted metric; π/2 decorrelates a standard Gaussian. The
        number of steps is the time over the step size.
    rule : how warmup finds the time. ``"fixed"``: it is ``integration_time``. ``"scale"``:
        ``integration_time`` times the longest scale of the draws in the units of the metric, which
        costs nothing. ``"nuts"``: the 90th percentile of the lengths of NUTS trajectories in a pilot,
        as in the scripts of Modi, Barnett & Carpenter (2023); ``integration_time`` until there is one.
        A warmup of 0 steps, or one whose budget is spent before, has no pilot; one of fewer than 20 steps,
        or with an identity metric and a fixed step size, looks for no longest scale.
    num_integration_steps : a fixed number of steps instead of a time; there is then no rule.
    jitter : each length is scaled by a factor in (1 − jitter, 1 + jitter), which avoids the
        periodic orbits that a fixed length can fall into. A trajectory of a quarter period of the
        longest scale may be a whole period of another one: little jitter is not enough for that.
    max_num_integration_steps : a cap on lengths that follow from a time, of the first stage where there
        are several. It binds early in warmup, when the metric does not know the scales yet and the
        integration time would ask for thousands of steps.
    """

    integration_time: float = 1.5707963267948966
    rule: Literal["fixed", "scale", "nuts"] = "scale"
    num_integration_steps: int | None = None
    jitter: float = 0.6
    max_num_integration_steps: int = 128

    def __post_init__(self) -> None:
        if not self.integration_time > 0:
            raise ValueError(f"integration_time={self.integration_time}: give a positive time")
        if self.rule not in ("fixed", "scale", "nuts"):
            raise ValueError(f"rule={self.rule!r}: give 'fixed', 'scale' or 'nuts'")
        if self.num_integration_steps is not None and self.num_integration_steps < 1:
            raise ValueError(f"num_integration_steps={self.num_integration_steps}: give at least 1")
        if self.max_num_integration_steps < 1:
            raise ValueError(f"max_num_integration_steps={self.max_num_integration_steps}: give at least 1")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter={self.jitter}: give a value in [0, 1)")

    @property
    def finds(self) -> Literal["fixed", "scale", "nuts"]:
        """The rule in force."""
        return self.rule if self.num_integration_steps is None else "fixed"

    def steps(
        self,
        iteration: Array,
        step_size: Array,
        found: Array | None = None,
        factor: Array | float = 1.0,
    ) -> Array:
        """Leapfrog steps of the trajectory at ``iteration``, at least one: ``i[]``.

        ``found`` is the integration time that warmup found by the rule, ``f[]``; ``factor`` scales the
        length.
        """
        scale = factor * (1.0 + self.jitter * (2.0 * van_der_corput(iteration) - 1.0))
        if self.num_integration_steps is not None:
            return jnp.maximum(jnp.round(scale * self.num_integration_steps), 1).astype(jnp.int32)
        time = self.integration_time if found is None else found
        steps = jnp.ceil(scale * time / step_size)
        return jnp.clip(steps, 1, self.max_num_integration_steps).astype(jnp.int32)
