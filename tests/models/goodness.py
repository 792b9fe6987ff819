"""Draws against log densities of one variable."""

import jax
import numpy as np
from scipy import stats

N = 10_000
KEYS = jax.random.split(jax.random.key(2), N)
GRID = 20_000
LEAST = 1e-4
"""p-values below this fail."""


def kolmogorov_smirnov(draws, log_density):
    """p-value against a log density, ``f[n] -> f[n]``, that is normalized numerically, on a grid beyond the
    draws."""
    draws = np.asarray(draws)
    assert np.isfinite(draws).all()
    middle, spread = np.median(draws), np.ptp(draws)
    grid = np.linspace(middle - 3 * spread, middle + 3 * spread, GRID)
    heights = np.asarray(log_density(grid))
    density = np.where(np.isfinite(heights), np.exp(heights - np.nanmax(heights)), 0.0)
    cumulated = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return stats.kstest(draws, lambda x: np.interp(x, grid, cumulated / cumulated[-1])).pvalue
