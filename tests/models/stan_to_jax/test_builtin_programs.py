"""Every built-in program, lowered, held against Stan at random points and at reference draws."""

from dataclasses import replace

import numpy as np
import pytest
from against_stan import compare, pair, points_for, rounding_errors
from essper.posteriordb_adapter import PosteriorDatabase, to_unconstrained

DATABASE = PosteriorDatabase(builtin=True)
POINTS = 20
LOOSE, TIGHT = "1e-5, 1e-3, 500", "1e-12, 1e-12, 1000000"
"""Tolerances of the differential equation's solver: the program's own, and those that an oracle needs."""
ILL_CONDITIONED = {"simulated_gp-gp_pois_regr"}
"""A kernel matrix with a jitter of 1e-10: its factor carries half of the digits."""


@pytest.mark.parametrize("name", DATABASE.names())
def test_value_and_gradient_are_stans(name):
    posterior = DATABASE.posterior(name)
    evaluated, tolerance = pair(posterior.program_path(), posterior.data()), 1e-8
    if "ode_rk45_tol" in posterior.program():
        assert LOOSE in posterior.program()
        exact = pair(posterior.program().replace(LOOSE, TIGHT), posterior.data())
        evaluated, tolerance = replace(evaluated, stan=exact.stan), 1e-7
    points = points_for(evaluated.lowered.dim, POINTS)
    if tolerance == 1e-7:
        points *= 0.5  # at one point of N(0, 1) the solution is too stiff for an explicit method: NaN
    if posterior.has_reference:
        draws = to_unconstrained(posterior.target(), posterior.reference()).draws.reshape(-1, points.shape[1])
        draws = np.random.default_rng(0).choice(draws[np.isfinite(draws).all(1)], POINTS)
        points = np.concatenate([points, draws])
    if name in ILL_CONDITIONED:
        tolerance = np.maximum(tolerance, 5 * rounding_errors(evaluated.stan, points))
    compare(evaluated, points).require(tolerance, finite=2 * POINTS)
