"""Stan's transforms of vectors and matrices as wholes.

Each takes free values ``f[..., n]`` and the declared dimensions, and returns the values ``f[..., *shape]``
and log Jacobians ``f[...]``; leading axes are those of arrays. Formulas: Stan Reference Manual 2.37,
"Constraint transforms", which gives their sources.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

Dims = tuple[int, ...]
Transformed = tuple[jax.Array, jax.Array]


# -- sums of zero and of one ----------------------------------------------------------------------


def _sum_to_zero(free: jax.Array, axis: int) -> jax.Array:
    """The isometric map from n free values along an axis to n + 1 that sum to 0 (Egozcue et al. 2003)."""
    free = jnp.moveaxis(free, axis, -1)
    n = np.arange(1, free.shape[-1] + 1)
    scaled = free / np.sqrt(n * (n + 1.0))
    later = jnp.flip(jnp.cumsum(jnp.flip(scaled, -1), -1), -1)
    last = [(0, 0)] * (free.ndim - 1)
    full = jnp.pad(later, [*last, (0, 1)]) - jnp.pad(scaled * n, [*last, (1, 0)])
    return jnp.moveaxis(full, -1, axis)


def _no_jacobian(free: jax.Array) -> jax.Array:
    return jnp.zeros(free.shape[:-1], free.dtype)


def _columns(free: jax.Array, rows: int, columns: int) -> jax.Array:
    """``f[..., rows, columns]`` from free values that go through it column by column."""
    return free.reshape(*free.shape[:-1], columns, rows).swapaxes(-1, -2)


def sum_to_zero_vector(free: jax.Array, dims: Dims) -> Transformed:
    return _sum_to_zero(free, -1), _no_jacobian(free)


def sum_to_zero_matrix(free: jax.Array, dims: Dims) -> Transformed:
    """Every row and every column sums to 0. Stan's vectors have first what its matrices have last."""
    inner = _columns(free, dims[0] - 1, dims[1] - 1)
    full = _sum_to_zero(_sum_to_zero(inner, -1), -2)
    return jnp.roll(full, (-1, -1), (-2, -1)), _no_jacobian(free)


def _softmax_of_sum_to_zero(free: jax.Array, axis: int) -> Transformed:
    """Simplexes along an axis by the inverse isometric log ratio; the Jacobian's log per simplex."""
    logits = _sum_to_zero(free, axis)
    size = logits.shape[axis]
    normalizer = jax.nn.logsumexp(logits, axis=axis, keepdims=True)
    # The logits sum to 0, so that the sum of the log probabilities is −size · normalizer.
    log_jacobian = 0.5 * np.log(size) - size * jnp.squeeze(normalizer, axis)
    return jnp.exp(logits - normalizer), log_jacobian


def simplex(free: jax.Array, dims: Dims) -> Transformed:
    return _softmax_of_sum_to_zero(free, -1)


def column_stochastic_matrix(free: jax.Array, dims: Dims) -> Transformed:
    data, log_jacobian = _softmax_of_sum_to_zero(_columns(free, dims[0] - 1, dims[1]), -2)
    return data, jnp.sum(log_jacobian, -1)


def row_stochastic_matrix(free: jax.Array, dims: Dims) -> Transformed:
    data, log_jacobian = _softmax_of_sum_to_zero(_columns(free, dims[0], dims[1] - 1), -1)
    return data, jnp.sum(log_jacobian, -1)


# -- vectors --------------------------------------------------------------------------------------


def ordered(free: jax.Array, dims: Dims) -> Transformed:
    steps = jnp.concatenate([free[..., :1], jnp.exp(free[..., 1:])], -1)
    return jnp.cumsum(steps, -1), jnp.sum(free[..., 1:], -1)


def positive_ordered(free: jax.Array, dims: Dims) -> Transformed:
    return jnp.cumsum(jnp.exp(free), -1), jnp.sum(free, -1)


def unit_vector(free: jax.Array, dims: Dims) -> Transformed:
    """The direction of the free vector, whose length gets a standard normal's density.

    The zero vector has no direction: Stan rejects it.
    """
    squared = jnp.sum(free * free, -1)
    somewhere = squared > 0
    length = jnp.sqrt(jnp.where(somewhere, squared, 1.0))
    return free / length[..., None], jnp.where(somewhere, -0.5 * squared, -jnp.inf)


# -- triangular matrices --------------------------------------------------------------------------


def _lower_rows(free: jax.Array, sizes: list[int], columns: int) -> jax.Array:
    """A matrix whose row i begins with the next ``sizes[i]`` free values and ends with zeros."""
    # Padded slices: a scatter would be a loop on a CPU, and so would be the gradient of a gather.
    batch = [(0, 0)] * (free.ndim - 1)
    starts = np.cumsum([0, *sizes])
    rows = [
        jnp.pad(free[..., start : start + size], [*batch, (0, columns - size)])
        for start, size in zip(starts, sizes, strict=False)
    ]
    return jnp.stack(rows, -2)


def _correlation_factor(free: jax.Array) -> Transformed:
    """Cholesky factors of correlation matrices from ``f[..., K, K]`` with free values below the diagonal.

    With partial correlations ``z = tanh(free)``, ``L[i, j] = z[i, j] · ∏_{k<j} √(1 − z[i, k]²)``, where
    ``z[i, i] = 1`` (Lewandowski, Kurowicka & Joe 2009). Returns L and ``log(1 − z²)``, 0 elsewhere.
    """
    size = free.shape[-1]
    magnitude = jnp.abs(free)
    # log(1 − tanh²), without the cancellation that makes it −inf beyond 19.
    log_rest = 2 * (np.log(2.0) - magnitude - jnp.log1p(jnp.exp(-2 * magnitude)))
    log_rest = jnp.where(np.tri(size, k=-1, dtype=bool), log_rest, 0.0)
    before = jnp.cumsum(log_rest, -1) - log_rest
    factor = (jnp.tanh(free) + np.eye(size)) * jnp.exp(0.5 * before)
    return jnp.where(np.tri(size, dtype=bool), factor, 0.0), log_rest


def cholesky_factor_corr(free: jax.Array, dims: Dims) -> Transformed:
    """Free values row by row below the diagonal."""
    size = dims[0]
    factor, log_rest = _correlation_factor(_lower_rows(free, list(range(size)), size))
    row, column = np.indices((size, size))
    # tanh's own Jacobian, and the scale √∏(1 − z²) of every later element of the row below the diagonal.
    weights = 1 + 0.5 * (row - column - 1)
    return factor, jnp.sum(weights * log_rest, (-1, -2))


def corr_matrix(free: jax.Array, dims: Dims) -> Transformed:
    """Free values column by column below the diagonal."""
    size = dims[0]
    # Column j of the lower triangle has size − 1 − j values: reversed, they are rows of another one.
    flipped = _lower_rows(jnp.flip(free, -1), list(range(size)), size)
    lower = jnp.flip(flipped, (-1, -2)).swapaxes(-1, -2)
    factor, log_rest = _correlation_factor(lower)
    weights = 1 + 0.5 * (size - 2 - np.arange(size))
    return factor @ factor.swapaxes(-1, -2), jnp.sum(weights * log_rest, (-1, -2))


def _covariance_factor(free: jax.Array, rows: int, columns: int) -> Transformed:
    """Lower trapezoids read row by row, with exponentials on the diagonal; the diagonal's free values."""
    sizes = [min(row + 1, columns) for row in range(rows)]
    lower = _lower_rows(free, sizes, columns)
    logs = jnp.diagonal(lower, axis1=-2, axis2=-1)
    diagonal = np.eye(rows, columns, dtype=bool)
    # Only the diagonal is exponentiated: an element far from 0 beside it must not overflow.
    return jnp.where(diagonal, jnp.exp(jnp.where(diagonal, lower, 0.0)), lower), logs


def cholesky_factor_cov(free: jax.Array, dims: Dims) -> Transformed:
    factor, logs = _covariance_factor(free, dims[0], dims[-1])
    return factor, jnp.sum(logs, -1)


def cov_matrix(free: jax.Array, dims: Dims) -> Transformed:
    size = dims[0]
    factor, logs = _covariance_factor(free, size, size)
    log_jacobian = size * np.log(2.0) + jnp.sum((size + 1 - np.arange(size)) * logs, -1)
    return factor @ factor.swapaxes(-1, -2), log_jacobian
