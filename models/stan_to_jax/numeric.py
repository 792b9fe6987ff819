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


@jax.custom_jvp
def _log_sigmoid(x: Any) -> Any:
    """−log(1 + e⁻ˣ); value and derivative share their one exponential, which dominates both."""
    return jnp.minimum(x, 0.0) - jnp.log1p(jnp.exp(-jnp.abs(x)))


@_log_sigmoid.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (x,), (change,) = primals, tangents
    small = jnp.exp(-jnp.abs(x))
    return jnp.minimum(x, 0.0) - jnp.log1p(small), change * jnp.where(x >= 0, small, 1.0) / (1.0 + small)


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
sqrt = _dispatched(np.sqrt, jnp.sqrt)
logaddexp = _dispatched(np.logaddexp, jnp.logaddexp)
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
