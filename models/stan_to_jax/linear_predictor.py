"""Linear predictors, as one matrix product.

Programs write a regression as ``beta[1] + beta[2] * x + beta[3] * z``. Term by term, each coefficient's
gradient is a sum over all data of its own, which a CPU adds up one by one. Collected first, the columns
make up one matrix: a product forwards, one backwards, and for many chains a product of matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from .numeric import is_concrete

MIN_SIZE = 8
"""Elements below which collecting does not pay."""


@dataclass(frozen=True, eq=False)
class LinearPredictor:
    """Σ matrix · coefficients + Σ rest, of ``size`` elements, not computed yet."""

    size: int
    blocks: tuple[tuple[np.ndarray, Any], ...]
    """Concrete ``f[size, k]`` and traced ``f[k]``."""
    rest: tuple[Any, ...] = ()
    """Arrays ``f[size]`` or ``f[]``, concrete or traced."""

    def plus(self, other: LinearPredictor, sign: int) -> LinearPredictor:
        signed = tuple((sign * matrix, coefficients) for matrix, coefficients in other.blocks)
        rest = tuple(term if sign == 1 else -term for term in other.rest)
        return LinearPredictor(self.size, self.blocks + signed, self.rest + rest)

    def collected(self) -> tuple[np.ndarray, Any]:
        """All blocks as one: concrete ``f[size, k]`` and traced ``f[k]``."""
        matrix = np.concatenate([block for block, _ in self.blocks], axis=1)
        return matrix, jnp.concatenate([jnp.atleast_1d(found) for _, found in self.blocks])

    def constant(self) -> Any:
        """The sum of what is concrete in the rest: ``f[size]`` or ``f[]``."""
        return sum((term for term in self.rest if is_concrete(term)), 0.0)

    def array(self) -> Any:
        """``f[size]``, traced."""
        matrix, coefficients = self.collected()
        if matrix.shape[1] == 1:
            total = matrix[:, 0] * coefficients[0]
        else:
            total = jnp.matmul(matrix, coefficients, precision=lax.Precision.HIGHEST)
        constant = self.constant()
        for term in self.rest:
            if not is_concrete(term):
                total = total + term
        return total if np.all(constant == 0.0) else total + constant


def column(data: np.ndarray, coefficient: Any) -> LinearPredictor | None:
    """A concrete array times a traced number, if it is long enough."""
    if data.size < MIN_SIZE:
        return None
    return LinearPredictor(data.size, ((np.asarray(data, float)[:, None], coefficient),))


def product(matrix: np.ndarray, coefficients: Any) -> LinearPredictor | None:
    """A concrete matrix times a traced vector, if it is long enough."""
    if matrix.shape[0] < MIN_SIZE or matrix.shape[1] == 0:
        return None
    return LinearPredictor(matrix.shape[0], ((np.asarray(matrix, float), coefficients),))


def intercept(size: int, coefficient: Any) -> LinearPredictor:
    """A traced number, the same for all elements."""
    return LinearPredictor(size, ((np.ones((size, 1)), coefficient),))
