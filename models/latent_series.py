"""Gaussian series with a latent variable for every datum, and what factorized Gaussians come to on them.

Saw-tooth: the latent variables are independent, and a datum depends on the one before it,

    z_k ~ N(0, τ²),   x_k ~ N(α x_(k−1) + z_k, σ²),   k = 1 … n,   x_0 given.

Hidden Markov: the latent variables depend on one another, and a datum on its own alone,

    z_k ~ N(ρ z_(k−1), τ²),   x_k ~ N(z_k, σ²),   z_1 ~ N(0, τ²/(1 − ρ²)), the stationary distribution.

These are the two series of Margossian & Blei, "Amortized variational inference: when and why?" (UAI 2024),
section 3. Given x both posteriors are Gaussian, N(m, Λ⁻¹), and so the ELBO of every factorized Gaussian with
means μ and variances v is known:

    ELBO = log p(x) + ½ log |Λ/2π| − ½ (μ − m)ᵀ Λ (μ − m) − ½ Σ Λ_kk v_k + ½ Σ log 2π e v_k

Its maximum is at μ = m, v_k = 1/Λ_kk. The gap of a factorized q is that maximum minus its own ELBO.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import solve_triangular
from jax.scipy.stats import norm

from .hierarchy import Hierarchy
from .target import Density, Target, digest_of, jax_density

# -- factorized Gaussians on a Gaussian ---------------------------------------------------------------


class Factors(NamedTuple):
    """Means and variances of independent Gaussians, ``f[n]`` each."""

    mean: np.ndarray
    variance: np.ndarray


class Posterior(NamedTuple):
    """N(mean, precision⁻¹), ``f[n]`` and ``f[n, n]``."""

    mean: np.ndarray
    precision: np.ndarray

    @property
    def best(self) -> Factors:
        """The factorized Gaussian of the largest ELBO."""
        return Factors(self.mean, 1 / np.diag(self.precision))

    @property
    def lost(self) -> float:
        """log p(x) minus the largest ELBO of a factorized Gaussian, in nats: ½ (Σ log Λ_kk − log |Λ|)."""
        return float(np.log(np.diag(self.precision)).sum() - np.linalg.slogdet(self.precision)[1]) / 2

    def gap(self, factors: Factors) -> float:
        """The largest ELBO of a factorized Gaussian minus that of the given one, in nats; ≥ 0."""
        away, wider = factors.mean - self.mean, factors.variance * np.diag(self.precision) - 1
        return float(away @ self.precision @ away + np.sum(wider - np.log1p(wider))) / 2


def best_shared(posterior: Posterior, inputs: np.ndarray) -> Factors:
    """The best factors that are the same wherever the inputs are: what no function of them can exceed.

    With P the indicators of groups of equal inputs, the means are P a, a = (PᵀΛP)⁻¹ PᵀΛm, and the variance of
    a group is one over the mean of its Λ_kk.

    Parameters
    ----------
    inputs : ``f[n, p]``
    """
    _, group = np.unique(inputs, axis=0, return_inverse=True)
    indicators = np.equal(group.reshape(-1, 1), np.arange(group.max() + 1)).astype(float)
    means = _best_means(posterior, indicators)
    diagonal = np.diag(posterior.precision) @ indicators / indicators.sum(axis=0)
    return Factors(means, indicators @ (1 / diagonal))


def best_linear(posterior: Posterior, inputs: np.ndarray) -> Factors:
    """The best factors whose means and log standard deviations are linear in the inputs, with a constant.

    Means are those of generalized least squares. The log standard deviations W c minimize the convex
    Σ ½ Λ_kk exp(2 w_k c) − w_k c, by Newton's method.

    Parameters
    ----------
    inputs : ``f[n, p]``
    """
    features = np.column_stack([np.ones(len(inputs)), inputs])
    diagonal = np.diag(posterior.precision)
    c = np.zeros(features.shape[1])
    c[0] = -np.log(diagonal.mean()) / 2
    for _ in range(NEWTON):
        curved = diagonal * np.exp(2 * features @ c)
        c += np.linalg.solve(2 * (features.T * curved) @ features, features.T @ (1 - curved))
    return Factors(_best_means(posterior, features), np.exp(2 * features @ c))


NEWTON = 30
"""Iterations, from an optimum but for what the inputs say of the scale: they are far more than enough."""


def _best_means(posterior: Posterior, features: np.ndarray) -> np.ndarray:
    """W a with a = (WᵀΛW)⁻¹ WᵀΛm; least squares, since columns may depend on one another."""
    root = np.linalg.cholesky(posterior.precision).T
    a, *_ = np.linalg.lstsq(root @ features, root @ posterior.mean, rcond=None)
    return features @ a


# -- the saw-tooth series -----------------------------------------------------------------------------


@dataclass(frozen=True)
class SawTooth:
    """z_k ~ N(0, τ²), x_k ~ N(α x_(k−1) + z_k, σ²).

    Parameters
    ----------
    start : x_0. At 0 the zeros that stand before the first datum in `Hierarchy.windows` are the right ones.
    """

    alpha: float = 0.8
    tau: float = 1.0
    sigma: float = 1.0
    start: float = 0.0

    @property
    def precision(self) -> float:
        """Of every z_k given x."""
        return 1 / self.tau**2 + 1 / self.sigma**2

    def simulate(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """x, ``f[n]``."""
        added = self.tau * rng.standard_normal(n) + self.sigma * rng.standard_normal(n)
        return _recursion(self.alpha, self.start, added)

    def before(self, x: np.ndarray) -> np.ndarray:
        """x_0 … x_(n−1), ``f[n]``."""
        return np.concatenate([[self.start], x[:-1]])

    def posterior(self, x: np.ndarray) -> Posterior:
        """m_k = τ²/(τ² + σ²) (x_k − α x_(k−1)), of equal precision and independent."""
        shrink = self.tau**2 / (self.tau**2 + self.sigma**2)
        return Posterior(shrink * (x - self.alpha * self.before(x)), self.precision * np.eye(len(x)))

    def target(self, x: np.ndarray) -> Target:
        """p(z | x) on R^n; the log density is that of z and x together."""
        x = np.asarray(x, float)
        numbers = tuple(map(jnp.asarray, (self.alpha, self.tau, self.sigma)))
        density = jax_density(_saw_tooth, (jnp.asarray(x), jnp.asarray(self.before(x)), *numbers))
        return _target(f"saw-tooth({self})", x, density, self.posterior(x))

    def log_evidence(self, x: np.ndarray) -> float:
        """log p(x), from x_k ~ N(α x_(k−1), τ² + σ²)."""
        variance = self.tau**2 + self.sigma**2
        away = x - self.alpha * self.before(x)
        return float(-0.5 * np.sum(away**2 / variance + np.log(2 * np.pi * variance)))

    def unexplained(self, n: int) -> float:
        """Σ_k ½ (1/τ² + 1/σ²) Var(m_k | x_k): E gap of the best function of one datum is no smaller, in nats.

        Over series that the function was not chosen on, even with a function of its own for every k. With
        e_k = x_k − α x_(k−1), of variance s² = τ² + σ², m_k is τ²/s² e_k, and Var(e_k | x_k) is
        s² (1 − s²/Var x_k).
        """
        innovation = self.tau**2 + self.sigma**2
        total = innovation * np.cumsum(self.alpha ** (2.0 * np.arange(n)))
        variances = (self.tau**2 / innovation) ** 2 * innovation * (1 - innovation / total)
        return float(self.precision * variances.sum() / 2)


def _recursion(factor: float, start: float, added: np.ndarray) -> np.ndarray:
    values = []
    for step in added:
        start = factor * start + step
        values.append(start)
    return np.array(values)


def _saw_tooth(operand: tuple[Array, Array, Array, Array, Array], z: Array) -> Array:
    x, before, alpha, tau, sigma = operand
    return norm.logpdf(z, 0.0, tau).sum() + norm.logpdf(x, alpha * before + z, sigma).sum()


# -- the hidden Markov model --------------------------------------------------------------------------


@dataclass(frozen=True)
class HiddenMarkov:
    """z_k ~ N(ρ z_(k−1), τ²), x_k ~ N(z_k, σ²), stationary."""

    rho: float = 0.9
    tau: float = 1.0
    sigma: float = 1.0

    @property
    def first(self) -> float:
        """The standard deviation of z_1, and of every z_k."""
        return self.tau / (1 - self.rho**2) ** 0.5

    def simulate(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """x, ``f[n]``."""
        added = self.tau * rng.standard_normal(n)
        added[0] *= self.first / self.tau
        return _recursion(self.rho, 0.0, added) + self.sigma * rng.standard_normal(n)

    def precision(self, n: int) -> np.ndarray:
        """Λ of z given x, ``f[n, n]``, tridiagonal."""
        chain = np.full(n, (1 + self.rho**2) / self.tau**2)
        chain[-1] = 1 / self.tau**2
        chain[0] = 1 / self.first**2 + (self.rho**2 / self.tau**2 if n > 1 else 0.0)
        beside = np.full(n - 1, -self.rho / self.tau**2)
        return np.diag(chain + 1 / self.sigma**2) + np.diag(beside, 1) + np.diag(beside, -1)

    def posterior(self, x: np.ndarray) -> Posterior:
        """Λ m = x/σ²."""
        precision = self.precision(len(x))
        return Posterior(np.linalg.solve(precision, x / self.sigma**2), precision)

    def target(self, x: np.ndarray) -> Target:
        """p(z | x) on R^n; the log density is that of z and x together."""
        x = np.asarray(x, float)
        numbers = tuple(map(jnp.asarray, (self.rho, self.tau, self.sigma, self.first)))
        density = jax_density(_hidden_markov, (jnp.asarray(x), *numbers))
        return _target(f"hidden-markov({self})", x, density, self.posterior(x))

    def covariance(self, n: int) -> np.ndarray:
        """Of x, whose mean is 0, ``f[n, n]``."""
        apart = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
        return self.first**2 * self.rho**apart + self.sigma**2 * np.eye(n)

    def log_evidence(self, x: np.ndarray) -> float:
        """log p(x)."""
        covariance = self.covariance(len(x))
        square = x @ np.linalg.solve(covariance, x)
        return -0.5 * float(square + np.linalg.slogdet(2 * np.pi * covariance)[1])

    def unexplained(self, n: int) -> float:
        """E gap of the best function of one datum, over series that it was not chosen on, in nats.

        x ~ N(0, C). In E (f(x) − m)ᵀ Λ (f(x) − m), Λm = x/σ², the Hermite polynomials of f do not mix and
        only the first meets x/σ²: the best f is a x, a = (tr C/σ²)/tr(ΛC). As the x_k are distributed alike,
        its variances are one number.
        """
        precision, covariance = self.precision(n), self.covariance(n)
        inputs = np.trace(covariance) / self.sigma**2
        means = np.trace(np.linalg.solve(precision, covariance)) / self.sigma**4
        means -= inputs**2 / np.trace(precision @ covariance)
        diagonal = np.diag(precision)
        return float(means + n * np.log(diagonal.mean()) - np.log(diagonal).sum()) / 2


def _hidden_markov(operand: tuple[Array, Array, Array, Array, Array], z: Array) -> Array:
    x, rho, tau, sigma, first = operand
    steps = norm.logpdf(z[1:], rho * z[:-1], tau).sum() + norm.logpdf(z[0], 0.0, first)
    return steps + norm.logpdf(x, z, sigma).sum()


# -- both ---------------------------------------------------------------------------------------------


def _target(settings: str, x: np.ndarray, density: Density, posterior: Posterior) -> Target:
    """Every coordinate belongs to one datum; there is nothing else."""
    n = len(x)
    names = tuple(f"z[{k + 1}]" for k in range(n))
    mean, root = jnp.asarray(posterior.mean), jnp.linalg.cholesky(jnp.asarray(posterior.precision))

    def exact(key: Array, count: int) -> Array:
        return mean + solve_triangular(root.T, jax.random.normal(key, (n, count))).T

    return Target(
        name=settings.split("(")[0],
        dim=n,
        density=density,
        param_names=names,
        constrain=np.asarray,
        digest=digest_of(settings, x.tobytes()),
        exact=exact,
        hierarchy=Hierarchy(n, np.arange(n).reshape(n, 1), x.reshape(n, 1), ("x",), "x"),
    )
