"""A log density held against Stan's own: value and gradient at the same points, errors as plain numbers.

Two correct programs differ by rounding, and how much that is depends on the density: where a covariance
matrix is nearly singular, Stan's own gradient changes by 1e-8 of its size when a coordinate changes in its
last digit. That change is measured, at every point, and a difference that it explains is no disagreement.
Some of Stan's derivatives are approximations (of log Φ, good to 1e-5): where the gradients differ a little,
differences of Stan's value say which of the two is its derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

ValueAndGrad = Callable[[Array], tuple[Array, Array]]
"""``f[dim] -> (f[], f[dim])``, (−inf, anything) where the density is 0."""

ROUNDINGS = 4
"""Points next to each one at which Stan's rounding is measured."""
ROUNDING_FACTOR = 10.0
"""Two programs round differently, and few neighbours show less than the largest error."""
LARGEST_ROUNDING = 1e-5
"""What rounding can excuse at the most."""
SUSPECT, APPROXIMATE = 1e-9, 1e-3
"""Relative errors of a gradient between which Stan's own may be the approximate one."""
STEP = 1e-2
"""Of the differences of Stan's value, in the units of the unconstrained space."""


@dataclass(frozen=True)
class Agreement:
    """How far two evaluations of one density are apart, at points that both could evaluate."""

    gradient_errors: tuple[float, ...]
    """max |Δg| / max |g| over coordinates, g being Stan's; one a point. Where Stan's is the approximate one,
    of the difference to the derivative of Stan's value."""
    value_errors: tuple[float, ...]
    """|Δ log p − c| / max(1, |log p|); the constant c is the difference where |log p| is smallest."""
    rounding: tuple[float, ...]
    """The same of Stan against itself, the larger of gradient and value, when every coordinate changes in
    its last digit."""
    rejected: int = 0
    """Points at which neither is finite: the density is 0, or Stan throws."""
    disputed: int = 0
    """Points at which only one of the two is finite."""
    reason: str = ""
    """What Stan said where only it could not evaluate."""
    approximate: int = 0
    """Points at which Stan's own gradient is no derivative of its value, and the other one is."""

    @property
    def compared(self) -> int:
        """Points at which both are finite."""
        return len(self.gradient_errors)

    @property
    def gradient_error(self) -> float:
        """The largest; 0 without points, and NaN, which no tolerance admits, where a number is."""
        return float(np.max(self.gradient_errors, initial=0.0))

    @property
    def value_error(self) -> float:
        """As `gradient_error`."""
        return float(np.max(self.value_errors, initial=0.0))

    @property
    def largest_rounding(self) -> float:
        """The largest change that rounding makes in Stan's own."""
        return float(np.max(self.rounding, initial=0.0))

    def within(self, tolerance: float) -> bool:
        """Whether the two are one density: True without points.

        At every point errors are within the tolerance, or are what rounding explains; and no more than
        that share of all points can be evaluated by one of the two only (none, unless both solve an ODE
        whose solution they know to a few digits).
        """
        rounding = np.minimum(ROUNDING_FACTOR * np.array(self.rounding), LARGEST_ROUNDING)
        errors = np.maximum(self.gradient_errors, self.value_errors)
        total = self.compared + self.rejected + self.disputed
        close = bool(np.all(errors <= np.maximum(tolerance, rounding)))
        return close and self.disputed <= tolerance * total


def compare_densities(
    value_and_grad: ValueAndGrad, model: Any, points: np.ndarray, *, precision: str = "float64"
) -> Agreement:
    """Hold a density, value and gradient, against a ``bridgestan.StanModel``'s.

    Parameters
    ----------
    value_and_grad : called point by point: compile it
    points : ``f[n, dim]``, unconstrained
    precision : that ``value_and_grad`` computes in; its last digit is the one that rounding changes
    """
    digit, signs = np.finfo(precision).eps, np.random.default_rng(0)
    gradients, values, scales, rounding = [], [], [], []
    rejected = disputed = approximate = 0
    reason = ""
    for x in points:
        value, gradient = (np.asarray(out, float) for out in value_and_grad(jnp.asarray(x)))
        stan_value, stan_gradient, said = stan_value_and_grad(model, x)
        here, there = is_finite(value, gradient), is_finite(stan_value, stan_gradient)
        rejected += not here and not there
        disputed += here != there
        if not (here and there):
            reason = reason or (said if here else "")
            continue
        error = _relative(gradient, stan_gradient)
        if SUSPECT < error < APPROXIMATE:
            own = _error_by_differences(model, x, gradient, stan_gradient)
            if own is not None:
                error, approximate = own, approximate + 1
        gradients.append(error)
        values.append(float(value - stan_value))
        scales.append(abs(stan_value))
        near = [x * (1 + digit * signs.choice((-1, 1), x.shape)) for _ in range(ROUNDINGS)]
        rounding.append(max(_change(model, neighbour, stan_value, stan_gradient) for neighbour in near))
    return Agreement(
        gradient_errors=tuple(gradients),
        value_errors=_up_to_a_constant(np.array(values), np.array(scales)),
        rounding=tuple(rounding),
        rejected=rejected,
        disputed=disputed,
        reason=reason,
        approximate=approximate,
    )


def joined(parts: Sequence[Agreement]) -> Agreement:
    """Several agreements, at different points, as one."""
    return Agreement(
        gradient_errors=tuple(error for part in parts for error in part.gradient_errors),
        value_errors=tuple(error for part in parts for error in part.value_errors),
        rounding=tuple(change for part in parts for change in part.rounding),
        rejected=sum(part.rejected for part in parts),
        disputed=sum(part.disputed for part in parts),
        reason=next((part.reason for part in parts if part.reason), ""),
        approximate=sum(part.approximate for part in parts),
    )


def stan_value_and_grad(model: Any, x: np.ndarray) -> tuple[float, np.ndarray, str]:
    """Stan's log density, gradient and ``""``; (−inf, 0, what Stan said) where it throws."""
    try:
        value, gradient = model.log_density_gradient(np.ascontiguousarray(x, float))
    except RuntimeError as error:
        return -np.inf, np.zeros(np.shape(x)), str(error).strip()
    return value, gradient, "" if is_finite(value, gradient) else "the value or the gradient is not finite"


def is_finite(value: Any, gradient: Any) -> bool:
    """Whether an evaluation counts as one: everything in it is finite."""
    return bool(np.isfinite(value) and np.isfinite(gradient).all())


def _change(model: Any, x: np.ndarray, value: float, gradient: np.ndarray) -> float:
    """How far Stan's evaluation at ``x`` is from the one given; 0 where it fails."""
    other_value, other_gradient, _ = stan_value_and_grad(model, x)
    if not is_finite(other_value, other_gradient):
        return 0.0
    return max(_relative(other_gradient, gradient), abs(other_value - value) / max(1.0, abs(value)))


def _error_by_differences(
    model: Any, x: np.ndarray, gradient: np.ndarray, stan_gradient: np.ndarray
) -> float | None:
    """The error of a gradient by Stan's value, if it is a tenth of that of Stan's gradient, else None.

    The derivative along the direction in which the two gradients differ, by central differences of sixth
    order at two step sizes, which must agree as well.
    """
    apart = gradient - stan_gradient
    size = float(np.linalg.norm(apart))
    direction = apart / size
    slopes = []
    for step in (STEP, STEP / 2):
        ahead, behind = (
            [stan_value_and_grad(model, x + sign * k * step * direction)[0] for k in (1, 2, 3)]
            for sign in (1.0, -1.0)
        )
        slopes.append(np.dot((45.0, -9.0, 1.0), np.subtract(ahead, behind)) / (60.0 * step))
    errors = [abs(float(gradient @ direction) - slope) for slope in slopes]
    if not max(errors) <= 0.1 * size:
        return None
    return max(errors) / float(np.max(np.abs(stan_gradient)))


def _relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    difference, scale = np.max(np.abs(ours - theirs)), np.max(np.abs(theirs))
    return float(difference / scale) if scale else (0.0 if difference == 0 else np.inf)


def _up_to_a_constant(differences: np.ndarray, scales: np.ndarray) -> tuple[float, ...]:
    if not len(differences):
        return ()
    constant = differences[np.argmin(scales)]  # rounding is relative to the value: least noise there
    return tuple((np.abs(differences - constant) / np.maximum(1.0, scales)).tolist())
