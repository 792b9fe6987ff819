"""Geweke's test of every exact conditional of known Stan models, and of wrong ones, which must fail."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models.conditionals import eight_schools, hidden_markov, mixture, regression, scales
from essper.models.conditionals.scales import HalfCauchy
from essper.models.conditionals.truncated import truncated_normal
from geweke import Joint, movement

SIGMA = jnp.array([4.0, 8.0, 15.0])
DESIGN = jnp.asarray(np.random.default_rng(0).standard_normal((6, 2)))
BLR_PRECISION = 1e-2
"""1/10², of β in blr; the other regression's is larger."""


def school_prior(key):
    mu_key, tau_key, theta_key = jax.random.split(key, 3)
    mu = 5 * jax.random.normal(mu_key)
    tau = 5 * jnp.abs(jax.random.cauchy(tau_key))
    z = jax.random.normal(theta_key, SIGMA.shape)
    return z, mu, tau


def centered_prior(key):
    z, mu, tau = school_prior(key)
    return jnp.concatenate([mu + tau * z, jnp.stack([mu, jnp.log(tau)])]), {}


def noncentered_prior(key):
    z, mu, tau = school_prior(key)
    return jnp.concatenate([z, jnp.stack([mu, jnp.log(tau)])]), {}


def centered_data(key, u, extra):
    return {"y": u[:3] + SIGMA * jax.random.normal(key, (3,)), "sigma": SIGMA}


def noncentered_data(key, u, extra):
    return {"y": u[3] + jnp.exp(u[4]) * u[:3] + SIGMA * jax.random.normal(key, (3,)), "sigma": SIGMA}


def regression_joint(derive, precision, draw_sigma, mistakes):
    units = (precision**-0.5, precision**-0.5, 1.0)

    def prior(key):
        beta_key, sigma_key = jax.random.split(key)
        beta = jax.random.normal(beta_key, (2,)) / precision**0.5
        return jnp.append(beta, jnp.log(draw_sigma(sigma_key))), {}

    def likelihood(key, u, extra):
        return {"X": DESIGN, "y": DESIGN @ u[:2] + jnp.exp(u[2]) * jax.random.normal(key, (6,))}

    return Joint(derive, prior, likelihood, mistakes, "y", 0.0, 2 * units[0], units)


def half_cauchy_regression(data):
    return regression.regression(data["X"], data["y"], HalfCauchy(2.5), precision=0.25)


def mixture_prior(key):
    mu_key, sigma_key, theta_key, label_key = jax.random.split(key, 4)
    mu = jnp.sort(2 * jax.random.normal(mu_key, (2,)))
    sigma = jnp.abs(2 * jax.random.normal(sigma_key, (2,)))
    theta = jax.random.beta(theta_key, 5.0, 5.0)
    labels = jax.random.bernoulli(label_key, 1 - theta, (8,)).astype(jnp.int32)
    gap, odds = jnp.log(mu[1] - mu[0]), jnp.log(theta) - jnp.log1p(-theta)
    return jnp.concatenate([mu[:1], gap[None], jnp.log(sigma), odds[None]]), {"labels": labels}


def mixture_data(key, u, extra):
    mu, sigma = jnp.stack([u[0], u[0] + jnp.exp(u[1])]), jnp.exp(u[2:4])
    z = extra["labels"]
    return {"y": mu[z] + sigma[z] * jax.random.normal(key, z.shape)}


MARKOV_MEANS = (1.0, 2.0)
"""In place of 3 and 10, so that the bounds 0 < μ_1 < μ_2 count."""


def markov_prior(key):
    row_key, mu_key, state_key = jax.random.split(key, 3)
    rows = jax.random.uniform(row_key, (2,))  # probabilities of the first state

    def again(now):
        number, _ = now
        proposed = jnp.array(MARKOV_MEANS) + jax.random.normal(jax.random.fold_in(mu_key, number), (2,))
        return number + 1, proposed

    def fits(mu):
        return (mu[0] > 0) & (mu[1] > mu[0])

    _, mu = jax.lax.while_loop(lambda now: ~fits(now[1]), again, (0, jnp.zeros(2)))

    def after(state, key):
        following = (jax.random.uniform(key) > rows[state]).astype(jnp.int32)
        return following, following

    first, *keys = jax.random.split(state_key, 6)
    begin = jax.random.bernoulli(first).astype(jnp.int32)
    _, others = jax.lax.scan(after, begin, jnp.stack(keys))
    odds = (jnp.log(rows) - jnp.log1p(-rows)) / 2**0.5
    position = jnp.concatenate([odds, jnp.log(jnp.stack([mu[0], mu[1] - mu[0]]))])
    return position, {"states": jnp.append(begin, others)}


def markov_data(key, u, extra):
    mu = jnp.exp(u[2]) + jnp.array([0.0, 1.0]) * jnp.exp(u[3])
    return {"y": mu[extra["states"]] + jax.random.normal(key, (6,))}


# What is wrong in each: a number that is off, or what a derivation by hand forgets. Each by an amount: 1, or
# 0 for the conditional as it is.


def too_wide(conditional, amount):
    """A Gaussian with the right mean and a precision that is too small by 18 %: 1/(1.1² + 0.1²)."""

    def draw(key, block, u, extra):
        one = conditional.draw(key, block, u, extra)[0]
        another = conditional.draw(jax.random.fold_in(key, 1), block, u, extra)[0]
        return one + 0.1 * amount * (one - another), extra

    return replace(conditional, draw=draw)


def given_elsewhere(coordinate, by):
    """The conditional distribution given another value of one coordinate than the chain's."""

    def mistake(conditional, amount):
        def draw(key, block, u, extra):
            moved, extra = conditional.draw(key, block, u.at[coordinate].add(by * amount), extra)
            return moved.at[coordinate].add(-by * amount), extra

        return replace(conditional, draw=draw)

    return mistake


def traced_with(conditional, module, name, changed):
    """Something else under a module's name while the conditional's draw is traced."""

    def draw(key, block, u, extra):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, changed)
            return conditional.draw(key, block, u, extra)

    return replace(conditional, draw=draw)


def degree_of_freedom_lost(module):
    """n − 1 in place of n, or the Jacobian of σ = e^t forgotten, which is the same."""

    def mistake(conditional, amount):
        def wrong(key, n, *rest):
            return scales.log_scale(key, n - amount, *rest)

        return traced_with(conditional, module, "log_scale", wrong)

    return mistake


def jacobian_forgotten(conditional, amount):
    """θ^(a−1) (1−θ)^(b−1) taken for the density of logit θ."""
    return traced_with(conditional, mixture, "CONCENTRATION", mixture.CONCENTRATION - amount)


def bounds_moved(module, conditional, amount):
    """A bound that is one of two means, the other's side open, moved by 0.2."""

    def wrong(key, loc, scale, low, high):
        first = jnp.where(jnp.isinf(high), low + 0.2 * amount, low)
        return truncated_normal(key, loc, scale, first, jnp.where(jnp.isinf(low), high - 0.2 * amount, high))

    return traced_with(conditional, module, "truncated_normal", wrong)


def rows_exchanged(conditional, amount):
    def draw(key, block, u, extra):
        drawn = jnp.where(amount > 0, 1 - block, block)
        other, _ = conditional.draw(key, drawn, u, extra)
        return u.at[block].set(other[drawn]), extra

    return replace(conditional, draw=draw)


def each_alone(conditional, amount):
    """Every state drawn from its own distribution, not given the one after it."""

    def draw(key, block, u, extra):
        number = jnp.where(amount > 0, jnp.arange(6), 0)
        keys = jax.vmap(partial(jax.random.fold_in, key))(number)
        paths = jax.vmap(lambda key: conditional.draw(key, block, u, extra)[1]["states"])(keys)
        return u, {"states": jnp.diagonal(paths)}

    return replace(conditional, draw=draw)


JOINTS = {
    "eight_schools_centered": Joint(
        eight_schools.centered,
        centered_prior,
        centered_data,
        {"theta": too_wide, "mu": too_wide},
        "y",
        0.0,
        10.0,
        (8.0, 8.0, 8.0, 5.0, 1.0),
    ),
    "eight_schools_noncentered": Joint(
        eight_schools.noncentered,
        noncentered_prior,
        noncentered_data,
        {"theta_trans": too_wide, "mu": too_wide},
        "y",
        0.0,
        10.0,
        (1.0, 1.0, 1.0, 5.0, 1.0),
    ),
    "blr": regression_joint(
        regression.blr,
        BLR_PRECISION,
        lambda key: 10 * jnp.abs(jax.random.normal(key)),
        {"beta": too_wide, "sigma": degree_of_freedom_lost(regression)},
    ),
    "half-Cauchy regression": regression_joint(
        half_cauchy_regression,
        0.25,
        lambda key: 2.5 * jnp.abs(jax.random.cauchy(key)),
        {"beta": given_elsewhere(2, 0.3), "sigma": degree_of_freedom_lost(regression)},
    ),
    "low_dim_gauss_mix": Joint(
        mixture.low_dim_gauss_mix,
        mixture_prior,
        mixture_data,
        {
            "labels": given_elsewhere(4, 0.3),
            "theta": jacobian_forgotten,
            "mu": partial(bounds_moved, mixture),
            "sigma": degree_of_freedom_lost(mixture),
        },
        "y",
        0.0,
        2.0,
        (2.0, 1.0, 1.0, 1.0, 0.5),
    ),
    "hmm_example": Joint(
        hidden_markov.hmm_example,
        markov_prior,
        markov_data,
        {"states": each_alone, "theta": rows_exchanged, "mu": partial(bounds_moved, hidden_markov)},
        "y",
        1.5,
    ),
}
CONDITIONALS = [(model, name) for model, joint in JOINTS.items() for name in joint.mistakes]


@pytest.fixture(autouse=True)
def means_that_meet_their_bounds(monkeypatch):
    monkeypatch.setattr(hidden_markov, "PRIOR_MEANS", MARKOV_MEANS)


@pytest.mark.parametrize(("model", "name"), CONDITIONALS)
def test_a_conditional_leaves_parameters_and_data_invariant(model, name):
    assert movement(JOINTS[model], name) < 4


@pytest.mark.parametrize(("model", "name"), CONDITIONALS)
def test_a_wrong_conditional_moves_them(model, name):
    assert movement(JOINTS[model], name, mistake=1.0) > 5


@pytest.mark.parametrize("model", JOINTS)
def test_no_conditional_is_left_out(model):
    joint = JOINTS[model]

    def names(key):
        position, extra = joint.prior(key)
        found.extend(joint.derive(joint.likelihood(key, position, extra)).blocks.conditionals)

    found = []
    jax.eval_shape(names, jax.random.key(0))
    assert set(found) == set(joint.mistakes)
