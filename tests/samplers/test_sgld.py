"""Stochastic gradient Langevin dynamics: closed forms, unbiased estimates, an account of what was done."""

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import standard_gaussian
from essper.models.factorization import Factorization, factorized_target
from essper.models.target import Target
from essper.posteriordb_adapter import PosteriorDatabase
from essper.samplers import layouts
from essper.samplers.base import Budget, Run
from essper.samplers.sgld import SGLD, ControlVariateSGLD, Langevin
from essper.samplers.stochastic import Gradients, Problem, Schedule, estimators
from essper.samplers.stochastic.engine import _sharded
from essper.samplers.stochastic.estimators import SVRG, ControlVariates, Minibatch, anchored
from essper.samplers.stochastic.start import (
    POWER_ITERATIONS,
    largest_curvature,
    mode_start,
    step_size_for,
)

N = 1000
PRIOR_PRECISION = 100.0
Y = np.random.default_rng(1).normal(0.5, size=N)
KEY = jax.random.key(0)
CHAINS = 48
ESTIMATORS = ("minibatch", "control-variates", "svrg")


def _log_prior(theta):
    return -0.5 * PRIOR_PRECISION * jnp.sum(theta**2)


def _log_likelihood_row(theta, y):
    return -0.5 * jnp.sum((y - theta) ** 2)


GAUSSIAN = factorized_target("gaussian-mean", 1, _log_prior, _log_likelihood_row, Y)


def problem_of(target: Target, temperature: float = 1.0) -> Problem:
    assert target.likelihood is not None
    return Problem(target.likelihood, jnp.asarray(temperature))


def run_of(
    sampler: Any, gradients: int, *, target: Target = GAUSSIAN, key=KEY, chains: int = 4, **more
) -> Run:
    return sampler.run(key, target, Budget(gradients), chains=chains, **more)


# -- closed forms ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A configuration whose stationary moments are known."""

    batch: int = 10
    h_lambda: float = 0.05
    estimator: Literal["minibatch", "control-variates", "svrg"] = "minibatch"
    temperature: float = 1.0
    likelihood_temperature: float = 1.0

    @property
    def curvature(self) -> float:
        return PRIOR_PRECISION + N / self.likelihood_temperature

    @property
    def mean(self) -> float:
        return Y.sum() / self.likelihood_temperature / self.curvature

    @property
    def variance(self) -> float:
        """Of θ ← θ − hλ(θ − mean) + h √V ζ + √(2hT) ξ."""
        h = self.h_lambda / self.curvature
        noise = N**2 * Y.var() / self.batch / self.likelihood_temperature**2
        noise *= self.estimator == "minibatch"  # rows differ by constants only: the others have none
        return (2 * self.temperature + h * noise) / (self.curvature * (2 - self.h_lambda))

    def sampler(self, kind: type[SGLD] = SGLD) -> SGLD:
        gradients = Gradients(self.batch, self.estimator, likelihood_temperature=self.likelihood_temperature)  # pyright: ignore[reportArgumentType]
        schedule = Schedule(self.h_lambda / self.curvature, draws=500, start="random")
        return kind(gradients, schedule, self.temperature)

    def z_scores(self, run: Run) -> tuple[float, float]:
        """Of mean and variance; errors from the spread between independent chains."""
        x = run.draws[..., 0] - self.mean
        squares = (x**2).mean(1) / self.variance - 1
        return tuple(v.mean() / (v.std(ddof=1) / CHAINS**0.5) for v in (x.mean(1), squares))


CASES = {
    "minibatch": Case(),
    "full tempering": Case(batch=20, h_lambda=0.2, temperature=2.0),
    "likelihood tempering": Case(likelihood_temperature=4.0),
    "control variates": Case(h_lambda=0.5, estimator="control-variates"),
    "svrg": Case(h_lambda=0.5, estimator="svrg", likelihood_temperature=0.5),
}


@pytest.mark.parametrize("name", CASES)
def test_moments_are_those_of_the_recurrence(name):
    case = CASES[name]
    run = run_of(case.sampler(), 200, chains=CHAINS)
    assert np.abs(case.z_scores(run)).max() < 4
    squares = ((run.draws[..., 0] - case.mean) ** 2).mean(1)
    assert squares.std() / CHAINS**0.5 < 0.03 * case.variance  # or agreement would mean little


@dataclass(frozen=True)
class HalfTheNoise(Langevin):
    """√(hT) in place of √(2hT)."""

    def step(self, key, state, position, gradient, step):
        return super().step(key, state, position, gradient, step._replace(temperature=step.temperature / 2))


@dataclass(frozen=True)
class Unscaled(Minibatch):
    """Without n/m."""

    def estimate(self, problem, key, state, position, number):
        rows = estimators.rows_of(key, self.batch, problem.n)
        return jax.grad(lambda x: problem.log_prior(x) + problem.log_likelihood(x, rows))(position), state


class WrongNoise(SGLD):
    @property
    def dynamics(self):
        return HalfTheNoise()


class WrongScale(SGLD):
    def estimator(self, problem, positions):
        _, cost = super().estimator(problem, positions)
        return Unscaled(self.gradients.batch), cost


@pytest.mark.parametrize("kind", [WrongNoise, WrongScale])
def test_wrong_variants_are_found(kind):
    case = CASES["minibatch"]
    run = run_of(case.sampler(kind), 200, chains=CHAINS)
    assert np.abs(case.z_scores(run)).max() > 4


def test_the_rule_for_step_sizes_keeps_its_promise():
    curvature, noise, inflation = 300.0, 21.0, 0.1
    h = float(step_size_for(jnp.asarray(curvature), noise, inflation))
    assert (2 + h * noise * curvature) / (2 - h * curvature) == pytest.approx(1 + inflation)


# -- estimates ------------------------------------------------------------------------------------

POSTERIORS = ("simulated_nes-nes", "simulated_kidiq-kidscore_momiq", "simulated_mesquite-logmesquite_logvas")


@pytest.mark.parametrize("name", POSTERIORS)
def test_the_lowered_programs_minibatch_gradient_is_unbiased(name, monkeypatch):
    """Averaged over all batches of a partition every estimate is the gradient of Stan's own density."""
    posterior = PosteriorDatabase().posterior(name)
    target = posterior.target(backend="jax", rows="auto", verify=False)
    problem = problem_of(target)
    n = problem.n
    batch = max(m for m in range(2, n // 2 + 1) if n % m == 0 and m <= 64)
    batches = jnp.asarray(np.random.default_rng(0).permutation(n).reshape(-1, batch))
    monkeypatch.setattr(estimators, "rows_of", lambda rows, batch, n: rows)
    rng = np.random.default_rng(1)
    position, anchor = jnp.asarray(rng.uniform(-0.5, 0.5, (2, target.dim)))

    @jax.jit
    def averages(position, anchor):
        state = anchored(problem, anchor)
        kinds: list[tuple[Any, Any]] = [(Minibatch(batch), ())]
        kinds += [(ControlVariates(batch), state), (SVRG(batch, 10), state)]
        return [
            jax.vmap(lambda rows, e=e, s=s: e.estimate(problem, rows, s, position, jnp.int32(1))[0])(batches)
            for e, s in kinds
        ]

    _, full = posterior.target(backend="bridgestan").value_and_grad(position)
    for estimates in averages(position, anchor):
        assert np.abs(np.std(estimates, axis=0)).max() > 0  # batches do differ
        error = np.abs(np.mean(estimates, axis=0) - full).max()
        assert error <= 1e-9 * np.abs(full).max()


def test_rows_are_drawn_with_replacement_and_equally_often():
    rows = np.asarray(estimators.rows_of(KEY, 20_000, 20))
    counts = np.bincount(rows, minlength=20)
    assert len(counts) == 20
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # 19 degrees of freedom, p = 0.001
    assert len(set(np.asarray(estimators.rows_of(KEY, 15, 20)).tolist())) < 15


def test_a_snapshot_is_taken_at_the_start_of_every_epoch():
    problem = problem_of(GAUSSIAN)
    svrg, old, now = SVRG(5, 4), jnp.zeros(1), jnp.ones(1)
    for number, expected in ((4, now), (5, old)):
        _, anchor = svrg.estimate(problem, KEY, anchored(problem, old), now, jnp.int32(number))
        assert anchor.position == expected
    assert [svrg.cost(problem, steps) for steps in (0, 1, 4, 5)] == [0, 10 + N, 40 + N, 50 + 2 * N]


# -- the account ----------------------------------------------------------------------------------


class Counter:
    """A factorization that counts the rows it really evaluates, and how often it is asked."""

    def __init__(self, target: Target) -> None:
        found = target.likelihood
        assert found is not None
        self.rows = 0

        def likelihood(operand, theta, indices):
            # The callback depends on θ, so that no compiler can hoist it out of a loop or drop it.
            jax.debug.callback(self._count, jnp.float64(len(indices)) + 0 * theta[0])
            return found.likelihood(operand, theta, indices)

        counted = Factorization(found.prior, likelihood, found.operand, found.n, found.rows)
        self.target = replace(target, likelihood=counted)

    def _count(self, rows) -> None:
        self.rows += round(float(rows))


@pytest.mark.parametrize(  # the start is the same for all estimators
    ("estimator", "by_rule"), [("minibatch", True), *((estimator, False) for estimator in ESTIMATORS)]
)
def test_what_is_reported_is_what_was_executed(estimator, by_rule):
    """Search of the mode and curvature included: one evaluation of a product is charged as two gradients."""
    counter = Counter(GAUSSIAN)
    schedule = Schedule(draws=7) if by_rule else Schedule(step_size=1e-4, draws=7, start="random")
    sampler = SGLD(Gradients(200, estimator, epoch=9), schedule)
    run = run_of(sampler, 70, target=counter.target, chains=3)
    jax.effects_barrier()
    reported = np.sum(run.warmup.datum_gradients) + np.sum(run.sampling.datum_gradients)
    products = 3 * POWER_ITERATIONS * N * by_rule  # the derivative along a vector: no evaluation of its own
    assert counter.rows == reported - products
    assert np.sum(run.info.cost.datum_gradients, axis=1).tolist() == run.sampling.datum_gradients.tolist()
    zero = [np.sum(getattr(cost, name)) for cost in (run.warmup, run.sampling) for name in NOT_USED]
    assert not any(zero)
    if by_rule:  # n/m = 5
        h = float(step_size_for(jnp.asarray(PRIOR_PRECISION + N), 5.0, schedule.inflation))
        assert float(run.tuning["step_size"]) == pytest.approx(h)


NOT_USED = ("gradients", "densities", "conditional_draws", "communications")


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_budget_is_used_and_not_exceeded(estimator):
    sampler = SGLD(Gradients(10, estimator), Schedule(step_size=1e-4, draws=50))
    run = run_of(sampler, 50)
    spent = run.equivalents(run.warmup) + run.equivalents(run.sampling)
    assert spent.max() <= 50
    assert spent.max() > 45
    assert run.draws.shape == (4, 50, 1)
    assert run.rows == N


def test_the_mode_and_the_curvature_there():
    problem = problem_of(GAUSSIAN)
    started = mode_start(problem, KEY, 1)
    assert bool(started.found)
    assert float(started.position[0]) == pytest.approx(CASES["minibatch"].mean, abs=1e-6)
    curvature = float(largest_curvature(problem, KEY, started.position))
    assert curvature == pytest.approx(PRIOR_PRECISION + N)


# -- runs -----------------------------------------------------------------------------------------


def test_the_same_key_gives_the_same_bytes_whatever_the_threads(monkeypatch):
    monkeypatch.setattr(layouts, "GROUP", 2)
    schedule, draws = Schedule(step_size=1e-4, draws=20, start="random"), []
    sampler = SGLD(Gradients(10), schedule)
    for threads in ("1", "3", "3"):
        monkeypatch.setenv("ESSPER_THREADS", threads)
        draws.append(run_of(sampler, 30).draws)
    assert draws[0].tobytes() == draws[1].tobytes() == draws[2].tobytes()
    other = run_of(sampler, 30, key=jax.random.key(1)).draws
    assert not np.any(other == draws[0])
    assert len(np.unique(draws[0])) == draws[0].size  # no two chains or draws are the same
    fewer = run_of(sampler, 30, chains=2).draws
    assert fewer.tobytes() == draws[0][:2].tobytes()  # a group of the same size


def test_progress_is_told_in_order_and_to_the_end():
    told = []
    sampler = ControlVariateSGLD(Gradients(10, "control-variates"), Schedule(step_size=1e-4, draws=20))
    run = run_of(sampler, 40, progress=lambda *now: told.append(now))
    phases = [phase for phase, _, _ in told]
    assert phases == sorted(phases, key=("warmup", "sampling").index)
    assert set(phases) == {"warmup", "sampling"}
    gradients = [spent for _, spent, _ in told]
    assert gradients == sorted(gradients)
    total = (run.equivalents(run.warmup) + run.equivalents(run.sampling)).sum()
    assert gradients[-1] == int(total)
    assert told[-1][2] == run.draws.shape[1] == 20


def test_the_draws_do_not_depend_on_how_many_are_kept():
    """The same steps cut into other calls."""
    kept = {}
    for draws in (10, 40):
        schedule = Schedule(step_size=1e-4, draws=draws, burn_in=0.0, start="random")
        kept[draws] = run_of(SGLD(Gradients(10), schedule), 5).draws
    tenth = kept[40].shape[1] // 10
    assert np.array_equal(kept[10], kept[40][:, tenth - 1 :: tenth])


def _breaking_prior(theta):
    return jnp.sqrt(0.5 - theta[0])  # its gradient is NaN above 0.5


def test_steps_that_are_not_finite_are_not_taken_and_counted():
    rows = Y[:50] - Y[:50].mean()
    target = factorized_target("breaks", 1, _breaking_prior, _log_likelihood_row, rows)
    schedule = Schedule(step_size=1e-2, draws=30, start="mode")
    run = run_of(SGLD(Gradients(5), schedule), 60, target=target)
    assert np.isfinite(run.draws).all()
    not_taken = run.info.extra["steps_not_taken"]
    assert not_taken.sum() > 0
    assert np.array_equal(run.info.divergent, not_taken > 0)
    assert len(np.unique(run.draws[:, -10:])) == run.draws[:, -10:].size  # no chain is caught there
    assert any("not finite" in warning for warning in run.warnings)


def test_what_cannot_be_sampled_is_refused():
    with pytest.raises(ValueError, match="not known as a sum over rows"):
        run_of(SGLD(), 100, target=standard_gaussian(2))
    with pytest.raises(ValueError, match="start='random' needs a step_size"):
        run_of(SGLD(schedule=Schedule(start="random")), 100)
    with pytest.raises(ValueError, match="leaves no draw on gaussian-mean"):
        run_of(SGLD(schedule=Schedule(step_size=1e-4)), 1)
    with pytest.raises(ValueError, match="at least one chain"):
        run_of(SGLD(), 100, chains=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Gradients(batch=0),
        lambda: Gradients(estimator="full"),  # pyright: ignore[reportArgumentType]
        lambda: Gradients(epoch=0),
        lambda: Gradients(likelihood_temperature=0.0),
        lambda: Schedule(step_size=0.0),
        lambda: Schedule(inflation=0.0),
        lambda: Schedule(decay=1.5),
        lambda: Schedule(burn_in=1.0),
        lambda: Schedule(draws=0),
        lambda: Schedule(start="prior"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_settings_say_what_they_take(make):
    with pytest.raises(ValueError, match="give"):
        make()


# -- devices --------------------------------------------------------------------------------------


def sharded_draws() -> np.ndarray:
    """Of four chains; also what the other process runs."""
    sampler = SGLD(Gradients(10), Schedule(step_size=1e-4, draws=20, start="random"))
    return run_of(sampler, 30).draws


def test_chains_on_two_devices_draw_the_same(tmp_path: Path):
    file = tmp_path / "draws.npy"
    done = subprocess.run(
        [sys.executable, __file__, str(file)],
        env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert np.allclose(np.load(file), sharded_draws(), rtol=1e-9, atol=1e-12)


if __name__ == "__main__":
    assert len(_sharded(jnp.zeros(4)).sharding.device_set) == 2, "the chains are not on two devices"
    np.save(sys.argv[1], sharded_draws())
