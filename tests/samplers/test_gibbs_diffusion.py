"""Gibbs diffusion: sweeps leave the posterior invariant, wrong denoisers are found out, costs are true."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import standard_gaussian
from essper.models.gaussian_field import GaussianField
from essper.samplers import Budget
from essper.samplers.diffusion import ExactMean, ReverseDiffusion, WienerDenoiser
from essper.samplers.gibbs_diffusion import GibbsDiffusion, _reflected
from invariance import BATCH, z_scores

FIELD = GaussianField()
N, SWEEPS, TRUE_SIGMA = 6000, 6, 0.2
LOW, HIGH = FIELD.wave_number < 3, FIELD.wave_number > 7


def functions(u, x, y):
    """Bounded, of the parameters, the field and the noise: where each is, and how they go together."""
    phi, sigma = FIELD.constrain(u)
    waves, noise = FIELD.transform(x), FIELD.transform(y - x) / sigma
    power = jnp.square(noise) / FIELD.noise_spectrum(phi)
    shape = jnp.stack([(power[LOW].mean() - 1) * 3, (power[HIGH].mean() - 1) * 6, (power.mean() - 1) * 8])
    of_field = jnp.square(waves) / FIELD.prior_spectrum
    own = jnp.stack([waves[0, 0], waves[1, 2] * 2, (of_field[HIGH].mean() - 1) * 6])
    places = jax.nn.sigmoid(u)
    below = (places[:, None] < jnp.array([0.1, 0.25, 0.5, 0.75, 0.9])).ravel().astype(u.dtype)
    return jnp.concatenate(
        [below, places, jnp.tanh(shape), jnp.tanh(own), places[:1] * places[1:], jnp.tanh(shape * places[1])]
    )


def of_the_joint(keys):
    """A data set for every chain, which starts from what the data were made from."""
    made = jax.vmap(FIELD.simulate)(keys)
    return FIELD.unconstrain(made.phi, made.sigma), made.x, made.y


def of_a_posterior(keys):
    """One data set, σ = 0.2; chains start from the posterior of (φ, σ) on a fine grid, and x given those."""
    fields = jax.random.split(jax.random.key(21))
    phi, sigma = jnp.asarray(0.4), jnp.asarray(TRUE_SIGMA)
    y = FIELD.draw_field(fields[0]) + sigma * FIELD.draw_noise(fields[1], phi)
    grid, rng = FIELD.grid(y, 400), np.random.default_rng(0)
    cell = rng.choice(grid.probability.size, len(keys), p=grid.probability.ravel())
    inside = rng.uniform(-0.5, 0.5, (2, len(keys)))
    phi = grid.phi[cell // 400] + inside[0] * np.diff(grid.phi)[0]
    sigma = grid.sigma[cell % 400] + inside[1] * np.diff(grid.sigma)[0]
    x = jax.vmap(FIELD.draw_wiener, (0, None, 0, 0))(keys, y, phi, sigma)
    return FIELD.unconstrain(jnp.asarray(phi), jnp.asarray(sigma)), x, jnp.broadcast_to(y, x.shape)


@functools.cache
def tuned():
    """What the updates of a chain on a data set of its own have adapted."""

    other = FIELD.simulate(jax.random.key(11))
    kernel = GibbsDiffusion(WienerDenoiser(FIELD)).kernel(FIELD, other.y)
    assert kernel.warm is not None
    state, _ = kernel.init(jax.random.key(0), FIELD.unconstrain(other.phi, other.sigma))
    warm = jax.jit(kernel.warm)
    for key in jax.random.split(jax.random.key(1), 300):
        state, _ = warm(key, state)
    return state.updates


@dataclass(frozen=True)
class OfTheTruth:
    """Uses the σ that the data were made with in place of the chain's."""

    def draw(self, key, y, phi, sigma):
        return FIELD.draw_wiener(key, y, phi, jnp.asarray(TRUE_SIGMA))


@dataclass(frozen=True)
class OfAnotherScale:
    """Rescales y by the √ᾱ of σ = 0.04, whatever the chain's σ."""

    def draw(self, key, y, phi, sigma):
        return FIELD.draw_wiener(key, y * jnp.sqrt((1 + sigma**2) / (1 + 0.04**2)), phi, sigma)


DENOISERS = {
    "right": WienerDenoiser(FIELD),
    "true sigma": OfTheTruth(),
    "wrong scale": OfAnotherScale(),
    "coarse": ReverseDiffusion(FIELD, ExactMean(FIELD), 6, "ancestral"),
}


@dataclass(frozen=True)
class Chosen:
    """One of the denoisers, by an index that may be traced: all of them are one program."""

    index: jax.Array
    evaluations = 0

    def draw(self, key, y, phi, sigma):
        draws = [denoiser.draw for denoiser in DENOISERS.values()]
        return jax.lax.switch(self.index, draws, key, y, phi, sigma)


@jax.jit
def changes(index, updates, keys, u, x, y):
    """Of the functions after one sweep and after all; the mean acceptance probability."""

    def chain(arguments):
        key, u, x, y = arguments
        kernel = GibbsDiffusion(Chosen(index)).kernel(FIELD, y)
        state, _ = kernel.init(key, u)
        before = functions(u, x, y)

        def step(state, key):
            state, info = kernel.step(key, state)
            after = functions(kernel.position(state), state.point.extra["x"], y)
            return state, (after - before, info.acceptance)

        _, (change, acceptance) = jax.lax.scan(
            step, state._replace(updates=updates), jax.random.split(key, SWEEPS)
        )
        return change[0], change[-1], acceptance.mean()

    return jax.lax.map(chain, (keys, u, x, y), batch_size=BATCH)


def worst_drifts(name, start):
    """|z| of the mean change of every function, the largest, after one sweep and after all.

    Step size and metric are of another data set."""
    of_start, of_sweeps = jax.random.split(jax.random.key(5), (2, N))
    one, every, acceptance = changes(
        jnp.asarray(list(DENOISERS).index(name)), tuned(), of_sweeps, *start(of_start)
    )
    assert 0.5 < acceptance.mean() < 0.99
    return [np.abs(z_scores(np.asarray(change))).max() for change in (one, every)]


@pytest.mark.parametrize("start", [of_the_joint, of_a_posterior])
def test_a_sweep_leaves_the_posterior_invariant(start):
    assert max(worst_drifts("right", start)) < 4


@pytest.mark.parametrize(
    ("name", "start"),
    [("true sigma", of_a_posterior), ("wrong scale", of_the_joint), ("coarse", of_the_joint)],
)
def test_wrong_denoisers_are_found_out(name, start):
    assert worst_drifts(name, start)[1] > 5


def test_reflections():
    x = jnp.array([0.3, -0.3, 1.25, 2.5, -3.75, 0.0, 1.0])
    assert np.allclose(_reflected(x, 0.0, 1.0), [0.3, 0.3, 0.75, 0.5, 0.25, 0.0, 1.0])


def test_a_run_agrees_with_the_grid():
    """Of (φ, σ); and of the field, whose mean given y alone is the grid's mixture of Wiener's."""
    made = FIELD.simulate(jax.random.key(1))
    run = GibbsDiffusion(WienerDenoiser(FIELD)).run(
        jax.random.key(0), FIELD.target(made.y), Budget(20_000), chains=4
    )
    draws, grid = run.constrained(), FIELD.grid(made.y, 100)
    for column, places, p in (
        (0, grid.phi, grid.probability.sum(1)),
        (1, grid.sigma, grid.probability.sum(0)),
    ):
        mean = (p * places).sum()
        deviation = np.sqrt((p * (places - mean) ** 2).sum())
        assert abs(draws[..., column].mean() - mean) < 0.2 * deviation
        assert 0.9 < draws[..., column].std() / deviation < 1.1
    x = np.asarray(run.info.extra["x"])
    assert x.shape == (*run.draws.shape[:2], 16, 16)
    gains = jax.vmap(lambda phi: jax.vmap(lambda sigma: FIELD.wiener_gain(phi, sigma))(grid.sigma))(grid.phi)
    mixed = jnp.einsum("ab,abij->ij", grid.probability, gains)
    expected = FIELD.transform(mixed * FIELD.transform(made.y))
    assert np.sqrt(np.mean((x.mean((0, 1)) - expected) ** 2)) < 0.1 * x.std((0, 1)).mean()
    sweeps = run.draws.shape[1]
    assert np.all(run.sampling.gradients == 4 * sweeps)
    assert np.all(run.sampling.conditional_draws == sweeps)
    assert not run.sampling.densities.any()
    assert not run.info.extra["score_evaluations"].any()


def test_what_is_reported_is_what_was_executed(monkeypatch):
    """Evaluations of the noise's likelihood, and of the mean, against callbacks from within the program."""
    small, gradients, means = GaussianField(side=5), [], []
    likelihood = GaussianField.log_noise

    def counted(self, coefficients, phi, sigma):
        jax.debug.callback(lambda _: gradients.append(1), sigma)
        return likelihood(self, coefficients, phi, sigma)

    @dataclass(frozen=True)
    class CountedMean:
        def __call__(self, x_t, phi, alpha_bar):
            jax.debug.callback(lambda _: means.append(1), x_t[0, 0])
            return ExactMean(small)(x_t, phi, alpha_bar)

    monkeypatch.setattr(GaussianField, "log_noise", counted)
    sampler = GibbsDiffusion(ReverseDiffusion(small, CountedMean(), 3), num_integration_steps=2)
    target = small.target(small.simulate(jax.random.key(0)).y)
    run = sampler.run(jax.random.key(1), target, Budget(200), chains=2)
    jax.effects_barrier()
    sweeps = run.warmup.conditional_draws + run.sampling.conditional_draws
    initial = 2  # of the target's density, once a chain
    assert (
        len(gradients) == np.sum(run.warmup.gradients + run.sampling.gradients) - initial == 3 * sweeps.sum()
    )
    assert len(means) == 5 * sweeps.sum()
    assert np.all(run.info.extra["score_evaluations"] == 5)
    assert np.all(run.sampling.conditional_draws == run.draws.shape[1])


def test_kernels_work_over_data_sets():
    data = jax.vmap(FIELD.simulate)(jax.random.split(jax.random.key(0), 3))
    sampler = GibbsDiffusion(ReverseDiffusion(FIELD, ExactMean(FIELD), 4))

    def one(key, y):
        kernel = sampler.kernel(FIELD, y)
        state, _ = kernel.init(key, jnp.zeros(2))
        state, info = kernel.step(key, state)
        return kernel.position(state), info.extra["x"]

    keys = jax.random.split(jax.random.key(1), 3)
    u, x = jax.jit(jax.vmap(one))(keys, data.y)
    alone, x_alone = jax.jit(one)(keys[1], data.y[1])
    assert np.allclose(u[1], alone)
    assert np.allclose(x[1], x_alone)


def test_other_targets_are_refused():
    with pytest.raises(ValueError, match="standard_gaussian is not a field"):
        GibbsDiffusion(WienerDenoiser(FIELD)).run(jax.random.key(0), standard_gaussian(2), Budget(100))


@pytest.mark.parametrize("options", [{"num_integration_steps": 0}, {"warmup": 1.0}])
def test_wrong_settings(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        GibbsDiffusion(WienerDenoiser(FIELD), **options)
