"""Stan's checks of values that are declared with a constraint: data and transformed parameters.

Each takes values ``f[..., *shape]``, concrete or traced, and says whether all of them hold, with Stan
Math's tolerances (``check_simplex``, ``check_corr_matrix``, …).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from .numeric import is_concrete, namespace

TOLERANCE = 1e-8
"""Stan Math's ``CONSTRAINT_TOLERANCE``."""


SINGLE_TOLERANCE = 1e-5
"""Of sums in single precision, whose own rounding is above Stan's tolerance."""


def _equal(a: Any, b: Any) -> Any:
    single = np.float32 in (getattr(a, "dtype", None), getattr(b, "dtype", None))
    return abs(a - b) <= (SINGLE_TOLERANCE if single else TOLERANCE)


def _all_of(first: Any, *others: Any) -> Any:
    holds = first.all()
    for other in others:
        holds = holds & other.all()
    return holds


def within_bounds(data: Any, bounds: Mapping[str, Any]) -> Any:
    """``lower ≤ data ≤ upper``, which NaN is not."""
    holds = np.bool_(True)
    if "lower" in bounds:
        holds = holds & (data >= bounds["lower"]).all()
    if "upper" in bounds:
        holds = holds & (data <= bounds["upper"]).all()
    return holds


def _sums_to(total: float, axis: int, data: Any) -> Any:
    return _equal(data.sum(axis), total)


def _simplex(data: Any, axis: int = -1) -> Any:
    return _all_of(_sums_to(1.0, axis, data), data >= 0)


def _ordered(data: Any) -> Any:
    return (data[..., 1:] > data[..., :-1]).all()


def _positive_ordered(data: Any) -> Any:
    # As Stan writes it: a single NaN passes.
    return _all_of(~(data[..., :1] < 0), data[..., 1:] > data[..., :-1])


def _unit_vector(data: Any) -> Any:
    return _equal((data * data).sum(-1), 1.0).all()


def _sum_to_zero_matrix(data: Any) -> Any:
    return _all_of(_sums_to(0.0, -1, data), _sums_to(0.0, -2, data))


def _diagonal(data: Any) -> Any:
    return namespace(data).diagonal(data, axis1=-2, axis2=-1)


def _lower_triangular(data: Any) -> Any:
    return (data == namespace(data).tril(data)).all()


def _symmetric(data: Any) -> Any:
    return _equal(data, data.swapaxes(-1, -2)).all()


def _positive_definite(data: Any) -> Any:
    if is_concrete(data):
        try:
            return np.isfinite(np.linalg.cholesky(data)).all()
        except np.linalg.LinAlgError:
            return np.bool_(False)
    return jnp.isfinite(jnp.linalg.cholesky(data)).all()


def _cov_matrix(data: Any) -> Any:
    if data.shape[-1] == 1:
        return (data > TOLERANCE).all()
    return _symmetric(data) & _positive_definite(data)


def _corr_matrix(data: Any) -> Any:
    return _equal(_diagonal(data), 1.0).all() & _cov_matrix(data)


def _cholesky_factor_cov(data: Any) -> Any:
    return _lower_triangular(data) & (_diagonal(data) > 0).all()


def _cholesky_factor_corr(data: Any) -> Any:
    return _cholesky_factor_cov(data) & _unit_vector(data)


STRUCTURE_CHECKS: dict[str, Callable[[Any], Any]] = {
    "simplex": _simplex,
    "ordered": _ordered,
    "positive_ordered": _positive_ordered,
    "unit_vector": _unit_vector,
    "sum_to_zero_vector": lambda data: _sums_to(0.0, -1, data).all(),
    "sum_to_zero_matrix": _sum_to_zero_matrix,
    "corr_matrix": _corr_matrix,
    "cov_matrix": _cov_matrix,
    "cholesky_factor_corr": _cholesky_factor_corr,
    "cholesky_factor_cov": _cholesky_factor_cov,
    "column_stochastic_matrix": lambda data: _simplex(data, -2),
    "row_stochastic_matrix": _simplex,
}
