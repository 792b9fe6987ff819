"""How Gibbs sampling mixes on spaces of functions that its updates map into themselves, and what bounds say.

An update replaces a function of the state by its conditional expectation given all else. Where a few
functions span a space that every update maps into itself, an update is a matrix of coefficients on it, a
sweep a product of such matrices, and autocorrelations follow exactly. Linear functions of a Gaussian are such
a space (Amit 1991; Roberts & Sahu 1997), and the random scan has its second largest eigenvalue there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ...models.target import Target
from ...samplers.gibbs.scans import Scan


@dataclass(frozen=True)
class FunctionSpace:
    """Functions of mean 0 that are mapped into their own span by every update.

    Parameters
    ----------
    updates : ``f[block, k, k]``; column j has the coefficients of what an update makes of function j
    gram : ``f[k, k]``, their covariances under the target
    """

    updates: np.ndarray
    gram: np.ndarray

    def sweep(self, scan: Scan, weights: Sequence[float] | None = None) -> np.ndarray:
        """The operator of one sweep: ``f[k, k]``.

        f at the end of updates 1, …, n has the expectation P_1 ⋯ P_n f at their beginning: the last one acts
        on f first. What is drawn anew in every sweep, an order or blocks, is averaged over.
        """
        blocks = len(self.updates)
        if scan == "systematic":
            return self._product(range(blocks))
        if scan == "reversed":
            return self._product(reversed(range(blocks)))
        if scan == "random-permutation":
            orders = itertools.permutations(range(blocks))
            return np.mean([self._product(order) for order in orders], axis=0)
        shares = np.full(blocks, 1.0) if scan == "random" else np.asarray(weights, float)
        one = np.tensordot(shares / shares.sum(), self.updates, axes=1)
        return np.linalg.matrix_power(one, blocks)

    def _product(self, order: Iterable[int]) -> np.ndarray:
        product = np.eye(len(self.gram))
        for block in order:
            product = product @ self.updates[block]
        return product

    def autocorrelations(self, sweep: np.ndarray, function: int, lags: int) -> np.ndarray:
        """Of one of the functions at 0, …, ``lags`` sweeps: ``f[lags + 1]``."""
        found, image = [], np.eye(len(self.gram))[function]
        for _ in range(lags + 1):
            found.append(self.gram[function] @ image)
            image = sweep @ image
        return np.array(found) / self.gram[function, function]


def linear_functions(precision: np.ndarray) -> FunctionSpace:
    """The coordinates of N(0, Q⁻¹): updating i puts −Σ_{j≠i} Q_ij x_j / Q_ii in the place of x_i."""
    n = len(precision)
    updates = np.stack([np.eye(n)] * n)
    for i in range(n):
        updates[i, :, i] -= precision[i] / precision[i, i]
    return FunctionSpace(updates, np.linalg.inv(precision))


def regression_functions(n: int, d: int) -> FunctionSpace:
    """σ², the sum of squares given β, and a coefficient, of a normal linear regression with flat priors.

    With β flat and σ flat on (0, ∞), σ² | β is S(β)/χ² with n − 1 degrees of freedom, and S(β) | σ is
    RSS + σ² χ² with d: both E[σ² | β] = S/(n − 3) and E[S | σ] = RSS + d σ² are linear.
    On u = σ², w = S/(n − 3), v = β_j, each less its mean, updating β gives (u, a u, 0) and updating σ
    (w, w, v), a = d/(n − 3). A conditional expectation is a projection: ⟨w, w⟩ = ⟨u, w⟩ = a ⟨u, u⟩, and v is
    uncorrelated with both, by symmetry.

    Parameters
    ----------
    n, d : observations and coefficients; n > d + 5, or σ² has no variance
    """
    if n <= d + 5:
        raise ValueError(f"{n} observations of {d} coefficients leave σ² without a variance: give more")
    a = d / (n - 3)
    beta = np.array([[1.0, a, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    sigma = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    return FunctionSpace(np.stack([beta, sigma]), np.array([[1.0, a, 0.0], [a, a, 0.0], [0.0, 0.0, 1.0]]))


def integrated_time(autocorrelations: np.ndarray) -> float:
    """1 + 2 Σ r_k over the lags that are given, r_0 = 1 among them."""
    return float(1 + 2 * np.sum(autocorrelations[1:]))


# -- relaxation ---------------------------------------------------------------------------------------


def precision_of(target: Target) -> np.ndarray:
    """Q of a target N(0, Q⁻¹), from its gradients: what conditionals are made from has no part in it."""
    gradients = jax.jit(jax.vmap(lambda x: target.value_and_grad(x)[1]))  # −Qx, at unit vectors
    return -np.asarray(gradients(jnp.eye(target.dim)))


@dataclass(frozen=True)
class Relaxation:
    """What is known of random scan, one uniformly drawn coordinate an update, on N(0, Q⁻¹)."""

    slowest: np.ndarray
    """v, ``f[n]``: vᵀx, of variance 1, is the eigenfunction of the second largest eigenvalue."""
    smallest: float
    """λ_min of D^−½ Q D^−½, D the diagonal of Q"""
    condition: float
    """κ: the largest over the smallest eigenvalue of Q"""

    @property
    def n(self) -> int:
        return len(self.slowest)

    @property
    def updates(self) -> float:
        """The relaxation time, 1/(1 − second largest eigenvalue), in single updates."""
        return self.n / self.smallest

    def correlation(self, sweeps: int) -> float:
        """Of the slowest function, that many times n updates apart."""
        return (1 - self.smallest / self.n) ** (self.n * sweeps)


def relaxation(precision: np.ndarray) -> Relaxation:
    """The matrix of an update on linear functions, averaged over coordinates, is I − Q D⁻¹/n.

    It is similar to I − D^−½ Q D^−½/n; an eigenvector z of the latter gives the function zᵀ D^½ x.
    """
    root = np.sqrt(np.diagonal(precision))
    values, vectors = np.linalg.eigh(precision / np.outer(root, root))
    slowest = root * vectors[:, 0]
    slowest /= math.sqrt(slowest @ np.linalg.solve(precision, slowest))
    return Relaxation(slowest, float(values[0]), float(np.linalg.cond(precision)))


def entropy_bound(known: Relaxation) -> float:
    """The largest relaxation time that the contraction of Ascolani, Lavenant & Zanella (2024) allows.

    One update contracts the Kullback-Leibler divergence to the target by 1 − 1/(κ* n), κ* the condition
    number coordinate by coordinate: 1/κ* is the largest c for which −log p − c/2 Σ L_i x_i² is convex, L_i
    the largest curvature along coordinate i; for a Gaussian λ_min(D^−½ Q D^−½). For densities 1 + εf under
    the target, ε → 0, this is ‖Pf‖² ≤ (1 − 1/(κ* n)) ‖f‖²: no eigenvalue exceeds √(1 − 1/(κ* n)). The bound
    lies between κ* n and 2 κ* n.
    """
    return 1 / (1 - math.sqrt(1 - known.smallest / known.n))


def conductance_bound(known: Relaxation) -> float:
    """κ² n^7.5 of Wadia (2024), its constant and its logarithms taken as 1.

    The number of updates after which total variation from a warm start is at most γ grows like the relaxation
    time times log 1/γ; this is the factor of the logarithm in the bound, where n is so large against
    log(2M/γ) that its maximum is 1. The paper's O* hides a universal constant: only orders can be compared.
    """
    return known.condition**2 * known.n**7.5
