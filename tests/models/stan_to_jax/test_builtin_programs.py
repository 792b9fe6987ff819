"""Every built-in program, lowered, held against Stan at random points and at reference draws."""

from dataclasses import replace

import numpy as np
import pytest
from against_stan import compare, pair
from essper.posteriordb_adapter import PosteriorDatabase, to_unconstrained

DATABASE = PosteriorDatabase(builtin=True)
POINTS = 20
LOOSE, TIGHT = "1e-5, 1e-3, 500", "1e-12, 1e-12, 1000000"
"""Tolerances of the differential equation's solver: as the program has them, and as an oracle needs them."""


@pytest.mark.parametrize("name", DATABASE.names())
def test_value_and_gradient_are_stans(name):
    posterior = DATABASE.posterior(name)
    evaluated, tolerance = pair(posterior.program_path(), posterior.data()), 1e-8
    if "ode_rk45_tol" in posterior.program():
        assert LOOSE in posterior.program()
        exact = pair(posterior.program().replace(LOOSE, TIGHT), posterior.data())
        evaluated, tolerance = replace(evaluated, stan=exact.stan), 1e-7
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2 * POINTS, evaluated.lowered.dim))
    points[POINTS:] *= 0.3
    if posterior.has_reference:
        draws = to_unconstrained(posterior.target(), posterior.reference()).draws.reshape(-1, points.shape[1])
        points = np.concatenate([points, rng.choice(draws[np.isfinite(draws).all(1)], POINTS)])
    found = compare(evaluated, points)
    found.require(tolerance, finite=2 * POINTS)
