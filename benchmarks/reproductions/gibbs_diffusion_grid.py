"""p(φ, σ | y) of a Gaussian field by quadrature, and what follows from it: moments, and E[x | y].

Written apart from `essper.models.gaussian_field`, in NumPy and with a transform of its own: samplers are held
against this, and so is the model's density. Modes of the same |k| share their variance, hence enter as a sum
of squares: 41 terms in place of 256 on 16 × 16 pixels.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...models.gaussian_field import GaussianField

NODES = 64
"""Of Gauss and Legendre, in each of the two directions."""


class Shells(NamedTuple):
    """The modes by their wave number."""

    length: np.ndarray
    """|k|, every value once, 1 in place of 0, ``f[shell]``"""
    size: np.ndarray
    """How many modes have it, ``f[shell]``"""
    of_mode: np.ndarray
    """The shell of every mode, ``i[side, side]``"""


@dataclass(frozen=True)
class Posterior:
    """p(φ, σ | y) at nodes, and what it comes to."""

    phi: np.ndarray
    """``f[n]``"""
    sigma: np.ndarray
    """``f[n]``"""
    probability: np.ndarray
    """The weight of every node, ``f[n, n]``, φ first; sums to 1."""

    @property
    def mean(self) -> np.ndarray:
        """Of φ and σ, ``f[2]``."""
        return np.array([self.probability.sum(1) @ self.phi, self.probability.sum(0) @ self.sigma])

    @property
    def sd(self) -> np.ndarray:
        """Of φ and σ, ``f[2]``."""
        squares = (self.phi - self.mean[0]) ** 2, (self.sigma - self.mean[1]) ** 2
        return np.sqrt([self.probability.sum(1) @ squares[0], self.probability.sum(0) @ squares[1]])


@functools.lru_cache(maxsize=8)
def shells(side: int) -> Shells:
    """All modes of a square, grouped."""
    waves = np.rint(np.fft.fftfreq(side) * side).astype(int)
    squares = waves[:, None] ** 2 + waves**2
    found, of_mode, size = np.unique(squares, return_inverse=True, return_counts=True)
    length = np.sqrt(np.maximum(found, 1))
    return Shells(length, size.astype(float), of_mode.reshape(squares.shape))


def hartley(x: np.ndarray) -> np.ndarray:
    """The orthonormal discrete Hartley transform of ``f[side, side]``."""
    waves = np.fft.fft2(x)
    return (np.real(waves) - np.imag(waves)) / len(x)


def variances(field: GaussianField, phi: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P ``f[shell]``, and σ² S_φ ``f[φ, σ, shell]``."""
    length, size, _ = shells(field.side)
    power = length ** phi[:, None]
    spectrum = power * size.sum() / (power @ size)[:, None]
    return length**-field.exponent, sigma[:, None] ** 2 * spectrum[:, None, :]


def log_likelihood(field: GaussianField, y: np.ndarray, phi: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """log p(y | φ, σ) at all pairs, ``f[φ, σ]``, without the (2π) of it."""
    _, size, of_mode = shells(field.side)
    energy = np.bincount(of_mode.ravel(), (hartley(y) ** 2).ravel())
    prior, noise = variances(field, phi, sigma)
    total = prior + noise
    return -0.5 * (np.log(total) @ size + (1 / total) @ energy)


def posterior(field: GaussianField, y: np.ndarray, nodes: int = NODES) -> Posterior:
    """By Gauss-Legendre nodes in the prior's two intervals: the prior is flat, so the likelihood decides."""
    places, weights = np.polynomial.legendre.leggauss(nodes)
    phi, sigma = (low + (high - low) * (places + 1) / 2 for low, high in (field.phi, field.sigma))
    log_p = log_likelihood(field, y, phi, sigma)
    probability = np.exp(log_p - log_p.max()) * weights[:, None] * weights
    return Posterior(phi, sigma, probability / probability.sum())


def blind_mean(field: GaussianField, y: np.ndarray, known: Posterior) -> np.ndarray:
    """E[x | y], ``f[side, side]``: the Wiener filter averaged over the posterior of φ and σ."""
    prior, noise = variances(field, known.phi, known.sigma)
    gain = np.einsum("ij,ijk->k", known.probability, prior / (prior + noise))
    return hartley(gain[shells(field.side).of_mode] * hartley(y))


def wiener_mean(field: GaussianField, y: np.ndarray, phi: float, sigma: float) -> np.ndarray:
    """E[x | y, φ, σ], ``f[side, side]``."""
    prior, noise = variances(field, np.array([phi]), np.array([sigma]))
    return hartley((prior / (prior + noise[0, 0]))[shells(field.side).of_mode] * hartley(y))


def density_on_cells(
    field: GaussianField, y: np.ndarray, cells: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """φ ``f[cells]``, σ ``f[cells]`` in the middle of equal cells, and p over its largest value.."""
    places = (np.arange(cells) + 0.5) / cells
    phi, sigma = (low + (high - low) * places for low, high in (field.phi, field.sigma))
    log_p = log_likelihood(field, y, phi, sigma)
    return phi, sigma, np.exp(log_p - log_p.max())


def psnr(x: np.ndarray, estimate: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB; the peak is the range of the true field."""
    return float(10 * np.log10(np.ptp(x) ** 2 / np.mean((x - estimate) ** 2)))
