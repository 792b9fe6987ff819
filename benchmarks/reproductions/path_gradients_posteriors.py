"""Path and total gradients on posteriors at equal gradients: variances on the way, and the ELBO reached."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import jax
import jax.numpy as jnp
from jax import Array

from ...models.target import Target
from ...posteriordb_adapter import PosteriorDatabase
from ...samplers.timing import Clock, Program
from ...samplers.vi.families import Family, Problem, Space
from ...samplers.vi.gaussian import FullRankGaussian, MeanFieldGaussian
from ...samplers.vi.objective import elbo_gradient, log_weights
from ...samplers.vi.settings import Fitting
from ...samplers.vi.start import climbed_start
from ..estimates import Estimate, estimate
from .contest import FRESH
from .figures import CurvePoint, curve_figure
from .framework import PREDICTED, AtLeast, Below, Between, Claim, Row, Rule
from .laboratory import Laboratory, Measurement
from .path_gradients_fits import ESTIMATORS, NEVER, FitsPlan, trajectory
from .stochastic_runs import mean_estimate

FAMILIES: dict[str, Family] = {"mean-field": MeanFieldGaussian(), "full-rank": FullRankGaussian()}
POSTERIORS = ("eight_schools-eight_schools_noncentered", "simulated_nes-nes")
RATES = (0.03, 0.1)
STARTS = {"as found": 1.0, "too narrow": 0.02}
"""What the scales that the start has found are multiplied by."""
MARKS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
"""Parts of the steps after which fits are looked at."""
EARLY_MARK = 1
"""The second of them: where fits from narrow starts are compared."""
SAMPLES = 4
"""Draws of q in a gradient, on posteriors."""
ELBO_DRAWS, VARIANCE_DRAWS = 4000, 500
ALIKE, LITTLE = 0.05, 0.2
"""Nats: by less differ mean-field fits of both estimators, and all fits from narrow starts in the end."""

type Results = Mapping[tuple[str, str, str], Sequence[Mapping[str, Any]]]
"""By posterior, family and start; one a seed."""


@functools.cache
def posterior_target(name: str) -> Target:
    return PosteriorDatabase().posterior(name).target(backend="bridgestan")


@functools.cache
def elbo_program(family: Family) -> Program:
    """``(problem, params, keys) -> f[]``"""
    return Program(lambda problem, params, keys: log_weights(family, problem, params, keys)[1].mean())


@functools.cache
def variance_program(family: Family) -> Program:
    """``(problem, params, keys) -> f[estimator]``, of the gradient of one draw, summed over parameters."""

    def variance(estimator: str, problem: Problem, params: Any, keys: Array) -> Array:
        draws = jax.lax.map(lambda key: elbo_gradient(family, problem, estimator, params, key[None]), keys)
        return sum((jnp.var(leaf, axis=0).sum() for leaf in jax.tree.leaves(draws.gradient)), jnp.zeros(()))

    return Program(lambda *args: jnp.stack([variance(name, *args) for name in ESTIMATORS]))


@functools.cache
def start_program(dim: int) -> Program:
    return Program(lambda density, key, budget: climbed_start(density, key, dim, budget))


def posterior_measurement(name: str, family: str, start: str, gradients: int, seed: int) -> Measurement:
    """Both estimators with all rates from one start: ELBOs on the way, and the path gradient's variance."""
    target, kind = posterior_target(name), FAMILIES[family]
    steps = tuple(max(1, round(part * gradients / SAMPLES)) for part in MARKS)
    settings = {e: Fitting(estimator=e, samples=SAMPLES, patience=NEVER) for e in ("path", "total")}

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        first, second, third, fourth = jax.random.split(key, 4)
        begun = start_program(target.dim)(Clock(), target.density, first, jnp.asarray(gradients))
        if not bool(begun.found):
            raise ValueError(f"no point of finite density was found for {name}")
        problem = Problem(target.density, begun.center, STARTS[start] * begun.scale, Space(target.dim))
        judges, probes = jax.random.split(third, ELBO_DRAWS), jax.random.split(fourth, VARIANCE_DRAWS)
        elbos: dict[str, list[list[float]]] = {}
        variances: list[list[float]] = []
        for estimator, fitting in settings.items():
            elbos[estimator] = []
            for rate in RATES:
                way = trajectory(kind, problem, fitting, rate, steps, second, stop)
                elbo = elbo_program(kind)
                elbos[estimator].append([float(elbo(Clock(), problem, params, judges)) for params in way])
                if (estimator, rate) == ("path", RATES[0]):
                    measure = variance_program(kind)
                    variances = [measure(Clock(), problem, params, probes).tolist() for params in way]
        return {"elbo": elbos, "variance": variances}

    setting = {
        "target": target.digest,
        "family": family,
        "scales": STARTS[start],
        "rates": RATES,
        "steps": steps,
        "draws": [ELBO_DRAWS, VARIANCE_DRAWS],
        "fitting": vars(settings["path"]),
    }
    return Measurement(f"{name}, {family}, scales {start}", setting, seed, compute)


def measure_posteriors(plan: FitsPlan, laboratory: Laboratory) -> Results:
    settings = [(name, family, start) for name in POSTERIORS for family in FAMILIES for start in STARTS]
    wanted = [
        posterior_measurement(*setting, plan.gradients, seed)
        for setting in settings
        for seed in range(FRESH, FRESH + plan.seeds)
    ]
    found = iter(laboratory.measure("posteriors", wanted))
    return {setting: [next(found) for _ in range(plan.seeds)] for setting in settings}


def advantage(results: Sequence[Mapping[str, Any]], mark: int, rates: Sequence[float] = RATES) -> Estimate:
    """ELBO of path less that of total at a mark, each with its better one of these rates."""
    places = [RATES.index(rate) for rate in rates]
    best = [
        {e: max(result["elbo"][e][i][mark + 1] for i in places) for e in ESTIMATORS} for result in results
    ]
    return mean_estimate(found["path"] - found["total"] for found in best)


def variance_ratio(results: Sequence[Mapping[str, Any]], mark: int) -> Estimate:
    """Path over total at one mark; −1 is the start."""
    return estimate(result["variance"][mark + 1][0] / result["variance"][mark + 1][1] for result in results)


def posterior_rows(plan: FitsPlan, results: Results) -> list[Row]:
    """Where path is ahead, where it does not matter, and where it is behind."""
    return [
        row for name in POSTERIORS for family in FAMILIES for row in _rows_of(plan, name, family, results)
    ]


def _rows_of(plan: FitsPlan, name: str, family: str, results: Results) -> list[Row]:
    good, narrow = (results[name, family, start] for start in STARTS)
    last, where = len(MARKS) - 1, f"{name}, {family}"
    whole, part = f"{plan.gradients:,}", f"{round(MARKS[EARLY_MARK] * plan.gradients):,}"
    gain: tuple[str, Rule] = (
        ("above 0: q can come near p", AtLeast(0.0))
        if family == "full-rank"
        else ("no difference that matters: q stays away from p", Between(-ALIKE, ALIKE))
    )
    ratios = "variance of path over total"
    elbos = "ELBO of path less that of total, in nats"
    return [
        Row(
            Claim(f"{ratios}, at the end", PREDICTED, where, "below 1", Below(1.0)),
            variance_ratio(good, last),
        ),
        Row(
            Claim(f"{elbos}, at the end", PREDICTED, f"{where}, {whole} gradients", *gain),
            advantage(good, last),
        ),
        Row(
            Claim(f"too narrow a start: {ratios} there", PREDICTED, where, "far above 1", AtLeast(100.0)),
            variance_ratio(narrow, -1),
        ),
        Row(
            Claim(
                f"too narrow a start: {elbos}, early",
                PREDICTED,
                f"{where}, {part} gradients, rate {RATES[0]:g}",
                "below 0: path is behind",
                Below(0.0),
            ),
            advantage(narrow, EARLY_MARK, RATES[:1]),
        ),
        Row(
            Claim(
                f"too narrow a start: {elbos}, at the end",
                PREDICTED,
                f"{where}, {whole} gradients",
                "little is left of it",
                Between(-LITTLE, LITTLE),
            ),
            advantage(narrow, last),
        ),
    ]


def posterior_notes() -> tuple[str, ...]:
    """What a reader of the rows has to know."""
    return (
        f"Posteriors: {SAMPLES} draws of q a step, each estimator with learning rates"
        f" {' and '.join(map(str, RATES))}; the ELBO is that of the better one unless a rate is named, from"
        f" {ELBO_DRAWS:,} fresh draws. Variances are summed over all parameters of q, from {VARIANCE_DRAWS}"
        " draws, both at the distributions that the path gradient goes through with rate"
        f" {RATES[0]:g}. A start that is too narrow has {STARTS['too narrow']:g} times the scales that were"
        " found.",
    )


def posterior_figure(plan: FitsPlan, results: Results) -> alt.FacetChart:
    """The ratio of variances on the way."""
    points = [
        CurvePoint(
            f"variance of path over total on the way, scales {start}",
            f"{name.partition('-')[2]}, {family}",
            part * plan.gradients,
            variance_ratio(found, mark),
        )
        for (name, family, start), found in results.items()
        for mark, part in enumerate(MARKS)
    ]
    return curve_figure(points, x_title="gradients", y_title="path over total")
