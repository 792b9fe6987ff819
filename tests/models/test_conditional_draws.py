"""The draws that exact conditionals are made of: one program each, at every argument."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models.conditionals.log_concave import log_concave
from essper.models.conditionals.odds import logit_beta
from essper.models.conditionals.scales import Flat, HalfCauchy, HalfNormal, log_scale
from essper.models.conditionals.truncated import truncated_normal
from goodness import KEYS, LEAST, N, kolmogorov_smirnov
from scipy import stats

TRUNCATED = jax.jit(jax.vmap(truncated_normal, in_axes=(0, None, None, None, None)))
BETA = jax.jit(jax.vmap(logit_beta, in_axes=(0, None, None)))
LOG_CONCAVE = {
    "normal": lambda x: -0.5 * x**2,
    "gumbel": lambda x: x - jnp.exp(x),
    "walls": lambda x: -jnp.cosh(5 * x),
    "quartic": lambda x: -(x**4),
}


@partial(jax.jit, static_argnums=0)
def log_scales(prior, keys, n, squares, *scale):
    return jax.vmap(lambda key: log_scale(key, n, squares, prior(*scale)))(keys)


@partial(jax.jit, static_argnums=0)
def log_scale_density(prior, t, n, squares, *scale):
    heights = jax.vmap(prior(*scale).log_density)(jnp.exp(t))
    return (1 - n) * t - 0.5 * squares * jnp.exp(-2 * t) + heights


def either_density(number):
    return lambda x: jax.lax.switch(number, list(LOG_CONCAVE.values()), x)


@jax.jit
def log_concaves(number, keys, mode, length):
    return jax.vmap(lambda key: log_concave(key, either_density(number), mode, length))(keys)


BOUNDS = [
    (-np.inf, np.inf), (-np.inf, 0.3), (-0.3, np.inf), (-1, 1), (1, 3), (0.2, 0.7), (-0.6, 0.3),
    (6, np.inf), (9, np.inf), (-np.inf, -12), (40, np.inf), (40, 40.01), (-40, -39.99), (-1e3, -40),
    (0, 1e-12), (-1e-12, 0), (-5e-13, 5e-13), (2, 2 + 1e-12), (40, 40 + 1e-12), (1e5, np.inf),
]  # fmt: skip


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_a_truncated_normal(low, high):
    """Against its density at distances from the end nearer to the center: exp(−|end| d − d²/2)."""
    x = np.asarray(TRUNCATED(KEYS, 0.0, 1.0, float(low), float(high)))
    assert np.all((x > low) & (x < high))
    if low < 0 < high and high - low > 1e-3:
        assert stats.kstest(x, stats.truncnorm(low, high).cdf).pvalue > LEAST
        return
    end = 0.0 if low < 0 < high else min(low, high, key=abs)
    distance = x - low if low < 0 < high else np.abs(x - end)
    within = min(high - low, 10.0, 50 / max(abs(end), 1e-9))
    grid = np.linspace(0, within, 100_001)
    density = np.exp(-abs(end) * grid - grid**2 / 2)
    cumulated = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    # Numbers about 40 are 7e-15 apart: of an interval of 1e-12, 1 in 140.
    spacing = np.spacing(abs(end)) / min(within, 1 / max(abs(end), 1.0))
    if spacing < 1e-4:
        assert stats.kstest(distance, lambda d: np.interp(d, grid, cumulated / cumulated[-1])).pvalue > LEAST
    else:
        assert abs(distance.mean() / within - 0.5) < spacing + 4 * 12**-0.5 / N**0.5


PRIORS = [(Flat,), (HalfNormal, 2.0), (HalfNormal, 1e-3), (HalfCauchy, 2.5), (HalfCauchy, 1e-3)]
SIZES = [(2, 1.0), (10, 4.0), (1000, 1e6), (100, 1e12), (1000, 1e-30), (2, 1e-300), (1, 1e-20), (0, 0.0)]
PROPER = [(prior, *size) for prior in PRIORS for size in SIZES if prior != (Flat,) or size[0] >= 2]


@pytest.mark.parametrize(("prior", "n", "squares"), PROPER)
def test_a_log_scale(prior, n, squares):
    """Also where the prior stands against the data, and without observations."""
    kind, *scale = prior
    draws = log_scales(kind, KEYS, n, squares, *scale)
    assert kolmogorov_smirnov(draws, lambda t: log_scale_density(kind, t, n, squares, *scale)) > LEAST


@pytest.mark.parametrize("length", [1e-3, 0.1, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("name", LOG_CONCAVE)
def test_a_log_concave_density_whatever_the_length(name, length):
    draws = log_concaves(list(LOG_CONCAVE).index(name), KEYS, 0.0, length)
    assert kolmogorov_smirnov(draws, LOG_CONCAVE[name]) > LEAST


def test_what_has_no_log_concave_density_is_no_number_and_ends():
    assert np.isnan(log_concaves(0, KEYS, np.nan, 1.0)).all()
    assert np.isnan(log_scales(HalfNormal, KEYS, 5, np.nan, 1.0)).all()
    assert np.isnan(log_scales(Flat, KEYS, 1, 0.0)).all()
    assert np.isnan(TRUNCATED(KEYS, np.nan, 1.0, 0.0, 1.0)).all()


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (1.0, 200.0), (300.0, 1.0), (5.5, 0.2)])
def test_a_logit_of_a_beta_variable(a, b):
    draws = BETA(KEYS, a, b)

    def log_density(t):
        return a * jax.nn.log_sigmoid(t) + b * jax.nn.log_sigmoid(-t)

    assert kolmogorov_smirnov(draws, log_density) > LEAST
