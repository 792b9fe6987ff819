"""A linear model with one local parameter a datum, in which everything about VI has a closed form.

    θ flat,   z_k ~ N(0, 1),   x_k ~ N(θ + τ z_k, σ²),   k = 1 … n

(Margossian & Blei 2024, section 4; in the other parameterization, ζ_k = θ + τ z_k, q would be another family,
but every gap below the same to order 1/n.) The posterior is a Gaussian whose precision Λ has

    Λ_θθ = n/σ²,   Λ_θk = τ/σ²,   Λ_kk = 1 + τ²/σ².

The local parameters are independent given θ, and equal data have equal factors: a map from x_k to the factor
of z_k exists, and it is linear.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.stats import norm

from .hierarchy import Hierarchy
from .target import Target, digest_of, jax_density


class LatentLinear(NamedTuple):
    """Data and known scales; a target is made from it by `latent_linear`."""

    x: np.ndarray
    """``f[n]``"""
    tau: float
    sigma: float

    @property
    def mode(self) -> np.ndarray:
        """The posterior's mean, ``f[1 + n]``: θ̂ = x̄, ẑ_k = τ (x_k − x̄)/(σ² + τ²)."""
        center = self.x.mean()
        local = self.tau * (self.x - center) / (self.sigma**2 + self.tau**2)
        return np.concatenate([[center], local])

    @property
    def curvature(self) -> np.ndarray:
        """Λ's diagonal, ``f[1 + n]``: F-VI's optimum is N(mode_k, 1/Λ_kk) in every coordinate."""
        n = len(self.x)
        return np.concatenate([[n / self.sigma**2], np.full(n, 1 + (self.tau / self.sigma) ** 2)])

    @property
    def constant_gap(self) -> float:
        """By how much the ELBO is lower where all local parameters share one factor, in nats.

        That factor has mean 0 and variance 1/Λ_kk, θ keeps its own: half the sum of Λ_kk ẑ_k² is lost,

            τ² S/(2 σ² (σ² + τ²)),   S = Σ (x_k − x̄)²,

        (n − 1) τ²/(2 σ²) in expectation over data sets.
        """
        spread = float(np.sum((self.x - self.x.mean()) ** 2))
        return self.tau**2 * spread / (2 * self.sigma**2 * (self.sigma**2 + self.tau**2))


def simulate_latent_linear(
    n: int, tau: float, sigma: float, seed: int, *, theta: float = 0.0
) -> LatentLinear:
    """Data as the model has them."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(n)
    return LatentLinear(theta + tau * z + sigma * rng.standard_normal(n), tau, sigma)


def latent_linear(model: LatentLinear) -> Target:
    """The posterior of (θ, z_1, …, z_n); p(z) and p(x | z, θ) have their constants.

    Raises
    ------
    ValueError
        If τ or σ is not positive, or there are fewer than two data.
    """
    x, tau, sigma = np.asarray(model.x, float), model.tau, model.sigma
    if x.ndim != 1 or len(x) < 2:
        raise ValueError(f"x has the shape {x.shape}: give at least two data in one row")
    if not (tau > 0 and sigma > 0):
        raise ValueError(f"tau={tau} and sigma={sigma} must be positive")
    n = len(x)
    settings = f"{tau!r} {sigma!r}"
    return Target(
        name="latent_linear",
        dim=1 + n,
        density=jax_density(_log_density, (jnp.asarray(x), jnp.asarray(tau), jnp.asarray(sigma))),
        param_names=("theta", *(f"z[{k + 1}]" for k in range(n))),
        constrain=np.asarray,
        digest=digest_of("latent_linear", settings, x.tobytes()),
        exact=lambda key, count: _exact(model, key, count),
        hierarchy=Hierarchy(1 + n, np.arange(1, 1 + n)[:, None], x[:, None], ("x",)),
    )


def _log_density(operand: tuple[Array, Array, Array], position: Array) -> Array:
    x, tau, sigma = operand
    theta, z = position[0], position[1:]
    return norm.logpdf(z).sum() + norm.logpdf(x, theta + tau * z, sigma).sum()


def _exact(model: LatentLinear, key: Array, count: int) -> Array:
    """θ | x ~ N(x̄, (σ² + τ²)/n), then z_k | θ, x_k ~ N(τ (x_k − θ)/(σ² + τ²), σ²/(σ² + τ²))."""
    x, tau, sigma = model
    n, total = len(x), sigma**2 + tau**2
    first, second = jax.random.split(key)
    theta = jnp.mean(jnp.asarray(x)) + jnp.sqrt(total / n) * jax.random.normal(first, (count, 1))
    noise = jax.random.normal(second, (count, n))
    return jnp.concatenate([theta, tau * (x - theta) / total + sigma / total**0.5 * noise], axis=1)
