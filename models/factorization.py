"""Log densities that are a prior and a sum over rows of data, for methods that use minibatches.

log p(θ) = log prior(θ) + Σ_i log_likelihood_i(θ), i = 0 … n − 1, on the unconstrained space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .target import Target, digest_of, guarded, jax_density, unconstrained_target


class FactorizationError(ValueError):
    """A density is not the sum over rows that it was taken for."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Factorization:
    """A prior and a sum over ``n`` rows, as pure functions of ``(operand, …)``.

    A pytree as `Density` is: ``operand`` (the rows) is traced, the functions are static. Indices of rows
    may be traced: a minibatch can be drawn inside a compiled loop.

    What an evaluation costs is the number of its indices, in datum-gradients; n of them are one
    gradient. The part without rows is not counted.
    """

    prior: Callable[[Any, Array], Array] = field(metadata={"static": True})
    """``(operand, f[dim]) -> f[]``, Jacobian included."""
    likelihood: Callable[[Any, Array, Array], Array] = field(metadata={"static": True})
    """``(operand, f[dim], i[m]) -> f[]``: the sum over these rows, each as often as it is named."""
    operand: Any
    n: int = field(metadata={"static": True})
    """The number of rows."""
    rows: str = field(metadata={"static": True})
    """What the rows are, in the user's words: a Stan program's size variable."""

    def log_prior(self, theta: Array) -> Array:
        """The part without rows: ``f[dim] -> f[]``."""
        return self.prior(self.operand, theta)

    def log_likelihood(self, theta: Array, indices: Array) -> Array:
        """The sum over the rows ``indices``, not scaled: ``(f[dim], i[m]) -> f[]``."""
        return self.likelihood(self.operand, theta, indices)

    def log_density_batch(self, theta: Array, indices: Array) -> Array:
        """log prior + n/m times the sum over the rows ``indices``: ``(f[dim], i[m]) -> f[]``.

        Unbiased for the log density, up to one constant, where every row is as likely to be drawn.
        """
        return self.log_prior(theta) + self.n / len(indices) * self.log_likelihood(theta, indices)

    def value_and_grad_batch(self, theta: Array, indices: Array) -> tuple[Array, Array]:
        """`log_density_batch` and its gradient, (−inf, 0) where they are not finite; costs m datum-gradients.

        ``(f[dim], i[m]) -> (f[], f[dim])``
        """
        return guarded(*jax.value_and_grad(self.log_density_batch)(theta, indices))


def from_rows(
    log_prior: Callable[[Array], Array],
    log_likelihood_row: Callable[[Array, Any], Array],
    data: Any,
    rows: str = "rows",
) -> Factorization:
    """The factorization of a model written in JAX.

    Parameters
    ----------
    log_prior : ``f[dim] -> f[]``
    log_likelihood_row : ``(f[dim], row) -> f[]``; a row has the structure of ``data``
    data : an array or a pytree of arrays, each ``[n, …]``
    rows : what the rows are called

    Raises
    ------
    FactorizationError
        If the arrays have no rows or not the same number of them.
    """
    lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(data)}
    if len(lengths) != 1 or lengths <= {(), (0,)}:
        found = sorted(str(np.shape(leaf)) for leaf in jax.tree.leaves(data))
        raise FactorizationError(f"the arrays of data need one leading size above 0, got {', '.join(found)}")
    ((n,),) = lengths
    return Factorization(
        _Prior(log_prior), _Likelihood(log_likelihood_row), jax.tree.map(jnp.asarray, data), n, rows
    )


@dataclass(frozen=True)
class _Prior:
    """Equal for equal functions, or jit would take every factorization for a new program."""

    log_prior: Callable[[Array], Array]

    def __call__(self, operand: Any, theta: Array) -> Array:
        return self.log_prior(theta)


@dataclass(frozen=True)
class _Likelihood:
    """Equal as `_Prior` is."""

    log_likelihood_row: Callable[[Array, Any], Array]

    def __call__(self, operand: Any, theta: Array, indices: Array) -> Array:
        taken = jax.tree.map(lambda leaf: leaf[indices], operand)
        return jax.vmap(self.log_likelihood_row, (None, 0))(theta, taken).sum()


def factorized_target(
    name: str,
    dim: int,
    log_prior: Callable[[Array], Array],
    log_likelihood_row: Callable[[Array, Any], Array],
    data: Any,
    *,
    rows: str = "rows",
    param_names: tuple[str, ...] | None = None,
    exact: Callable[[Array, int], Array] | None = None,
) -> Target:
    """A target on R^dim from a prior and the likelihood of one row, both written in JAX.

    ``log_prior(f[dim])``, ``log_likelihood_row(f[dim], row)`` and ``data`` are those of `from_rows`;
    `Target.likelihood` is the factorization. The digest is made from the name, the dimension and the data:
    give different densities of the same data different names.

    Raises
    ------
    FactorizationError
        If the arrays have no rows or not the same number of them.
    """
    found = from_rows(log_prior, log_likelihood_row, data, rows)
    content = digest_of(*(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(found.operand)))
    density = jax_density(_whole, found)
    target = unconstrained_target(name, dim, density, param_names=param_names, exact=exact, settings=content)
    return replace(target, likelihood=found)


def _whole(factorization: Factorization, theta: Array) -> Array:
    return factorization.log_density_batch(theta, jnp.arange(factorization.n))


class PartitionErrors(NamedTuple):
    """How far the sum over disjoint batches is from the density itself; the largest over the points."""

    value: float
    """Relative to the value (to 1 where it is smaller), a constant left out."""
    gradient: float
    """The largest element's, relative to the largest element."""


POINTS = 3
"""Random points at which a factorization is tested."""
TRIES = 100
"""Points that may be tried in search of them."""
TOLERANCES = PartitionErrors(value=1e-9, gradient=1e-8)
FLOAT32_TOLERANCES = PartitionErrors(value=1e-5, gradient=1e-3)
"""Where the density is evaluated in float32: the errors of sums of thousands of rows."""
MANY_ROWS = 50
"""Rows from which on a partition has five batches and not two."""


def partition_errors(
    factorization: Factorization, log_density: Callable[[Array], Array], points: np.ndarray
) -> PartitionErrors:
    """Compares prior + the sum over disjoint batches with the log density.

    The batches are those of one random permutation, so that a likelihood in which neighbouring rows
    depend on each other does not pass.

    Parameters
    ----------
    log_density : ``f[dim] -> f[]``, of all data
    points : ``f[k, dim]``, k ≥ 2, at which the density is finite. The two may differ by a constant, as
        they do where a density drops constants that it cannot tell from data drawn later.
    """
    whole = jax.jit(jax.value_and_grad(log_density))
    prior = jax.jit(jax.value_and_grad(factorization.log_prior))
    part = jax.jit(jax.value_and_grad(factorization.log_likelihood))
    batches = _partition(factorization.n)
    differences, scales, gradient_errors = [], [], []
    for point in jnp.asarray(points):
        value, gradient = whole(point)
        summed = jax.tree.map(
            lambda *terms: sum(np.asarray(term) for term in terms),
            prior(point),
            *(part(point, batch) for batch in batches),
        )
        differences.append(float(summed[0] - value))
        scales.append(max(1.0, abs(float(value))))
        error, scale = np.max(np.abs(summed[1] - gradient)), np.max(np.abs(gradient))
        gradient_errors.append(float(error / scale) if scale > 0 else float(error))
    value_error = (np.max(differences) - np.min(differences)) / max(scales)
    return PartitionErrors(float(value_error), float(np.max(gradient_errors)))


def finite_points(log_density: Callable[[Array], Array], dim: int) -> np.ndarray:
    """Random points of finite density and gradient, ``f[POINTS, dim]``, nearer to 0 the longer the search.

    Raises
    ------
    FactorizationError
        If there are fewer among `TRIES`.
    """
    evaluate = jax.jit(jax.value_and_grad(log_density))
    random, found = np.random.default_rng(0), []
    for attempt in range(TRIES):
        point = random.uniform(-1, 1, dim) / (1 + attempt / 10)
        if all(np.isfinite(leaf).all() for leaf in evaluate(jnp.asarray(point))):
            found.append(point)
        if len(found) == POINTS:
            return np.array(found)
    raise FactorizationError(f"no {POINTS} points of finite density in {TRIES} tries: nothing can be tested")


def _partition(n: int) -> list[Array]:
    size = n // (5 if n >= MANY_ROWS else 2)
    order = np.random.default_rng(0).permutation(n)
    return [jnp.asarray(order[i : i + size]) for i in range(0, n, size)]
