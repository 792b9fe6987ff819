"""Federated SGLD: unbiased gradients, shards and rounds, paths, costs, and what wrong variants would show."""

import functools
import itertools
import json
from dataclasses import asdict, replace
from typing import Any

import essper.models  # noqa: F401  (float64)
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.benchmarks import specs
from essper.models.factorization import Factorization, factorized_target, from_rows
from essper.samplers.base import Budget, Run, chain_keys
from essper.samplers.federated import (
    DistributedSGLD,
    Division,
    FederatedSGLD,
    ShardGradients,
    shard_expansions,
)
from essper.samplers.stochastic import Gradients, Problem, Schedule

KEY = jax.random.key(3)
RNG = np.random.default_rng(1)
EVERY_STEP = 10**9
"""As many draws: every step after the burn-in is one."""


# -- unbiased, by enumeration ------------------------------------------------------------------------

COVARIATES = RNG.normal(size=(7, 2))
OUTCOMES = np.array([0.0, 1, 1, 0, 1, 0, 1])
UNEQUAL = ((0, 4, 2), (5, 1), (3, 6))


def log_prior(theta: jax.Array) -> jax.Array:
    return -0.3 * jnp.sum(theta**4)


def logistic(theta: jax.Array, row: tuple[jax.Array, jax.Array]) -> jax.Array:
    covariates, outcome = row
    return outcome * (covariates @ theta) - jnp.logaddexp(0.0, covariates @ theta)


TINY = from_rows(log_prior, logistic, (COVARIATES, OUTCOMES))
POINT = jnp.array([0.7, -0.4])


def tiny_problem(temperature: float = 1.0) -> Problem:
    return Problem(TINY, jnp.asarray(temperature))


@functools.partial(jax.jit, static_argnums=0)
def averaged(estimator: ShardGradients, problem: Problem) -> jax.Array:
    """The estimate's mean over all shards and all batches, each with its probability."""
    state = estimator.start(problem, KEY, jnp.array([0.1, 0.2]))
    shards = estimator.division.of(problem.n)
    probabilities = estimator.division.probabilities(problem.n, estimator.probabilities)
    total = jnp.zeros(2)
    for s, (rows, probability) in enumerate(zip(shards, probabilities, strict=True)):
        batches = [rows] if estimator.batch is None else list(itertools.product(rows, repeat=estimator.batch))
        found = jax.vmap(lambda b, s=s: estimator.gradient(problem, state, POINT, jnp.asarray(s), b))(
            jnp.asarray(batches)
        )
        total += probability * found.mean(0)
    return total


@pytest.mark.parametrize(
    ("probabilities", "conducive", "batch", "temperature"),
    [
        ("uniform", True, 2, 1.0),
        ("sizes", True, None, 3.0),
        ("uniform", False, None, 1.0),
        ("sizes", False, 2, 3.0),
    ],
)
def test_averaged_over_shards_and_batches_it_is_the_gradient(
    probabilities, conducive, batch, temperature
) -> None:
    problem = tiny_problem(temperature)
    division = Division(3, "contiguous", 0, UNEQUAL)
    estimator = ShardGradients(division, probabilities, 5, conducive, batch, 2)
    exact = jax.grad(problem.log_density)(POINT)
    np.testing.assert_allclose(averaged(estimator, problem), exact, rtol=1e-11)


class WithoutProbabilities(ShardGradients):
    """Scaled by N_s/m and not by N_s/(f_s m)."""

    def gradient(self, problem, state, position, shard, rows):
        sizes = jnp.asarray([len(members) for members in self.division.of(problem.n)])
        prior = jax.grad(problem.log_prior)(position)
        return prior + sizes[shard] / len(rows) * jax.grad(problem.log_likelihood)(position, rows)


def test_an_estimate_without_the_probabilities_of_visits_would_be_found() -> None:
    estimator = WithoutProbabilities(Division(3, "contiguous", 0, UNEQUAL), "sizes", 5, False, 2, 2)
    exact = jax.grad(tiny_problem().log_density)(POINT)
    assert np.max(np.abs(averaged(estimator, tiny_problem()) - exact)) > 0.1 * np.max(np.abs(exact))


def test_the_expansions_are_those_of_each_shards_tempered_likelihood() -> None:
    problem, shards = tiny_problem(2.0), Division(3, "contiguous", 0, UNEQUAL).of(7)
    gradients, hessians = shard_expansions(problem, shards, POINT)
    for rows, gradient, hessian in zip(shards, gradients, hessians, strict=True):
        x, y = COVARIATES[rows], OUTCOMES[rows]
        p = 1 / (1 + np.exp(-x @ np.asarray(POINT)))
        np.testing.assert_allclose(gradient, x.T @ (y - p) / 2, rtol=1e-10)
        np.testing.assert_allclose(hessian, -(x.T * (p * (1 - p))) @ x / 2, rtol=1e-10)


# -- shards, rounds, batches --------------------------------------------------------------------------


def test_rows_are_dealt_to_shards_of_nearly_one_size() -> None:
    contiguous = Division(3, "contiguous", 0, None).of(8)
    assert [rows.tolist() for rows in contiguous] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    shuffled = Division(3, "shuffled", 4, None).of(8)
    assert [len(rows) for rows in shuffled] == [3, 3, 2]
    assert sorted(np.concatenate(shuffled)) == list(range(8))
    assert not np.array_equal(np.concatenate(shuffled), np.arange(8))
    assert np.array_equal(shuffled[0], Division(3, "shuffled", 4, None).of(8)[0])
    assert not np.array_equal(
        np.concatenate(shuffled), np.concatenate(Division(3, "shuffled", 5, None).of(8))
    )


@pytest.mark.parametrize(
    ("probabilities", "expected"), [("uniform", [1 / 3] * 3), ("sizes", [3 / 7, 2 / 7, 2 / 7])]
)
def test_shards_are_visited_with_their_probability_for_a_round(probabilities, expected) -> None:
    problem = tiny_problem()
    estimator = ShardGradients(Division(3, "contiguous", 0, UNEQUAL), probabilities, 4, False, 1, 2)
    seen = np.asarray(jax.vmap(lambda r: estimator.visited(problem, KEY, r))(jnp.arange(30_000)))
    frequencies = np.bincount(seen, minlength=3) / len(seen)
    assert np.max(np.abs(frequencies - expected)) < 4 * np.sqrt(0.25 / len(seen))

    # The gradient of step t is that of the shard of round t // 4, of rows of this shard.
    rows = [
        np.asarray(
            jax.vmap(lambda k, s=s: estimator.rows(problem, k, jnp.asarray(s)))(jax.random.split(KEY, 500))
        )
        for s in range(3)
    ]
    assert [set(batch.ravel()) for batch in rows] == [set(shard) for shard in UNEQUAL]
    counts = np.bincount(rows[0].ravel(), minlength=7)[list(UNEQUAL[0])]
    assert np.all(np.abs(counts / 500 - 1 / 3) < 4 * np.sqrt(2 / 9 / 500))


# -- paths --------------------------------------------------------------------------------------------

SHARDS, EACH = 4, 25
MEANS = RNG.uniform(-6, 6, (SHARDS, 1, 2))
DATA = (MEANS + RNG.normal(size=(SHARDS, EACH, 2))).reshape(-1, 2)
PRECISION = np.array([[2.0, 0.6], [0.6, 1.0]])


def gaussian_prior(theta: jax.Array) -> jax.Array:
    return -0.5 * theta @ theta / 4


def gaussian_row(theta: jax.Array, row: jax.Array) -> jax.Array:
    return -0.5 * (row - theta) @ PRECISION @ (row - theta)


GAUSSIAN = factorized_target("shards", 2, gaussian_prior, gaussian_row, DATA)
STEP = 2e-4
FIXED = Schedule(step_size=STEP, burn_in=0.0, draws=EVERY_STEP, start="random")


assert GAUSSIAN.likelihood is not None
PROBLEM = Problem(GAUSSIAN.likelihood, jnp.asarray(1.0))


def run(sampler, gradients: int, chains: int = 2) -> Run:
    return sampler.run(KEY, GAUSSIAN, Budget(gradients), chains=chains)


def by_hand(key: jax.Array, first: np.ndarray, steps: int, temperature: float, gradient) -> np.ndarray:
    """A path of Langevin dynamics in NumPy from the engine's keys; ``gradient(number, key, theta)``."""
    h, theta, path = STEP, first, [first]
    for number in range(1, steps):
        rows, noise = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 2), number))
        moved = theta + h * gradient(number, rows, theta)
        theta = moved + np.sqrt(2 * h * temperature) * np.asarray(jax.random.normal(noise, (2,)))
        path.append(theta)
    return np.array(path)


def test_with_exact_approximations_and_whole_shards_it_is_ula_path_by_path() -> None:
    sampler = FederatedSGLD(schedule=FIXED, shards=SHARDS, full_batches=True, local_steps=7)
    federated = run(sampler, 20)
    estimator, _ = sampler.estimator(PROBLEM, jnp.zeros((1, 2)))
    assert isinstance(estimator, ShardGradients)

    def full(number, rows, theta):
        return -theta / 4 + (DATA - theta).sum(0) @ PRECISION

    for found, key in zip(federated.draws[:, :60], chain_keys(KEY, 2), strict=True):
        visits = jax.random.split(jax.random.fold_in(key, 1))[0]

        def of_the_shard(number, rows, theta, visits=visits):
            shard = int(estimator.visited(PROBLEM, visits, jnp.asarray(number // 7)))
            mean = DATA.reshape(SHARDS, EACH, 2)[shard].mean(0)
            return -theta / 4 + len(DATA) * (mean - theta) @ PRECISION

        ula = by_hand(key, found[0], 60, 1.0, full)
        np.testing.assert_allclose(found, ula, rtol=1e-10, atol=1e-12)
        # The same noise without conducive gradients is another path: the comparison would notice.
        without = by_hand(key, found[0], 60, 1.0, of_the_shard)
        assert np.max(np.abs(without - ula)) > 0.1 * np.std(ula)


def test_a_path_of_dsgld_is_that_of_its_formula() -> None:
    batch, local = 6, 3
    members = (tuple(range(0, 40)), tuple(range(40, 50)), tuple(range(50, 100)))
    sampler = DistributedSGLD(
        Gradients(batch=batch), FIXED, 2.0, members=members, local_steps=local, probabilities="sizes"
    )
    found = run(sampler, 4, chains=1)
    (key,) = chain_keys(KEY, 1)
    estimator, _ = sampler.estimator(PROBLEM, jnp.zeros((1, 2)))
    assert isinstance(estimator, ShardGradients)
    visits, seen = jax.random.split(jax.random.fold_in(key, 1))[0], []

    def gradient(number, rows_key, theta):
        shard = int(estimator.visited(PROBLEM, visits, jnp.asarray(number // local)))
        rows = np.asarray(estimator.rows(PROBLEM, rows_key, jnp.asarray(shard)))
        seen.append(shard)
        assert set(rows) <= set(members[shard])
        # N_s/(f_s m) with f_s = N_s/n
        return -theta / 4 + len(DATA) / batch * (DATA[rows] - theta).sum(0) @ PRECISION

    path = by_hand(key, found.draws[0, 0], 30, 2.0, gradient)
    np.testing.assert_allclose(found.draws[0, :30], path, rtol=1e-9)
    assert len(set(seen)) == 3


# -- costs --------------------------------------------------------------------------------------------


class Counted:
    """A Gaussian likelihood that counts the rows that are evaluated."""

    def __init__(self) -> None:
        self.rows = 0

    def add(self, theta: jax.Array, rows: jax.Array) -> None:
        self.rows += len(rows)

    def __call__(self, operand, theta, indices):
        jax.debug.callback(self.add, theta, indices)  # of every chain, though all have the same rows
        return jax.vmap(gaussian_row, (None, 0))(theta, operand[indices]).sum()


def prior_of(operand, theta):
    return gaussian_prior(theta)


@pytest.mark.parametrize(("sampler", "full"), [(FederatedSGLD, True), (DistributedSGLD, False)])
def test_what_is_charged_is_what_is_evaluated(sampler, full: bool) -> None:
    counted, chains, n, dim = Counted(), 2, len(DATA), 2
    likelihood = Factorization(prior_of, counted, jnp.asarray(DATA), n, "rows")
    target = replace(GAUSSIAN, likelihood=likelihood)
    schedule = replace(FIXED, burn_in=0.25)
    configured = sampler(Gradients(batch=10), schedule, shards=SHARDS, local_steps=7, full_batches=full)
    found = configured.run(KEY, target, Budget(12), chains=chains)
    jax.effects_barrier()
    total = found.warmup.datum_gradients + found.sampling.datum_gradients
    # One trial of a first position each; tangents along dim directions are no evaluations of rows.
    tangents = dim * n if configured.conducive else 0
    assert counted.rows == np.sum(total - tangents)
    assert 12 * n - 25 <= total[0] <= 12 * n

    batch = EACH if full else 10
    steps = (12 * n - n - tangents - (n if configured.conducive else 0)) // batch
    assert total[0] == n + tangents + (n if configured.conducive else 0) + steps * batch
    fit = SHARDS if configured.conducive else 0
    burn_in = int(0.25 * steps)
    np.testing.assert_array_equal(found.warmup.communications, fit + -(-burn_in // 7))
    np.testing.assert_array_equal(
        found.warmup.communications + found.sampling.communications, fit + -(-steps // 7)
    )
    np.testing.assert_array_equal(found.info.cost.communications.sum(1), found.sampling.communications)


def test_hessians_of_all_shards_take_the_work_that_is_charged() -> None:
    """In operations of the compiled programs, of a likelihood that is dear enough to be counted."""
    n, dim = 400, 6
    rows = np.random.default_rng(0).normal(size=(n, dim)), np.ones(n)
    problem = Problem(from_rows(log_prior, logistic, rows), jnp.asarray(1.0))
    at = jnp.zeros(dim)

    def operations(function) -> float:
        analysis = jax.jit(function).lower(at).compile().cost_analysis()
        assert analysis is not None
        return analysis["flops"] + analysis["transcendentals"]

    one_shard = Division(1, "contiguous", 0, None).of(n)
    gradient = operations(jax.grad(lambda theta: problem.log_likelihood(theta, jnp.arange(n))))
    assert operations(lambda theta: shard_expansions(problem, one_shard, theta)) < (1 + dim) * 1.5 * gradient


# -- the bias -----------------------------------------------------------------------------------------


def test_long_rounds_inflate_dsgld_and_not_fsgld() -> None:
    data = (RNG.uniform(-6, 6, (SHARDS, 1)) + RNG.normal(size=(SHARDS, EACH))).reshape(-1, 1)
    target = factorized_target(
        "line", 1, lambda theta: 0.0 * theta.sum(), lambda t, y: -0.5 * (y - t[0]) ** 2, data[:, 0]
    )
    n, m, decay, local = len(data), 5, 0.05, 10
    schedule = Schedule(step_size=decay / n, draws=EVERY_STEP, start="random")
    shards = data.reshape(SHARDS, EACH)
    noise = decay * n * shards.var(1).mean() / m
    inflation = (2 + noise) / (2 - decay)
    a = 1 - decay
    b, j = a**local, np.arange(1, local + 1)
    pull = n * shards.mean(1).var() * np.mean(a ** (2 * j) * (1 - b) / (1 + b) + (1 - a**j) ** 2)
    for sampler, expected in ((FederatedSGLD, inflation), (DistributedSGLD, inflation + pull)):
        configured = sampler(Gradients(batch=m), schedule, shards=SHARDS, local_steps=local)
        found = configured.run(KEY, target, Budget(250), chains=64)
        measured = n * np.mean((found.draws - data.mean()) ** 2, axis=(1, 2))
        error = measured.std(ddof=1) / 8
        assert error < 0.05 * expected
        assert abs(measured.mean() - expected) < 4 * error
    assert pull > 10 * inflation


# -- configuration ------------------------------------------------------------------------------------


def test_specs_reach_every_setting_and_survive_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(specs.SAMPLERS, "fsgld", FederatedSGLD)
    spec = specs.parse_spec("fsgld[shards=5,dealt=shuffled,batch=8,local_steps=3,probabilities=sizes]")
    wanted = FederatedSGLD(
        Gradients(batch=8), shards=5, dealt="shuffled", local_steps=3, probabilities="sizes"
    )
    assert spec.sampler == wanted
    assert specs.parse_spec(spec.label) == spec
    nested: Any = [[0, 1], np.array([2])]  # any nesting of sequences, kept as tuples
    given = specs.SamplerSpec("fsgld", FederatedSGLD(members=nested))
    assert given.sampler.members == ((0, 1), (2,))
    hash(given.sampler)
    for one in (spec, given):
        assert specs.from_config("fsgld", json.loads(json.dumps(asdict(one.sampler)))) == one
    with pytest.raises(specs.SpecError, match="members"):
        specs.parse_spec("fsgld[members=12]")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"shards": 0}, "shards=0"),
        ({"local_steps": 0}, "local_steps=0"),
        ({"dealt": "sorted"}, "contiguous, shuffled"),
        ({"probabilities": "equal"}, "uniform, sizes"),
        ({"members": ((0,), ())}, "none may be empty"),
        ({"gradients": Gradients(estimator="svrg")}, "needs all rows in one place"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        FederatedSGLD(**settings)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"shards": 101}, "the data have 100 rows"),
        ({"members": ((0, 1), (1, 2))}, "2 shards name 4 rows"),
        ({"shards": 3, "full_batches": True}, "33 to 34 rows"),
    ],
)
def test_shards_that_do_not_fit_the_data_are_refused(settings, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        run(FederatedSGLD(schedule=FIXED, **settings), 50)
