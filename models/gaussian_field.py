"""A Gaussian random field seen through coloured Gaussian noise of unknown colour and level.

The blind denoising problem of "Listening to the noise: Blind denoising with Gibbs diffusion"
(Heurtel-Depeiges, Margossian, Ohana & Régaldo-Saint Blancard, ICML 2024), with a prior of the field under
which every distribution that appears is known exactly. On a periodic square of side × side pixels,

    x = H x̂,  x̂_k ~ N(0, P_k),      P_k = |k|^−exponent, P_0 = 1
    ε = H ε̂,  ε̂_k ~ N(0, σ² S_k),   S_k ∝ |k|^φ, mean 1 over all modes (|0| counts as 1 before)
    y = x + ε,  φ ~ U[−1, 1],  σ ~ U[0.04, 0.3]

with H the discrete Hartley transform. S has mean 1, so that σ is the standard deviation of a pixel's noise.
Then, mode by mode (Wiener 1949),

    ŷ_k | φ, σ ~ N(0, P_k + σ² S_k)
    x̂_k | y, φ, σ ~ N(g_k ŷ_k, g_k σ² S_k),   g_k = P_k/(P_k + σ² S_k).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.stats import logistic

from .target import Density, Target, digest_of, jax_density


class Simulation(NamedTuple):
    """One data set, and what it was made from."""

    phi: Array
    sigma: Array
    x: Array
    """The field, ``f[side, side]``"""
    y: Array
    """The field with noise, ``f[side, side]``"""


class PosteriorGrid(NamedTuple):
    """p(φ, σ | y) at the midpoints of equal cells."""

    phi: np.ndarray
    """``f[n]``"""
    sigma: np.ndarray
    """``f[n]``"""
    probability: np.ndarray
    """Of every cell, ``f[n, n]``, φ first; sums to 1."""


@dataclass(frozen=True)
class GaussianField:
    """The model above: its transform, spectra, exact draws and log densities.

    Methods are pure functions of arrays (``grid`` and ``target`` apart) and work under ``jit`` and ``vmap``.

    Parameters
    ----------
    side : pixels along an edge.
    exponent : of the field's power spectrum, |k|^−exponent.
    phi, sigma : the intervals of the uniform priors.

    Raises
    ------
    ValueError
        If the side is below 2, an interval is empty, or a noise level is not positive.
    """

    side: int = 16
    exponent: float = 2.0
    phi: tuple[float, float] = (-1.0, 1.0)
    sigma: tuple[float, float] = (0.04, 0.3)

    def __post_init__(self) -> None:
        if self.side < 2:
            raise ValueError(f"side={self.side}: a field needs at least 2 pixels along an edge")
        if not (self.phi[0] < self.phi[1] and 0 < self.sigma[0] < self.sigma[1]):
            raise ValueError(f"phi={self.phi}, sigma={self.sigma}: give (low, high), sigma above 0")

    @cached_property
    def wave_number(self) -> np.ndarray:
        """|k| of every mode, integer waves along each edge, ``f[side, side]``; 1 in place of 0."""
        k = np.fft.fftfreq(self.side) * self.side
        length = np.hypot(k[:, None], k)
        return np.where(length == 0, 1.0, length)

    @cached_property
    def prior_spectrum(self) -> np.ndarray:
        """P, ``f[side, side]``."""
        return self.wave_number**-self.exponent

    def noise_spectrum(self, phi: Array) -> Array:
        """S_φ, of mean 1, ``f[side, side]``."""
        power = jnp.asarray(self.wave_number) ** phi
        return power / power.mean()

    def transform(self, x: Array) -> Array:
        """The orthonormal discrete Hartley transform, ``f[side, side]`` to itself (Bracewell 1983).

        Its matrix is cas(2π k·n/side)/side, cas = cos + sin: symmetric, orthogonal, so its own inverse; it
        diagonalizes every covariance that is stationary with S(k) = S(−k).
        """
        waves = jnp.fft.fft2(x, norm="ortho")
        return waves.real - waves.imag

    # Exact draws.

    def draw_parameters(self, key: Array) -> tuple[Array, Array]:
        """(φ, σ) of the prior."""
        place = jax.random.uniform(key, (2,))
        return _within(self.phi, place[0]), _within(self.sigma, place[1])

    def draw_field(self, key: Array) -> Array:
        """x of the prior, ``f[side, side]``."""
        return self.transform(jnp.sqrt(self.prior_spectrum) * self._white(key))

    def draw_noise(self, key: Array, phi: Array) -> Array:
        """ε at σ = 1, ``f[side, side]``."""
        return self.transform(jnp.sqrt(self.noise_spectrum(phi)) * self._white(key))

    def simulate(self, key: Array) -> Simulation:
        """Parameters, field and data of the joint distribution."""
        of_parameters, of_field, of_noise = jax.random.split(key, 3)
        phi, sigma = self.draw_parameters(of_parameters)
        x = self.draw_field(of_field)
        return Simulation(phi, sigma, x, x + sigma * self.draw_noise(of_noise, phi))

    def wiener_gain(self, phi: Array, sigma: Array) -> Array:
        """g = P/(P + σ² S_φ) of every mode, ``f[side, side]``."""
        return 1 / (1 + sigma**2 * self.noise_spectrum(phi) / self.prior_spectrum)

    def wiener_variance(self, phi: Array, sigma: Array) -> Array:
        """The variance of every mode given the data, g σ² S_φ, ``f[side, side]``; its mean is a pixel's."""
        return self.wiener_gain(phi, sigma) * sigma**2 * self.noise_spectrum(phi)

    def wiener_mean(self, y: Array, phi: Array, sigma: Array) -> Array:
        """E[x | y, φ, σ], ``f[side, side]``."""
        return self.transform(self.wiener_gain(phi, sigma) * self.transform(y))

    def draw_wiener(self, key: Array, y: Array, phi: Array, sigma: Array) -> Array:
        """x | y, φ, σ, exact, ``f[side, side]``."""
        spread = jnp.sqrt(self.wiener_variance(phi, sigma)) * self._white(key)
        return self.transform(self.wiener_gain(phi, sigma) * self.transform(y) + spread)

    # The parameters, unconstrained: u = logit of the places of φ and σ in their intervals.

    def constrain(self, u: Array) -> tuple[Array, Array]:
        """(φ, σ) of ``f[..., 2]``."""
        place = jax.nn.sigmoid(u)
        return _within(self.phi, place[..., 0]), _within(self.sigma, place[..., 1])

    def unconstrain(self, phi: Array, sigma: Array) -> Array:
        """u of (φ, σ), ``f[..., 2]``; infinite at an interval's ends."""
        ends = (phi, self.phi), (sigma, self.sigma)
        return jnp.stack(
            [jax.scipy.special.logit((value - low) / (high - low)) for value, (low, high) in ends], -1
        )

    def density_given_data(self, y: Array) -> Density:
        """log p(u, y), x integrated out; normalized over u and y, Jacobian included. Operand: ŷ."""
        return jax_density(_GivenData(self), self.transform(y))

    def density_given_noise(self, noise: Array) -> Density:
        """log p(u, ε) = log p(u | x, y) + constant, with ε = y − x. Operand: ε̂."""
        return jax_density(_GivenNoise(self), self.transform(noise))

    def log_noise(self, coefficients: Array, phi: Array, sigma: Array) -> Array:
        """log p(ε̂ | φ, σ) of the noise's coefficients, ``f[side, side] -> f[]``."""
        return _log_normal(coefficients, sigma**2 * self.noise_spectrum(phi))

    def target(self, y: Array) -> Target:
        """p(u | y) with x integrated out: two coordinates, which constrain to ``phi`` and ``sigma``.

        There are no ``blocks``: a generic update of u leaves p(u | y) invariant and not p(u | x, y), so that
        a sweep with x drawn before it would not end in the joint distribution. Draw x afterwards
        (`draw_wiener`), or alternate with it (`samplers.gibbs_diffusion`).

        Raises
        ------
        ValueError
            If y does not have the field's shape, or is not finite.
        """
        data = np.asarray(y, float)
        if data.shape != (self.side, self.side):
            raise ValueError(f"y has the shape {data.shape}; the field's is {(self.side, self.side)}")
        if not np.isfinite(data).all():
            raise ValueError("y has values that are not finite")
        return Target(
            name=f"gaussian_field_{self.side}",
            dim=2,
            density=self.density_given_data(jnp.asarray(data)),
            param_names=("phi", "sigma"),
            constrain=lambda u: np.stack([np.asarray(v) for v in self.constrain(jnp.asarray(u))], -1),
            digest=digest_of("gaussian_field", repr(self), data.tobytes()),
            model=self,
        )

    def grid(self, y: Array, n: int = 400) -> PosteriorGrid:
        """p(φ, σ | y) on n × n midpoints of the priors' intervals (uniform, so the likelihood decides)."""
        place = (np.arange(n) + 0.5) / n
        phi, sigma = np.asarray(_within(self.phi, place)), np.asarray(_within(self.sigma, place))
        log_p = np.asarray(_log_likelihood_on_grid(self, self.transform(jnp.asarray(y)), phi, sigma))
        probability = np.exp(log_p - log_p.max())
        return PosteriorGrid(phi, sigma, probability / probability.sum())

    def _white(self, key: Array) -> Array:
        return jax.random.normal(key, (self.side, self.side))


@dataclass(frozen=True)
class _GivenData:
    """log p(u, ŷ). Equal for equal fields, so that data sets share compiled programs."""

    field: GaussianField

    def __call__(self, coefficients: Array, u: Array) -> Array:
        phi, sigma = self.field.constrain(u)
        variance = jnp.asarray(self.field.prior_spectrum) + sigma**2 * self.field.noise_spectrum(phi)
        return _log_normal(coefficients, variance) + logistic.logpdf(u).sum()


@dataclass(frozen=True)
class _GivenNoise:
    """log p(u, ε̂), likewise."""

    field: GaussianField

    def __call__(self, coefficients: Array, u: Array) -> Array:
        return self.field.log_noise(coefficients, *self.field.constrain(u)) + logistic.logpdf(u).sum()


def _log_normal(z: Array, variance: Array) -> Array:
    """log N(z; 0, diag(variance)), over all elements."""
    return -0.5 * jnp.sum(z**2 / variance + jnp.log(2 * jnp.pi * variance))


def _within[T](interval: tuple[float, float], place: T) -> T:
    low, high = interval
    return low + (high - low) * place  # pyright: ignore[reportOperatorIssue, reportReturnType]


def _log_likelihood_on_grid(
    field: GaussianField, coefficients: Array, phi: np.ndarray, sigma: np.ndarray
) -> Array:
    """log p(ŷ | φ, σ), ``f[len(phi), len(sigma)]``; a row at a time, which bounds the memory."""

    def row(phi: Array) -> Array:
        noise = field.noise_spectrum(phi)
        levels = jnp.asarray(sigma)[:, None, None]
        variances = jnp.asarray(field.prior_spectrum) + levels**2 * noise
        return jax.vmap(_log_normal, (None, 0))(coefficients, variances)

    return jax.lax.map(row, jnp.asarray(phi))
