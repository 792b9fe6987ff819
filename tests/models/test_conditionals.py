"""Exact conditionals against the densities that they are derived from, on the built-in database's data."""

import itertools
import json
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import from_stan
from essper.models.conditionals import KNOWN, ConditionalsMismatch, blocks_for
from essper.models.conditionals.hidden_markov import hmm_example
from essper.models.conditionals.log_concave import log_concave
from essper.models.conditionals.mixture import low_dim_gauss_mix
from essper.models.conditionals.odds import logit_beta
from essper.models.conditionals.scales import Flat, HalfCauchy, HalfNormal, log_scale
from essper.models.conditionals.truncated import truncated_normal
from essper.posteriordb_adapter import PosteriorDatabase
from jax.scipy.stats import norm
from scipy import stats

N = 10_000
LEAST = 1e-4
"""p-values below this fail."""


@cache
def posteriors():
    """By model, one posterior of each known one."""
    database = PosteriorDatabase()
    every = [database.posterior(name) for name in database.names()]
    return {posterior.model.name: posterior for posterior in every if posterior.model.name in KNOWN}


def data_of(model):
    return json.loads(posteriors()[model].data_text())


@cache
def case(model):
    """The model on its data, and a point where a few sweeps have led, with its extra variables."""
    known = KNOWN[model](data_of(model))
    key, dim = jax.random.key(1), DIMENSIONS[model]
    position = 0.5 * jax.random.normal(key, (dim,))
    extra = known.blocks.start(key, position)

    def sweep(i, now):
        position, extra = now
        for number, conditional in enumerate(known.blocks.conditionals.values()):
            for block in range(conditional.size):
                own = jax.random.fold_in(key, 100 * i + 10 * number + block)
                position, extra = conditional.draw(own, jnp.int32(block), position, extra)
        return position, extra

    position, extra = jax.jit(lambda now: jax.lax.fori_loop(0, 20, sweep, now))((position, extra))
    return known, position, extra


DIMENSIONS = {
    "eight_schools_centered": 10,
    "eight_schools_noncentered": 10,
    "blr": 6,
    "kidscore_momiq": 3,
    "kidscore_interaction": 5,
    "earn_height": 3,
    "logmesquite_logvas": 8,
    "nes": 10,
    "low_dim_gauss_mix": 5,
    "hmm_example": 4,
}
REGRESSIONS = ("blr", "kidscore_momiq", "kidscore_interaction", "earn_height", "logmesquite_logvas", "nes")


def drawn(model, name, block=0, n=N):
    """Draws at the point: positions ``f[n, dim]`` and extra variables."""
    known, position, extra = case(model)
    draw = known.blocks.conditionals[name].draw
    keys = jax.random.split(jax.random.key(2), n)
    return jax.jit(jax.vmap(lambda key: draw(key, jnp.int32(block), position, extra)))(keys)


def kolmogorov_smirnov(draws, log_density):
    """p-value against a log density that is normalized numerically, on a grid beyond the draws."""
    draws = np.asarray(draws)
    assert np.isfinite(draws).all()
    middle, spread = np.median(draws), np.ptp(draws)
    grid = jnp.linspace(middle - 3 * spread, middle + 3 * spread, 20_001)
    heights = np.asarray(jax.lax.map(log_density, grid, batch_size=1000))
    density = np.where(np.isfinite(heights), np.exp(heights - np.nanmax(heights)), 0.0)
    cumulated = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return stats.kstest(draws, lambda x: np.interp(x, grid, cumulated / cumulated[-1])).pvalue


# Log densities of the parameters together with labels and states.


def mixture_with_labels(y, u, labels):
    mu, sigma = jnp.stack([u[0], u[0] + jnp.exp(u[1])]), jnp.exp(u[2:4])
    weights = jnp.stack([jax.nn.log_sigmoid(u[4]), jax.nn.log_sigmoid(-u[4])])
    fit = jnp.sum(weights[labels] + norm.logpdf(y, mu[labels], sigma[labels]))
    prior = norm.logpdf(mu, 0, 2).sum() + norm.logpdf(sigma, 0, 2).sum() + 5 * weights.sum()
    return fit + prior + u[1] + u[2] + u[3]


def markov_with_states(y, u, states):
    stay = jax.nn.sigmoid(2**0.5 * u[:2])
    rows = jnp.log(jnp.stack([stay, 1 - stay], axis=1))
    mu = jnp.stack([jnp.exp(u[2]), jnp.exp(u[2]) + jnp.exp(u[3])])
    moves = rows[states[:-1], states[1:]].sum()
    prior = norm.logpdf(mu, jnp.array([3.0, 10.0]), 1.0).sum() + rows.sum() + u[2] + u[3]
    return norm.logpdf(y, mu[states], 1.0).sum() + moves + prior


COMPLETE = {
    "low_dim_gauss_mix": (mixture_with_labels, "labels"),
    "hmm_example": (markov_with_states, "states"),
}


def complete(model):
    """``u -> f[]`` at the point's labels, where the model has them."""
    known, _, extra = case(model)
    if model not in COMPLETE:
        return known.log_density
    density, name = COMPLETE[model]
    y = jnp.asarray(data_of(model)["y"], float)
    return lambda u: density(y, u, extra[name])


@pytest.mark.parametrize("derive", [low_dim_gauss_mix, hmm_example])
def test_the_density_with_labels_sums_to_the_one_without(derive):
    model = derive.__name__
    density, name = COMPLETE[model]
    y = jnp.array([3.1, 9.5, 2.0, 1.0, 11.0, 4.0])
    known = derive({"y": y})
    labels = jnp.array(list(itertools.product((0, 1), repeat=6)))
    points = jax.random.normal(jax.random.key(0), (5, DIMENSIONS[model]))
    summed = [jax.nn.logsumexp(jax.vmap(lambda z, u=u: density(y, u, z))(labels)) for u in points]
    difference = np.asarray(summed) - np.asarray(jax.vmap(known.log_density)(points))
    assert np.ptp(difference) < 1e-9
    # And what is drawn at one of them: every path with its probability.
    probabilities = np.asarray(jax.nn.softmax(jax.vmap(lambda z: density(y, points[0], z))(labels)))
    draw = known.blocks.conditionals[name].draw
    keys = jax.random.split(jax.random.key(1), 50_000)
    found = jax.jit(jax.vmap(lambda key: draw(key, jnp.int32(0), points[0], {})[1][name]))(keys)
    counts = np.bincount(np.asarray(found) @ 2 ** np.arange(6)[::-1], minlength=64)
    often = probabilities * len(keys) > 5
    expected = np.append(probabilities[often], probabilities[~often].sum()) * len(keys)
    seen = np.append(counts[often], counts[~often].sum())
    assert often.sum() > 3
    enough = expected > 1
    assert stats.chi2.sf(((seen - expected) ** 2 / expected)[enough].sum(), enough.sum() - 1) > LEAST


GAUSSIAN = {
    "eight_schools_centered": {"theta": slice(0, 8), "mu": slice(8, 9)},
    "eight_schools_noncentered": {"theta_trans": slice(0, 8), "mu": slice(8, 9)},
    **{model: {"beta": slice(0, DIMENSIONS[model] - 1)} for model in REGRESSIONS},
}


@pytest.mark.parametrize(("model", "name"), [(m, name) for m in GAUSSIAN for name in GAUSSIAN[m]])
def test_a_gaussian_conditional_has_the_moments_of_the_density(model, name):
    """The log density is quadratic in the block: its derivatives anywhere give mean and covariance."""
    known, position, _ = case(model)
    chosen = GAUSSIAN[model][name]

    def of_block(b):
        return known.log_density(position.at[chosen].set(b))

    here = position[chosen]
    precision = -np.asarray(jax.hessian(of_block)(here))
    mean = np.asarray(here) + np.linalg.solve(precision, np.asarray(jax.grad(of_block)(here)))
    draws, _ = drawn(model, name)
    others = np.delete(np.asarray(draws), chosen, axis=1)
    assert np.all(others == np.delete(np.asarray(position), chosen))
    z = (np.asarray(draws)[:, chosen] - mean) @ np.linalg.cholesky(precision)
    for i in range(z.shape[1]):
        assert stats.kstest(z[:, i], stats.norm.cdf).pvalue > LEAST
        for j in range(i):
            assert abs(np.mean(z[:, i] * z[:, j])) < 4.5 / N**0.5


SCALAR = {
    **{model: {"sigma": (DIMENSIONS[model] - 1,)} for model in REGRESSIONS},
    "low_dim_gauss_mix": {"theta": (4,), "sigma": (2, 3)},
    "hmm_example": {"theta": (0, 1)},
}


@pytest.mark.parametrize(("model", "name"), [(m, name) for m in SCALAR for name in SCALAR[m]])
def test_a_scalar_conditional_has_the_distribution_of_the_density(model, name):
    _, position, _ = case(model)
    density = complete(model)
    for block, coordinate in enumerate(SCALAR[model][name]):
        draws, _ = drawn(model, name, block)
        p = kolmogorov_smirnov(draws[:, coordinate], lambda t, c=coordinate: density(position.at[c].set(t)))
        assert p > LEAST
        others = np.delete(np.asarray(draws), coordinate, axis=1)
        assert np.all(others == np.delete(np.asarray(position), coordinate))


@pytest.mark.parametrize("block", [0, 1])
@pytest.mark.parametrize("model", ["low_dim_gauss_mix", "hmm_example"])
def test_an_ordered_mean_has_the_distribution_of_the_density(model, block):
    _, position, _ = case(model)
    density, positive = complete(model), model == "hmm_example"
    at = (2, 3) if positive else (0, 1)

    def means(u):
        low = jnp.exp(u[at[0]]) if positive else u[at[0]]
        return jnp.stack([low, low + jnp.exp(u[at[1]])])

    held = means(position)

    def log_density(m):
        mu = held.at[block].set(m)
        gap = jnp.log(mu[1] - mu[0])
        first = jnp.log(mu[0]) if positive else mu[0]
        jacobian = gap + (first if positive else 0.0)
        return density(position.at[at[0]].set(first).at[at[1]].set(gap)) - jacobian

    draws, _ = drawn(model, "mu", block)
    found = jax.vmap(means)(draws)
    assert np.allclose(found[:, 1 - block], held[1 - block], rtol=1e-12)
    assert kolmogorov_smirnov(found[:, block], log_density) > LEAST


def test_labels_have_their_probabilities():
    _, position, extra = case("low_dim_gauss_mix")
    y = jnp.asarray(data_of("low_dim_gauss_mix")["y"], float)
    either = [
        jax.vmap(lambda i, k=k: mixture_with_labels(y, position, extra["labels"].at[i].set(k)))(
            jnp.arange(len(y))
        )
        for k in (0, 1)
    ]
    upper = np.asarray(jax.nn.sigmoid(either[1] - either[0]))
    labels = np.asarray(drawn("low_dim_gauss_mix", "labels")[1]["labels"])
    assert max_z(labels.mean(0), upper) < 5


def test_states_have_their_probabilities_and_those_of_their_moves():
    """Forward and backward recursions of the probabilities themselves, scaled at every step; with means so
    near to one another that states are uncertain."""
    known, position, _ = case("hmm_example")
    position = position.at[3].set(0.3)
    y = np.asarray(data_of("hmm_example")["y"])
    stay = 1 / (1 + np.exp(-(2**0.5) * np.asarray(position[:2])))
    rows = np.stack([stay, 1 - stay], axis=1)
    low, gap = np.exp(np.asarray(position[2:]))
    fit = stats.norm.pdf(y[:, None], [low, low + gap], 1.0)
    forward, backward = np.empty_like(fit), np.ones_like(fit)
    forward[0] = fit[0] / fit[0].sum()
    for t in range(1, len(y)):
        forward[t] = forward[t - 1] @ rows * fit[t]
        forward[t] /= forward[t].sum()
    for t in reversed(range(len(y) - 1)):
        backward[t] = rows @ (fit[t + 1] * backward[t + 1])
        backward[t] /= backward[t].sum()
    upper = (forward * backward)[:, 1] / (forward * backward).sum(1)
    pairs = forward[:-1, :, None] * rows * (fit * backward)[1:, None, :]
    pairs /= pairs.sum((1, 2), keepdims=True)
    draw = known.blocks.conditionals["states"].draw
    keys = jax.random.split(jax.random.key(2), N)
    states = np.asarray(jax.jit(jax.vmap(lambda k: draw(k, jnp.int32(0), position, {})[1]["states"]))(keys))
    assert max_z(states.mean(0), upper) < 5
    assert max_z(((states[:, :-1] == 0) & (states[:, 1:] == 1)).mean(0), pairs[:, 0, 1]) < 5


def max_z(frequencies, probabilities):
    """Of those that are not certain; the others must be."""
    error = np.sqrt(probabilities * (1 - probabilities) / N)
    rare = N * probabilities * (1 - probabilities) < 10
    assert np.all(np.abs(frequencies - probabilities)[rare] < 30 / N)
    assert (~rare).sum() > 20
    return np.abs((frequencies - probabilities)[~rare] / error[~rare]).max()


# The draws that conditionals are made of.

BOUNDS = [
    (-np.inf, np.inf), (-np.inf, 0.3), (-0.3, np.inf), (-1, 1), (1, 3), (0.2, 0.7), (-0.6, 0.3),
    (6, np.inf), (9, np.inf), (-np.inf, -12), (40, np.inf), (40, 40.01), (-40, -39.99), (-1e3, -40),
    (0, 1e-12), (-1e-12, 0), (-5e-13, 5e-13), (2, 2 + 1e-12), (40, 40 + 1e-12), (1e5, np.inf),
]  # fmt: skip


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_a_truncated_normal(low, high):
    """Against its density at distances from the end nearer to the center: exp(−|end| d − d²/2)."""
    args = [jnp.asarray(value, float) for value in (0.0, 1.0, low, high)]
    keys = jax.random.split(jax.random.key(0), N)
    x = np.asarray(jax.jit(jax.vmap(lambda key: truncated_normal(key, *args)))(keys))
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


@pytest.mark.parametrize(
    "prior", [Flat(), HalfNormal(2.0), HalfNormal(1e-3), HalfCauchy(2.5), HalfCauchy(1e-3)]
)
@pytest.mark.parametrize(
    ("n", "squares"),
    [(2, 1.0), (10, 4.0), (1000, 1e6), (100, 1e12), (1000, 1e-30), (2, 1e-300), (1, 1e-20), (0, 0.0)],
)
def test_a_log_scale(prior, n, squares):
    """Also where the prior stands against the data, and without observations."""
    if prior == Flat() and n < 2:
        pytest.skip("improper")
    keys = jax.random.split(jax.random.key(0), N)
    s = jnp.asarray(squares)
    draws = jax.jit(jax.vmap(lambda key: log_scale(key, n, s, prior)))(keys)

    def log_density(t):
        return (1 - n) * t - 0.5 * s * jnp.exp(-2 * t) + prior.log_density(jnp.exp(t))

    assert kolmogorov_smirnov(draws, log_density) > LEAST


@pytest.mark.parametrize("length", [1e-3, 0.1, 1.0, 30.0, 1e4])
@pytest.mark.parametrize(
    "log_density",
    [lambda x: -0.5 * x**2, lambda x: x - jnp.exp(x), lambda x: -jnp.cosh(5 * x), lambda x: -(x**4)],
    ids=["normal", "gumbel", "walls", "quartic"],
)
def test_a_log_concave_density_whatever_the_length(log_density, length):
    keys = jax.random.split(jax.random.key(0), N)
    draw = jax.jit(jax.vmap(lambda key: log_concave(key, log_density, jnp.zeros(()), jnp.asarray(length))))
    assert kolmogorov_smirnov(draw(keys), log_density) > LEAST


def test_what_has_no_log_concave_density_is_no_number_and_ends():
    nan = jnp.asarray(jnp.nan)
    assert jnp.isnan(log_concave(jax.random.key(0), lambda x: -(x**2), nan, jnp.ones(())))
    assert jnp.isnan(log_scale(jax.random.key(0), 5, nan, HalfNormal(1.0)))
    assert jnp.isnan(log_scale(jax.random.key(0), 1, jnp.zeros(()), Flat()))
    assert jnp.isnan(truncated_normal(jax.random.key(0), nan, jnp.ones(()), jnp.zeros(()), jnp.ones(())))


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (1.0, 200.0), (300.0, 1.0), (5.5, 0.2)])
def test_a_logit_of_a_beta_variable(a, b):
    keys = jax.random.split(jax.random.key(0), N)
    draws = jax.vmap(lambda key: logit_beta(key, a, b))(keys)
    log_density = lambda t: a * jax.nn.log_sigmoid(t) + b * jax.nn.log_sigmoid(-t)  # noqa: E731
    assert kolmogorov_smirnov(draws, log_density) > LEAST


# Starts that no chain should come from.

AWKWARD = {
    "eight_schools_centered": [{9: -300.0}, {9: 300.0}],
    "eight_schools_noncentered": [{9: -300.0}, {9: 300.0}],
    "blr": [{5: -300.0}, {5: 100.0}],
    "kidscore_momiq": [{2: -300.0}, {2: 100.0}],
    "low_dim_gauss_mix": [{2: -300.0}, {3: -300.0}, {2: 100.0}, {4: 800.0}, {0: 1e3}, {1: -30.0}],
    "hmm_example": [{2: -30.0}, {3: -30.0}, {2: 10.0}, {0: 800.0, 1: -800.0}],
}


@pytest.mark.parametrize("model", AWKWARD)
def test_awkward_starts_are_left(model):
    """Scales of e^±300, components and states without a single observation, means that coincide."""
    known, usual, _ = case(model)
    key = jax.random.key(0)

    def sweep(i, now):
        position, extra = now
        for number, conditional in enumerate(known.blocks.conditionals.values()):
            for block in range(conditional.size):
                own = jax.random.fold_in(key, 100 * i + 10 * number + block)
                position, extra = conditional.draw(own, jnp.int32(block), position, extra)
        return position, extra

    run = jax.jit(lambda now: jax.lax.fori_loop(0, 50, sweep, now))
    for change in AWKWARD[model]:
        start = usual
        for coordinate, value in change.items():
            start = start.at[coordinate].set(value)
        position, extra = run(sweep(99, (start, known.blocks.start(key, start))))
        assert np.isfinite(position).all()
        for name, found in extra.items():
            assert set(np.unique(found)) == {0, 1}, name


@pytest.mark.parametrize(("model", "name"), [("low_dim_gauss_mix", "labels"), ("hmm_example", "states")])
@pytest.mark.parametrize("all_in", [0, 1])
def test_empty_components_have_their_prior(model, name, all_in):
    """All observations in one component: the other's conditionals are still those of the density."""
    known, position, extra = case(model)
    extra = {name: jnp.full_like(extra[name], all_in)}
    y = jnp.asarray(data_of(model)["y"], float)
    density, _ = COMPLETE[model]
    coordinates = {"sigma": (2, 3), "theta": (4,)} if name == "labels" else {"theta": (0, 1)}
    keys = jax.random.split(jax.random.key(3), N)
    for conditional, places in coordinates.items():
        draw = known.blocks.conditionals[conditional].draw
        for block, c in enumerate(places):
            run = jax.jit(jax.vmap(lambda key, d=draw, b=block: d(key, jnp.int32(b), position, extra)[0]))
            along = lambda t, c=c: density(y, position.at[c].set(t), extra[name])  # noqa: E731
            assert kolmogorov_smirnov(run(keys)[:, c], along) > LEAST


# Programs and the conditionals under their names.


@pytest.mark.parametrize("model", KNOWN)
def test_the_programs_of_the_database_are_the_known_models(model):
    posterior = posteriors()[model]
    target = posterior.target()
    assert target.dim == DIMENSIONS[model]
    assert blocks_for(model, data_of(model), target).blocks is not None


def test_other_models_are_left_as_they_are():
    target = from_stan("parameters { real x; } model { x ~ normal(0, 1); }")
    assert blocks_for("another", {}, target) is target


OTHERS = {
    "eight_schools_centered": ("cauchy(0, 5)", "cauchy(0, 5.1)"),
    "blr": ("sigma ~ normal(0, 10)", "sigma ~ normal(0, 11)"),
    "kidscore_momiq": ("cauchy(0, 2.5)", "cauchy(0, 2.6)"),
    "kidscore_interaction": ("cauchy(0, 2.5)", "student_t(2, 0, 2.5)"),
    "earn_height": ("model {", "model { sigma ~ cauchy(0, 100);"),
    "low_dim_gauss_mix": ("beta(5, 5)", "beta(5, 6)"),
    "hmm_example": ("normal(10, 1)", "normal(10, 1.1)"),
}


@pytest.mark.parametrize("model", OTHERS)
def test_a_program_with_another_prior_is_found_out(model):
    posterior = posteriors()[model]
    program = posterior.program()
    old, new = OTHERS[model]
    assert old in program
    target = from_stan(program.replace(old, new), data_of(model), name=model)
    with pytest.raises(ConditionalsMismatch, match="nats"):
        blocks_for(model, data_of(model), target)


def test_single_precision_is_no_other_density():
    model = "kidscore_momiq"
    posterior = posteriors()[model]
    target = posterior.target("jax", precision="float32", blocks=True)
    assert target.blocks is not None
    program = posterior.program().replace("cauchy(0, 2.5)", "normal(0, 2.5)")
    other = from_stan(program, data_of(model), "jax", name=model, precision="float32")
    with pytest.raises(ConditionalsMismatch, match="nats"):
        blocks_for(model, data_of(model), other)


def test_other_data_are_found_out():
    target = posteriors()["blr"].target()
    with pytest.raises(ConditionalsMismatch, match="data 'X'"):
        blocks_for("blr", {"y": [1.0]}, target)


def test_a_program_that_is_nowhere_finite_is_found_out():
    target = from_stan("parameters { vector[10] x; } model { target += negative_infinity(); }", name="none")
    with pytest.raises(ConditionalsMismatch, match="16 of 16 points"):
        blocks_for("eight_schools_centered", data_of("eight_schools_centered"), target)
