"""Mathematics that stays concrete where it can.

Every function here takes concrete arrays (numpy) or traced ones. From concrete arrays it makes concrete
ones in float64: constants are folded while tracing, and recognised as constants afterwards.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special as scipy_special
from jax.scipy import special as jax_special


def is_concrete(*arrays: Any) -> bool:
    """Whether all of them are numpy's: known while tracing."""
    return all(isinstance(a, (np.ndarray, np.generic, int, float, bool)) for a in arrays)


def namespace(*arrays: Any) -> Any:
    """numpy if all arrays are concrete, else jax.numpy."""
    return np if is_concrete(*arrays) else jnp


# XLA computes exponentials of many numbers at once and logarithms one by one. Where it is known that the
# argument lies between 1 and 2, a series, which is as exact, takes a sixth of the time.
_ATANH_TERMS = 19


@jax.custom_jvp
def _log1p_of_unit(x: Any) -> Any:
    """log(1 + x) for 0 ≤ x ≤ 1: 2 artanh(s) with s = x / (2 + x) ≤ 1/3, to rounding errors."""
    s = x / (2.0 + x)
    square = s * s
    series = jnp.full_like(x, 1.0 / (2 * _ATANH_TERMS - 1))
    for odd in range(2 * _ATANH_TERMS - 3, 0, -2):
        series = series * square + 1.0 / odd
    return 2.0 * s * series


@_log1p_of_unit.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (x,), (change,) = primals, tangents
    return _log1p_of_unit(x), change / (1.0 + x)


@jax.custom_jvp
def _log_sigmoid(x: Any) -> Any:
    """−log(1 + e⁻ˣ); value and derivative share their one exponential."""
    return jnp.minimum(x, 0.0) - _log1p_of_unit(jnp.exp(-jnp.abs(x)))


@_log_sigmoid.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (x,), (change,) = primals, tangents
    small = jnp.exp(-jnp.abs(x))
    value = jnp.minimum(x, 0.0) - _log1p_of_unit(small)
    return value, change * jnp.where(x >= 0, small, 1.0) / (1.0 + small)


def _dispatched(concrete: Any, traced: Any) -> Any:
    def function(*arrays: Any) -> Any:
        if is_concrete(*arrays):
            return concrete(*[np.asarray(a, np.float64) for a in arrays])
        return traced(*[jnp.asarray(a, float) for a in arrays])

    return function


exp = _dispatched(np.exp, jnp.exp)
expm1 = _dispatched(np.expm1, jnp.expm1)
log = _dispatched(np.log, jnp.log)
log1p = _dispatched(np.log1p, jnp.log1p)
log1p_of_unit = _dispatched(np.log1p, _log1p_of_unit)
sqrt = _dispatched(np.sqrt, jnp.sqrt)
lgamma = _dispatched(scipy_special.gammaln, jax_special.gammaln)
digamma = _dispatched(scipy_special.digamma, jax_special.digamma)
xlogy = _dispatched(scipy_special.xlogy, jax_special.xlogy)
xlog1py = _dispatched(scipy_special.xlog1py, jax_special.xlog1py)
log_ndtr = _dispatched(scipy_special.log_ndtr, jax_special.log_ndtr)
sigmoid = _dispatched(scipy_special.expit, jax.nn.sigmoid)
log_sigmoid = _dispatched(scipy_special.log_expit, _log_sigmoid)
power = _dispatched(np.power, jnp.power)
arctan2 = _dispatched(np.arctan2, jnp.arctan2)
sign = _dispatched(np.sign, jnp.sign)
cos = _dispatched(np.cos, jnp.cos)
log_bessel_i0 = _dispatched(
    lambda x: np.log(scipy_special.i0e(x)) + x, lambda x: jnp.log(jax_special.i0e(x)) + x * jnp.sign(x)
)


def where(condition: Any, yes: Any, no: Any) -> Any:
    return namespace(condition, yes, no).where(condition, yes, no)


def total(array: Any, axis: Any = None) -> Any:
    """The sum, which is 0 for no elements."""
    return namespace(array).sum(array, axis=axis)
