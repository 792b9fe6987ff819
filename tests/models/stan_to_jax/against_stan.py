"""A lowered program held against Stan's own evaluation, point by point."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from essper.models.stan_source import load_model, read_data, read_program
from essper.models.stan_to_jax import Lowered, lower

SHOWN = 5


@dataclass(frozen=True)
class Pair:
    """One program and its data, evaluated by Stan and lowered."""

    stan: object
    """``bridgestan.StanModel``"""
    lowered: Lowered


@dataclass(frozen=True)
class Comparison:
    """What two evaluations of one log density have in common at some points."""

    points: int
    finite: int
    """Points at which Stan's value and gradient are finite."""
    value_error: float
    """Largest |Δ log p| / max(1, |log p|) over the finite points: no constant is left out."""
    gradient_error: float
    """Largest |Δ ∂ᵢ log p| / max(1, max |∂ log p|) over the finite points and their coordinates."""
    disagreements: tuple[str, ...]
    """Where one is finite and the other is not."""

    def require(self, tolerance: float, *, finite: int) -> None:
        """Fail unless both agree within the tolerance, at no fewer than so many finite points."""
        assert not self.disagreements, "\n".join(self.disagreements[:SHOWN])
        assert self.finite >= finite
        assert self.value_error <= tolerance
        assert self.gradient_error <= tolerance


def pair(program, data=None, name=None) -> Pair:
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


def stan_values_and_gradients(model, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
    compiled = jax.jit(jax.vmap(jax.value_and_grad(evaluated.lowered.log_density)))
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
    scales = np.maximum(1, np.abs(gradients[both]).max(1, initial=0))
    value_errors = np.abs(got_values[both] - values[both]) / np.maximum(1, np.abs(values[both]))
    gradient_errors = np.abs(got_gradients[both] - gradients[both]).max(1, initial=0) / scales
    return Comparison(
        points=len(points),
        finite=int(finite.sum()),
        value_error=float(value_errors.max(initial=0)),
        gradient_error=float(gradient_errors.max(initial=0)),
        disagreements=tuple(wrong),
    )
