"""How far draws are from a reference as distributions: Wasserstein distances and a Stein discrepancy.

Errors of means cannot see a posterior of the right centre and the wrong width, which is what methods that
are biased by construction give; these can. They are computed for every sampler, each with what the same
figure comes to for draws of the reference's own distribution.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import wasserstein_distance

PROJECTIONS = 100
"""Directions of the sliced distance: the same for all runs that have as many parameters."""
STEIN_DRAWS = 1000
"""Draws at most that a Stein discrepancy is computed from: its cost is quadratic in them."""


def wasserstein(x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Wasserstein-1 distances of the empirical distributions of columns: ``f[n, k], f[m, k] -> f[k]``.

    Exact (`scipy.stats.wasserstein_distance`); not finite where a draw is not. ``weight`` is of the draws of
    ``x``, ``f[n]``; None where all count the same.
    """
    return np.array([wasserstein_distance(a, b, weight) for a, b in zip(x.T, y.T, strict=True)])


def sliced_wasserstein(x: np.ndarray, y: np.ndarray) -> float:
    """The mean Wasserstein-1 distance of projections: ``f[n, k], f[m, k] -> f[]``.

    `PROJECTIONS` directions, uniform on the unit sphere, drawn once and for all (Bonneel, Rabin, Peyré
    and Pfister 2015, for p = 1). In k dimensions a shift by δ counts as about |δ| √(2/(πk)).
    """
    directions = np.random.default_rng(0).standard_normal((x.shape[1], PROJECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    return float(wasserstein(x @ directions, y @ directions).mean())


def halves(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint halves of ``f[chain, draw, k]``, by chain; of the draws where there is one chain."""
    if len(draws) > 1:
        middle = len(draws) // 2
        return draws[:middle], draws[middle:]
    middle = draws.shape[1] // 2
    return draws[:, :middle], draws[:, middle:]


class Wasserstein(NamedTuple):
    """Distances of draws to a reference, both standardized by the reference's mean and sd."""

    marginal: np.ndarray
    """``f[parameter]``, in the reference's standard deviations."""
    sliced: float


def wasserstein_distances(draws: np.ndarray, to: np.ndarray, reference: np.ndarray) -> Wasserstein:
    """Distances between two samples on the scale of a reference; of its two halves they are a noise floor.

    Parameters
    ----------
    draws, to, reference : ``f[chain, draw, parameter]``; no parameter of the reference is constant
    """
    x, y = (_standardized(sample, reference) for sample in (draws, to))
    with np.errstate(invalid="ignore"):  # draws that are not finite have no distance
        return Wasserstein(wasserstein(x, y), sliced_wasserstein(x, y))


def weighted_marginals(draws: np.ndarray, weight: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`Wasserstein.marginal` of weighted draws to a reference: ``f[parameter]``.

    Parameters
    ----------
    draws, reference : ``f[chain, draw, parameter]``
    weight : ``f[chain * draw]``
    """
    x, y = (_standardized(sample, reference) for sample in (draws, reference))
    return wasserstein(x, y, weight)


def _standardized(sample: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """``f[chain, draw, k] -> f[chain * draw, k]``, by the reference's mean and standard deviation."""
    with np.errstate(invalid="ignore"):
        return ((sample - reference.mean((0, 1))) / reference.std((0, 1))).reshape(-1, sample.shape[-1])


def thinned(draws: np.ndarray, most: int = STEIN_DRAWS) -> np.ndarray:
    """At most ``most`` draws, as many of every chain and evenly: ``f[chain, draw, k] -> f[n, k]``.

    More chains than ``most`` give their last draw, the chains taken evenly.
    """
    chains, n, dim = draws.shape
    if chains > most:
        return draws[np.linspace(0, chains - 1, most).round().astype(int), -1]
    each = np.linspace(0, n - 1, min(n, most // chains)).round().astype(int)
    return draws[:, each].reshape(-1, dim)


def stein_kernel(x: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The Stein kernel of all pairs of points: ``f[n, d], f[n, d] -> f[n, n]``.

    The Langevin Stein operator applied to both arguments of the inverse multiquadric k = (1 + r²)^(−1/2).
    For δ = x − y, r² = |δ|² and scores s = ∇log p (Gorham and Mackey 2017, section 4),

        k₀(x, y) = s(x)·s(y) k + s(x)·∇_y k + s(y)·∇_x k + tr ∇_x∇_yᵀ k
                 = s(x)·s(y) k + ((s(x) − s(y))·δ + d) k³ − 3 r² k⁵.

    E k₀(X, y) = 0 for X from p and every y.
    """
    norms, inner = np.einsum("ij,ij->i", x, x), x @ x.T
    r2 = np.maximum(norms[:, None] + norms - 2 * inner, 0.0)
    cross = scores @ x.T  # [i, j]: s(xᵢ)·xⱼ
    own = np.diag(cross)
    along = own[:, None] + own - cross - cross.T  # (s(x) − s(y))·δ
    k2 = 1 / (1 + r2)
    return np.sqrt(k2) * (scores @ scores.T + (along + x.shape[1] - 3 * r2 * k2) * k2)


class Stein(NamedTuple):
    """A kernel Stein discrepancy."""

    squared: float
    """The U-statistic of KSD²: its mean is 0 for independent draws of p, so that it may be negative."""
    error: float
    """Its standard deviation for as many independent draws of p."""

    @property
    def value(self) -> float:
        """KSD, 0 where its square is estimated as negative."""
        return float(np.sqrt(np.maximum(self.squared, 0.0)))

    @property
    def floor(self) -> float:
        """What independent draws of p may well show: the root of one standard deviation of KSD²."""
        return float(np.sqrt(self.error))


def stein_discrepancy(
    draws: np.ndarray, scores: np.ndarray, reference: np.ndarray, reference_scores: np.ndarray
) -> Stein:
    """KSD of draws from the density whose scores are given, preconditioned by a reference's covariance.

    With Σ = L Lᵀ the covariance of the reference, points become L⁻¹x and scores Lᵀs: the discrepancy is
    that of the whitened draws from the whitened density, whatever the units and correlations.

    KSD² is estimated by the U-statistic, the mean of k₀ over all pairs of different draws (Liu, Lee and
    Jordan 2016). It is degenerate under p: Var = 2 E[k₀(X, X′)²] / (n (n − 1)), the expectation taken
    over pairs of the reference.

    Parameters
    ----------
    draws, scores : ``f[n, dim]``, unconstrained draws and ∇log p there
    reference, reference_scores : ``f[m, dim]``, draws from p and ∇log p there, m > dim

    Raises
    ------
    ValueError
        If the covariance of the reference cannot be inverted.
    """
    n, m, dim = len(draws), len(reference), draws.shape[1]
    if m <= dim:
        raise ValueError(f"{m} reference draws have no invertible covariance in {dim} dimensions")
    try:
        factor = np.linalg.cholesky(np.atleast_2d(np.cov(reference, rowvar=False)))
    except np.linalg.LinAlgError:
        raise ValueError("the covariance of the reference draws cannot be inverted") from None

    def pairs(x: np.ndarray, s: np.ndarray) -> np.ndarray:
        kernel = stein_kernel(np.linalg.solve(factor, (x - reference.mean(0)).T).T, s @ factor)
        np.fill_diagonal(kernel, 0.0)
        return kernel

    squared = pairs(draws, scores).sum() / (n * (n - 1))
    second_moment = (pairs(reference, reference_scores) ** 2).sum() / (m * (m - 1))
    return Stein(float(squared), float(np.sqrt(2 * second_moment / (n * (n - 1)))))
