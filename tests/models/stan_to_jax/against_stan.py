"""A lowered program held against Stan's own evaluation, point by point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from essper.models.stan_source import load_model, read_data, read_program
from essper.models.stan_to_jax import Lowered, lower

SHOWN = 5


@dataclass(frozen=True)
class Pair:
    """One program and its data, evaluated by Stan and lowered."""

    stan: Any
    """``bridgestan.StanModel``"""
    lowered: Lowered


@dataclass(frozen=True)
class Comparison:
    """What two evaluations of one log density have in common at some points."""

    points: int
    finite: int
    """Points at which Stan's value and gradient are finite."""
    value_errors: np.ndarray
    """``f[points]``: |Δ log p| / max(1, |log p|), no constant left out; 0 where not both are finite."""
    gradient_errors: np.ndarray
    """``f[points]``: max |Δ∂| / max(1, max |∂|) over the coordinates; 0 where not both are finite."""
    disagreements: tuple[str, ...]
    """Where one is finite and the other is not."""

    def require(self, tolerance: float | np.ndarray, *, finite: int) -> None:
        """Fail unless both agree within the tolerance (of each point), at so many finite points at least."""
        assert not self.disagreements, "\n".join(self.disagreements[:SHOWN])
        assert self.finite >= finite
        assert (self.value_errors <= tolerance).all(), self.value_errors
        assert (self.gradient_errors <= tolerance).all(), self.gradient_errors


def pair(program: Any, data: Any = None, name: str | None = None) -> Pair:
    """A program (text or path) and its data, in Stan and lowered."""
    source = read_program(program, name)
    values = read_data(data, source.name)
    model = load_model(source, values, "stanli").model
    lowered = lower(source, values)
    assert lowered.dim == model.param_unc_num()
    return Pair(model, lowered)


def points_for(dim: int, count: int = 20, seed: int = 0) -> np.ndarray:
    """``f[2 * count, dim]``: N(0, 1) and N(0, 0.3²)."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(size=(count, dim)), 0.3 * rng.normal(size=(count, dim))])


def stan_values_and_gradients(model: Any, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stan's, with constants dropped and the Jacobian; (−inf, NaN) where it throws."""
    values = np.full(len(points), -np.inf)
    gradients = np.full(points.shape, np.nan)
    for i, point in enumerate(points):
        try:
            values[i], gradients[i] = model.log_density_gradient(point, propto=True, jacobian=True)
        except RuntimeError:
            continue
    return values, gradients


def compare(evaluated: Pair, points: np.ndarray) -> Comparison:
    """Both evaluated at the points; the lowered density compiled once, under ``vmap``."""
    values, gradients = stan_values_and_gradients(evaluated.stan, points)
    # As a target has it: interpreted once, by `jit`, and not under each of the transformations.
    log_density = jax.jit(evaluated.lowered.log_density)
    compiled = jax.jit(jax.vmap(jax.value_and_grad(log_density)))
    got_values, got_gradients = (np.asarray(out) for out in compiled(points))
    finite = np.isfinite(values) & np.isfinite(gradients).all(1)
    got_finite = np.isfinite(got_values) & np.isfinite(got_gradients).all(1)
    wrong = []
    for i, (value, got) in enumerate(zip(values, got_values, strict=True)):
        if value == -np.inf and got != -np.inf:
            wrong.append(f"point {i}: Stan rejects, lowered gives {got}")
        elif not np.isfinite(value) and np.isfinite(got):
            wrong.append(f"point {i}: Stan gives {value}, lowered {got}")
        elif finite[i] and not got_finite[i]:
            wrong.append(f"point {i}: Stan gives {value}, lowered {got} with gradient {got_gradients[i]}")
    both = finite & got_finite
    value_errors, gradient_errors = np.zeros(len(points)), np.zeros(len(points))
    value_errors[both] = np.abs(got_values[both] - values[both]) / np.maximum(1, np.abs(values[both]))
    gradient_errors[both] = _relative(got_gradients[both], gradients[both])
    return Comparison(len(points), int(finite.sum()), value_errors, gradient_errors, tuple(wrong))


def rounding_errors(model: Any, points: np.ndarray, trials: int = 5) -> np.ndarray:
    """``f[points]``: how far Stan's own gradient moves when the coordinates move by one rounding.

    No other evaluation in the same precision can be expected to agree better.
    """
    rng = np.random.default_rng(0)
    _, gradients = stan_values_and_gradients(model, points)
    errors = []
    for _ in range(trials):
        moved = points * (1 + np.finfo(float).eps * rng.choice([-1, 1], size=points.shape))
        errors.append(_relative(stan_values_and_gradients(model, moved)[1], gradients))
    return np.max(errors, axis=0)


def _relative(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.abs(got - expected).max(1, initial=0) / np.maximum(1, np.abs(expected).max(1, initial=0))
