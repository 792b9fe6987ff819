"""The path-gradient reproduction: its closed forms, broken estimators, and all of it in miniature."""

import functools
import inspect
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.benchmarks.reproductions import path_gradients, path_gradients_fits, path_gradients_posteriors
from essper.benchmarks.reproductions.framework import NOT_REPRODUCED, REPRODUCED, VERDICTS
from essper.benchmarks.reproductions.laboratory import Laboratory
from essper.benchmarks.reproductions.path_gradients import (
    GRID,
    PATH_GRADIENTS,
    PathPlan,
    chain_precision,
    chain_ratio,
    grid_measurement,
    grid_rows,
    means,
    variances,
)
from essper.benchmarks.reproductions.path_gradients_fits import divergence
from essper.samplers.vi import objective
from essper.samplers.vi.settings import Fitting
from essper.samplers.vi.start import random_origin

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(12)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


@pytest.mark.parametrize("point", [(0.0, 0.0), (1.0, -1.0), (0.1, 0.1), (3.0, 1.0)])
def test_the_closed_forms_are_those_of_quadrature(point: tuple[float, float]) -> None:
    # E over e ~ N(0, 1) of what autodiff gives: polynomials of e, for which Gauss and Hermite are exact.
    m, log_s = point

    def sample(parameters: jax.Array, e: jax.Array) -> jax.Array:
        return parameters[0] + jnp.exp(parameters[1]) * e

    def log_q(parameters: jax.Array, x: jax.Array) -> jax.Array:
        return -parameters[1] - 0.5 * ((x - parameters[0]) / jnp.exp(parameters[1])) ** 2

    def bound(parameters: jax.Array, inside: jax.Array, e: jax.Array) -> jax.Array:
        x = sample(parameters, e)
        return -0.5 * x**2 - log_q(inside, x)

    at = jnp.array([m, log_s])
    for estimator, gradient in (
        ("total", lambda e: jax.grad(lambda p: bound(p, p, e))(at)),
        ("path", lambda e: jax.grad(lambda p: bound(p, at, e))(at)),
    ):
        values = np.asarray(jax.vmap(gradient)(jnp.asarray(NODES)))
        mean = WEIGHTS @ values
        np.testing.assert_allclose(mean, means(m, log_s), atol=1e-11)
        exact = variances("path" if estimator == "path" else "total", m, log_s)
        np.testing.assert_allclose(WEIGHTS @ (values - mean) ** 2, exact, rtol=1e-9, atol=1e-18)


def test_the_case_that_the_path_gradient_loses_is_the_one_that_was_stated() -> None:
    assert variances("path", 1.0, -1.0)[0] == pytest.approx(5.5, abs=0.05)
    assert variances("total", 1.0, -1.0)[0] == pytest.approx(0.135, abs=5e-4)
    assert variances("path", 0.0, 0.0) == (0.0, 0.0)


def test_the_ratio_at_a_mean_field_optimum_is_that_of_the_two_covariances() -> None:
    precision = chain_precision()
    factors = np.diag(1 / np.diag(precision))
    deviation = np.linalg.inv(factors) - precision  # of the path gradient from 0, per x
    path, total = deviation @ factors @ deviation, precision @ factors @ precision
    assert chain_ratio() == pytest.approx(np.trace(path) / np.trace(total), rel=1e-12)


def test_the_divergence_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(0)
    root, other = np.tril(rng.normal(size=(3, 3))) + 2 * np.eye(3), np.eye(3) + 0.1 * rng.normal(size=(3, 3))
    precision, mean, covariance = other @ other.T, rng.normal(size=3), root @ root.T
    expected = 0.5 * (
        np.trace(precision @ covariance)
        + mean @ precision @ mean
        - 3
        - np.linalg.slogdet(precision @ covariance)[1]
    )
    assert divergence(mean, root, precision) == pytest.approx(expected, rel=1e-12)
    assert divergence(np.zeros(3), np.linalg.cholesky(np.linalg.inv(precision)), precision) < 1e-20


def test_an_estimator_that_holds_everything_or_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, function = PathPlan(seeds=2, draws=5000), inspect.unwrap(path_gradients.gradients)

    stop = threading.Event()

    def verdicts() -> list[str]:
        anew = jax.jit(lambda *args: function(*args), static_argnums=0)  # or it would be as compiled before
        monkeypatch.setattr(path_gradients, "gradients", anew)
        found = [grid_measurement(plan.draws, seed).compute(jax.random.key(seed), stop) for seed in (0, 1)]
        return [row.verdict for row in grid_rows(plan, found)]

    monkeypatch.setattr(path_gradients, "TOLERANCE", 1.2)  # for 10⁴ draws
    assert set(verdicts()) == {REPRODUCED}
    with monkeypatch.context() as broken:  # "path" is total
        broken.setattr(objective.lax, "stop_gradient", lambda x: x)
        assert verdicts()[0] == NOT_REPRODUCED


def test_all_of_it_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_gradients_posteriors, "POSTERIORS", path_gradients_posteriors.POSTERIORS[:1])
    families = {"mean-field": path_gradients_posteriors.FAMILIES["mean-field"]}
    monkeypatch.setattr(path_gradients_posteriors, "FAMILIES", families)
    monkeypatch.setattr(path_gradients_posteriors, "ELBO_DRAWS", 50)
    monkeypatch.setattr(path_gradients_posteriors, "VARIANCE_DRAWS", 20)
    monkeypatch.setattr(path_gradients_fits, "DIM", 2)
    # One rate, and no climbs: they take longer to compile than all the rest.
    quick = functools.partial(Fitting, start="random", learning_rates=(0.1,))
    monkeypatch.setattr(path_gradients_fits, "Fitting", quick)
    monkeypatch.setattr(path_gradients_posteriors, "climbed_start", random_origin)
    path_gradients_posteriors.start_program.cache_clear()
    plan = PathPlan(seeds=2, draws=200, gradients=400, gaussian_gradients=8000)
    laboratory = Laboratory(tmp_path)
    outcome = PATH_GRADIENTS.run(plan, laboratory)
    assert len(outcome.rows) == 14 + 1 + 2 + 3 + 5
    for row in outcome.rows:
        assert row.verdict in VERDICTS
        assert row.measured.value is not None
    assert outcome.rows[0].measured.value == 0
    named = {row.claim.statement: row for row in outcome.rows}
    for end in ("path gradient: KL(q‖p) in nats, at the end", "total gradient: KL(q‖p) in nats, at the end"):
        assert named[end].verdict == REPRODUCED, end
    for name in ("path", "total"):
        assert named[f"the same start, {name} gradient: KL(q‖p) in nats, in the end"].verdict == REPRODUCED
    path_gradients_posteriors.start_program.cache_clear()
    assert len(outcome.figure.to_dict()["vconcat"]) == 3
    again = Laboratory(tmp_path)
    assert [row.measured for row in PATH_GRADIENTS.run(plan, again).rows] == [
        r.measured for r in outcome.rows
    ]
    assert again.kept() == len(laboratory.record) == 2 * (1 + 1 + 1 + 1 + 2)
    assert len(GRID) == 55
