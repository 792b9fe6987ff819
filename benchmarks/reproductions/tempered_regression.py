"""Bayesian linear regression with known noise: tempered posteriors, SGLD's moments, predictions; all exact.

y_i ~ N(x_i'θ, σ²), θ ~ N(0, I/κ). With likelihood^(1/T) the precision is κI + X'X/(σ²T), with p^(1/T) the
mean stays and the covariance is T times the posterior's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from ...models.factorization import factorized_target
from ...models.target import Target

SIGMA = 1.0
PRIOR_PRECISION = 8.0
SCALES = (0.25, 0.5, 1.0, 1.0)
"""Of the columns of X: from directions that the prior determines to some that the data determine."""

type Tempering = Literal["full", "likelihood"]
TEMPERINGS: tuple[Tempering, ...] = ("full", "likelihood")


class Moments(NamedTuple):
    """A Gaussian."""

    mean: np.ndarray
    """``f[d]``"""
    precision: np.ndarray
    """``f[d, d]``"""

    @property
    def covariance(self) -> np.ndarray:
        return np.linalg.inv(self.precision)


@dataclass(frozen=True, eq=False)
class Regression:
    """Data of the regression, ``f[n, d]`` and ``f[n]``."""

    x: np.ndarray
    y: np.ndarray

    def tempered(self, tempering: Tempering, temperature: float) -> Moments:
        """The density that a temperature stands for."""
        likelihood_temperature = temperature if tempering == "likelihood" else 1.0
        weight = 1 / (SIGMA**2 * likelihood_temperature)
        precision = PRIOR_PRECISION * np.eye(self.x.shape[1]) + weight * self.x.T @ self.x
        mean = np.linalg.solve(precision, weight * self.x.T @ self.y)
        return Moments(mean, precision / temperature if tempering == "full" else precision)

    def target(self, name: str) -> Target:
        """With one row a datum."""
        return factorized_target(
            name, self.x.shape[1], _log_prior, _log_likelihood_row, {"x": self.x, "y": self.y}
        )


def _log_prior(theta: Array) -> Array:
    return -0.5 * PRIOR_PRECISION * jnp.sum(theta**2)


def _log_likelihood_row(theta: Array, row: dict[str, Array]) -> Array:
    return -0.5 * (row["y"] - row["x"] @ theta) ** 2 / SIGMA**2


def draw_design(rng: np.random.Generator, n: int) -> np.ndarray:
    """``f[n, d]``, independent normal columns of the scales above."""
    return rng.normal(size=(n, len(SCALES))) * SCALES


def draw_coefficients(rng: np.random.Generator) -> np.ndarray:
    """``f[d]`` from the prior."""
    return rng.normal(size=len(SCALES)) / np.sqrt(PRIOR_PRECISION)


def simulated_regression(n: int) -> Regression:
    """n rows of the model itself, the same ones always."""
    rng = np.random.default_rng(0)
    x = draw_design(rng, n)
    return Regression(x, x @ draw_coefficients(rng) + SIGMA * rng.normal(size=n))


def stationary_covariance(
    regression: Regression,
    tempering: Tempering,
    temperature: float,
    *,
    step_size: float,
    batch: int,
    control_variates: bool,
) -> np.ndarray:
    """The covariance of SGLD's draws, exact for every step size: ``f[d, d]``.

    With δ the distance from the mean and M_i = x_i x_i'/(σ²T) a row's curvature, a step is
    δ ← (I − hH_B) δ + h n/m Σ_B g_i + √(2hT) ξ, H_B = κI + n/m Σ_B M_i, g_i a row's gradient at the
    mean, which control variates take away. Rows are drawn with replacement, so that S = E δδ' solves the
    linear equation

        S = A S A + h² n²/m (mean_i M_i S M_i − M̄ S M̄) + h² n²/m Cov_i(g_i) + 2hT I,   A = I − hH,

    in which T on the left of I is that of the whole density.
    """
    x, n, d = regression.x, *regression.x.shape
    likelihood_temperature = temperature if tempering == "likelihood" else 1.0
    weight = 1 / (SIGMA**2 * likelihood_temperature)
    moments = regression.tempered("likelihood", likelihood_temperature)
    curvatures = weight * x[:, :, None] * x[:, None, :]
    residuals = regression.y - x @ moments.mean
    gradients = weight * residuals[:, None] * x * (not control_variates)
    middle = curvatures.mean(0)
    drift = np.eye(d) - step_size * moments.precision
    spread = np.einsum("nij,nkl->ikjl", curvatures, curvatures).reshape(d * d, d * d) / n
    scale = step_size**2 * n**2 / batch
    operator = np.kron(drift, drift) + scale * (spread - np.kron(middle, middle))
    injected = 2 * step_size * (temperature if tempering == "full" else 1.0) * np.eye(d)
    noise = injected + scale * np.cov(gradients.T, bias=True)
    return np.linalg.solve(np.eye(d * d) - operator, noise.ravel()).reshape(d, d)


def log_score(moments: Moments, x: np.ndarray, truth: np.ndarray, noise: float) -> float:
    """E log p(y | x) of the posterior predictive N(x'm, x'Sx + σ²), per label.

    Exact for labels y ~ N(x'truth, noise²), averaged over the rows of ``x``; σ is the model's, not tempered.
    """
    variance = np.einsum("ni,ij,nj->n", x, moments.covariance, x) + SIGMA**2
    squared = (x @ (moments.mean - truth)) ** 2 + noise**2
    return float(np.mean(-0.5 * np.log(2 * np.pi * variance) - squared / (2 * variance)))
