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
from essper.models.conditionals.mixture import low_dim_gauss_mix
from essper.posteriordb_adapter import PosteriorDatabase
from goodness import KEYS, LEAST, N, kolmogorov_smirnov
from jax.scipy.stats import norm
from scipy import stats
from scipy.special import logsumexp, softmax

TOGETHER = 100
"""Chains that one call of a model's program draws; small, because it also takes long series of sweeps."""


@cache
def posteriors():
    """By model, one posterior of each known one."""
    database = PosteriorDatabase()
    every = [database.posterior(name) for name in database.names()]
    return {posterior.model.name: posterior for posterior in every if posterior.model.name in KNOWN}


def data_of(model):
    return json.loads(posteriors()[model].data_text())


@cache
def program(model):
    """``(data of keys, number of the conditional, block, positions, extra) -> (positions, extra)``: draws of
    any conditional of the model, for ``TOGETHER`` chains."""
    conditionals = known_model(model).blocks.conditionals.values()

    def draw(key, number, block, position, extra):
        draws = [conditional.draw for conditional in conditionals]
        return jax.lax.switch(number, draws, jax.random.wrap_key_data(key), block, position, extra)

    return jax.jit(jax.vmap(draw, in_axes=(0, None, None, 0, 0)))


@cache
def known_model(model):
    return KNOWN[model](data_of(model))


def sweeps(model, positions, n):
    """Positions and extra variables of ``TOGETHER`` chains after ``n`` systematic scans."""
    blocks = known_model(model).blocks
    key = jax.random.key(1)
    shapes = jax.eval_shape(jax.vmap(blocks.start, in_axes=(None, 0)), key, positions)
    # The first conditional draws all of it, given the position alone.
    extra = jax.tree.map(lambda leaf: jnp.full(leaf.shape, -1, leaf.dtype), shapes)
    keys = np.asarray(jax.random.key_data(jax.random.split(key, (n, 10, TOGETHER))))
    for scan in keys:
        own = iter(scan)
        for number, conditional in enumerate(blocks.conditionals.values()):
            for block in range(conditional.size):
                positions, extra = program(model)(next(own), number, block, positions, extra)
    return positions, extra


@cache
def case(model):
    """The model on its data, and a point where a few sweeps have led, with its extra variables."""
    begun = 0.5 * jax.random.normal(jax.random.key(1), (DIMENSIONS[model],))
    position, extra = sweeps(model, jnp.tile(begun, (TOGETHER, 1)), 5)
    return known_model(model), position[0], {name: value[0] for name, value in extra.items()}


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
REGRESSIONS = ("blr", "kidscore_momiq", "nes")
"""One of each prior of σ."""


def drawn(model, name, block=0, position=None, extra=None):
    """``N`` draws at the point, or at another: positions ``f[n, dim]`` and extra variables."""
    known, usual, labels = case(model)
    number = list(known.blocks.conditionals).index(name)
    given = (usual if position is None else position, labels if extra is None else extra)
    many = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (TOGETHER, *leaf.shape)), given)
    keys = np.asarray(jax.random.key_data(KEYS)).reshape(-1, TOGETHER, 2)
    parts = [program(model)(some, number, block, *many) for some in keys]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


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


@cache
def complete(model):
    """``(positions [n, dim], extra) -> f[n]``, the log density given labels where the model has them; n is
    ``GRID``."""

    def at(u, extra):
        if model not in COMPLETE:
            return known_model(model).log_density(u)
        density, name = COMPLETE[model]
        return density(jnp.asarray(data_of(model)["y"], float), u, extra[name])

    return jax.jit(lambda us, extra: jax.lax.map(lambda u: at(u, extra), us, batch_size=500))


def along(model, coordinate, position, extra):
    """``f[GRID] -> f[GRID]``: the log density where one coordinate varies."""

    def log_density(grid):
        points = np.tile(position, (len(grid), 1))
        points[:, coordinate] = grid
        return complete(model)(points, extra)

    return log_density


@pytest.mark.parametrize("derive", [low_dim_gauss_mix, hmm_example])
def test_the_density_with_labels_sums_to_the_one_without(derive):
    model = derive.__name__
    density, name = COMPLETE[model]
    y = jnp.array([3.1, 9.5, 2.0, 1.0, 11.0, 4.0])
    known = derive({"y": y})
    labels = jnp.array(list(itertools.product((0, 1), repeat=6)))
    points = jax.random.normal(jax.random.key(0), (5, DIMENSIONS[model]))
    every = jax.jit(jax.vmap(lambda u: jax.vmap(lambda z: density(y, u, z))(labels)))(points)
    whole = jax.jit(jax.vmap(known.log_density))(points)
    assert np.ptp(logsumexp(every, axis=1) - np.asarray(whole)) < 1e-9
    # And what is drawn at one of them: every path with its probability.
    probabilities = softmax(every[0])
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


@cache
def derivatives(model):
    """``u -> (gradient, Hessian)`` of the log density."""
    log_density = known_model(model).log_density
    return jax.jit(lambda u: (jax.grad(log_density)(u), jax.hessian(log_density)(u)))


@pytest.mark.parametrize(("model", "name"), [(m, name) for m in GAUSSIAN for name in GAUSSIAN[m]])
def test_a_gaussian_conditional_has_the_moments_of_the_density(model, name):
    """The log density is quadratic in the block: its derivatives anywhere give mean and covariance."""
    _, position, _ = case(model)
    chosen = GAUSSIAN[model][name]
    gradient, hessian = (np.asarray(value) for value in derivatives(model)(position))
    precision = -hessian[chosen, chosen]
    mean = np.asarray(position)[chosen] + np.linalg.solve(precision, gradient[chosen])
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
    _, position, extra = case(model)
    for block, coordinate in enumerate(SCALAR[model][name]):
        draws, _ = drawn(model, name, block)
        density = along(model, coordinate, position, extra)
        assert kolmogorov_smirnov(draws[:, coordinate], density) > LEAST
        others = np.delete(np.asarray(draws), coordinate, axis=1)
        assert np.all(others == np.delete(np.asarray(position), coordinate))


@pytest.mark.parametrize("block", [0, 1])
@pytest.mark.parametrize("model", ["low_dim_gauss_mix", "hmm_example"])
def test_an_ordered_mean_has_the_distribution_of_the_density(model, block):
    _, position, extra = case(model)
    positive = model == "hmm_example"
    at = (2, 3) if positive else (0, 1)

    def means(u):
        low = np.exp(u[..., at[0]]) if positive else u[..., at[0]]
        return np.stack([low, low + np.exp(u[..., at[1]])], axis=-1)

    held = means(np.asarray(position))

    def log_density(grid):
        mu = np.tile(held, (len(grid), 1))
        mu[:, block] = grid
        with np.errstate(invalid="ignore", divide="ignore"):
            gap = np.log(mu[:, 1] - mu[:, 0])
            first = np.log(mu[:, 0]) if positive else mu[:, 0]
        points = np.tile(position, (len(grid), 1))
        points[:, at[0]], points[:, at[1]] = first, gap
        return complete(model)(points, extra) - gap - (first if positive else 0.0)

    draws, _ = drawn(model, "mu", block)
    found = means(draws)
    assert np.allclose(found[:, 1 - block], held[1 - block], rtol=1e-12)
    assert kolmogorov_smirnov(found[:, block], log_density) > LEAST


def test_labels_have_their_probabilities():
    _, position, extra = case("low_dim_gauss_mix")
    y = jnp.asarray(data_of("low_dim_gauss_mix")["y"], float)
    own = jax.jit(
        jax.vmap(lambda i, k: mixture_with_labels(y, position, extra["labels"].at[i].set(k)), (0, None))
    )
    either = [own(jnp.arange(len(y)), k) for k in (0, 1)]
    upper = np.asarray(jax.nn.sigmoid(either[1] - either[0]))
    labels = np.asarray(drawn("low_dim_gauss_mix", "labels")[1]["labels"])
    assert max_z(labels.mean(0), upper) < 5


def test_states_have_their_probabilities_and_those_of_their_moves():
    """Forward and backward recursions of the probabilities themselves, scaled at every step; with means so
    near to one another that states are uncertain."""
    _, position, _ = case("hmm_example")
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
    states = drawn("hmm_example", "states", position=position)[1]["states"]
    assert max_z(states.mean(0), upper) < 5
    assert max_z(((states[:, :-1] == 0) & (states[:, 1:] == 1)).mean(0), pairs[:, 0, 1]) < 5


def max_z(frequencies, probabilities):
    """Of those that are not certain; the others must be."""
    error = np.sqrt(probabilities * (1 - probabilities) / N)
    rare = N * probabilities * (1 - probabilities) < 10
    assert np.all(np.abs(frequencies - probabilities)[rare] < 30 / N)
    assert (~rare).sum() > 20
    return np.abs((frequencies - probabilities)[~rare] / error[~rare]).max()


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
    _, usual, _ = case(model)
    starts = np.tile(usual, (TOGETHER, 1))
    for number, change in enumerate(AWKWARD[model]):
        for coordinate, value in change.items():
            starts[number :: len(AWKWARD[model]), coordinate] = value
    position, extra = sweeps(model, jnp.asarray(starts), 50)
    assert np.isfinite(position).all()
    for name, found in extra.items():
        assert np.all((found == 0) | (found == 1))
        assert np.all(np.ptp(found, axis=1) == 1), name


@pytest.mark.parametrize(("model", "name"), [("low_dim_gauss_mix", "labels"), ("hmm_example", "states")])
@pytest.mark.parametrize("all_in", [0, 1])
def test_empty_components_have_their_prior(model, name, all_in):
    """All observations in one component: the other's conditionals are still those of the density."""
    _, position, extra = case(model)
    extra = {name: jnp.full_like(extra[name], all_in)}
    coordinates = {"sigma": (2, 3), "theta": (4,)} if name == "labels" else {"theta": (0, 1)}
    for conditional, places in coordinates.items():
        for block, c in enumerate(places):
            draws, _ = drawn(model, conditional, block, extra=extra)
            assert kolmogorov_smirnov(draws[:, c], along(model, c, position, extra)) > LEAST


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
