"""The sum of squares of a normal regression, from the triangular factor of its data.

With data X and y, ‖y − Xb‖² = ‖Q′(y − Xb)‖² = ‖r − Rb‖², where [X y] = Q [R r] is a QR decomposition, so
that n rows of data come down to one row a column (Gelman et al., Bayesian Data Analysis, section 14.2). The
decomposition is orthogonal: what rounding it brings is that of the residuals themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..linear_predictor import LinearPredictor
from ..numeric import is_concrete
from ..values import Value

MIN_ROWS = 2
"""Rows a column from which on the factor is used."""


def sum_of_squares(name: str, arguments: Sequence[Value]) -> Any | None:
    """Σ (y − μ)² over all elements, and all rows, of ``normal(y | μ, σ)``.

    None unless y is data, μ a linear predictor of data and σ one number: then there is no factor to use.
    """
    if name != "normal" or len(arguments) != 3:
        return None
    y, mu, sigma = arguments
    predictor = mu.predictor
    if predictor is None or not y.concrete or sigma.rank or sigma.level is not None:
        return None
    scalar = y.rank == 0 and y.level is None
    if not (scalar or (y.level is mu.level and y.rank == mu.rank)) or not is_concrete(*predictor.rest):
        return None
    if not scalar and np.shape(y.data) != (predictor.size,):
        return None
    return _reduced(predictor, np.asarray(y.data, float))


def _reduced(predictor: LinearPredictor, y: np.ndarray) -> Any | None:
    matrix, coefficients = predictor.collected()
    known = np.broadcast_to(y - predictor.constant(), predictor.size)
    columns = np.column_stack([matrix, known])
    if len(columns) < MIN_ROWS * columns.shape[1] or not np.isfinite(columns).all():
        return None
    factor = np.linalg.qr(columns, mode="r")
    residual = jnp.matmul(factor[:, :-1], coefficients) - factor[:, -1]
    return residual @ residual
