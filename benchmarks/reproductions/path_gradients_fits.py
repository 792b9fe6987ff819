"""What path gradients do to fits of Gaussians at equal gradients: good starts, and one that is too narrow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...models.gaussian import correlated_gaussian, standard_gaussian
from ...models.target import Target
from ...samplers.base import Budget
from ...samplers.timing import Clock
from ...samplers.variational import FullRankVI
from ...samplers.vi.families import Family, Problem, Space
from ...samplers.vi.fits import fit
from ...samplers.vi.fitting import programs_for
from ...samplers.vi.gaussian import MeanFieldGaussian
from ...samplers.vi.settings import Fitting
from ..estimates import Estimate, estimate, ratio
from .contest import FRESH
from .ensemble import Stopped
from .figures import CurvePoint, curve_figure
from .framework import PREDICTED, AtLeast, AtMost, Below, Claim, Row, median_estimate
from .laboratory import Laboratory, Measurement

ESTIMATORS = ("path", "total")
NEVER = 10**6
"""Windows without improvement: the rule of convergence ends no fit, so that all spend their budget."""
DIM, CORRELATION = 5, 0.9
EXACT_FLOOR = 1e-15
"""Rounding, of a Kullback-Leibler divergence."""
FAR_DIM, FAR, FAR_RATE = 10, (3.0, -4.0), 0.03
FAR_STEPS = (25, 50, 100, 150, 200, 300, 400, 600, 800, 1000)
EARLY = 150
"""Steps after which the start that is too narrow still decides."""


@dataclass(frozen=True)
class FitsPlan:
    """The size of the fits."""

    seeds: int = 8
    gradients: int = 4000
    """Per fit with one learning rate, on posteriors."""
    gaussian_gradients: int = 20_000
    """Per fit on the correlated Gaussian, the whole grid of learning rates included."""


def _seeds(plan: FitsPlan) -> range:
    """Others than those that predictions were made from."""
    return range(FRESH, FRESH + plan.seeds)


# -- one fit, looked at on its way ----------------------------------------------------------------------


def trajectory(
    family: Family,
    problem: Problem,
    fitting: Fitting,
    rate: float,
    steps: Sequence[int],
    key: Array,
    stop: threading.Event,
    begin: Callable[[Any], Any] = lambda params: params,
) -> list[Any]:
    """The parameters after so many steps each, the first ones before any; as `fit` takes them.

    Raises
    ------
    Stopped
        When ``stop`` is set.
    """
    programs, clock = programs_for(family, fitting), Clock()
    lane = programs.begin(clock, problem, key)
    lane = lane._replace(params=begin(lane.params))
    found, total = [lane.params], np.int64(steps[-1])
    for until in steps:
        if stop.is_set():
            raise Stopped
        lane = programs.advance(clock, problem, lane, key, np.float64(rate), total, np.int64(until))
        found.append(lane.params)
    return found


# -- a Gaussian that q can be -----------------------------------------------------------------------------


def divergence(mean: np.ndarray, root: np.ndarray, precision: np.ndarray) -> float:
    """KL(N(mean, root rootᵀ) ‖ N(0, precision⁻¹))."""
    values = np.linalg.eigvalsh(root.T @ precision @ root) - 1.0
    return float(0.5 * (np.sum(values - np.log1p(values)) + mean @ precision @ mean))


def gaussian_measurement(gradients: int, seed: int) -> Measurement:
    """The divergence that is left by both estimators, at equal gradients."""
    target = correlated_gaussian(DIM, CORRELATION)
    settings = {name: Fitting(estimator=name, patience=NEVER) for name in ("path", "total")}

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        def check(phase: str, gradients: int, draws: int) -> None:
            if stop.is_set():
                raise Stopped

        i = np.arange(DIM)
        precision = np.linalg.inv(CORRELATION ** np.abs(i[:, None] - i))
        result = {}
        for name, fitting in settings.items():
            (found,) = fit(FullRankVI(fitting), key, target, Budget(gradients), progress=check)
            scale = np.asarray(found.problem.scale)
            mean = np.asarray(found.problem.center) + scale * np.asarray(found.params.loc)
            root = scale[:, None] * np.asarray(found.params.factor)
            result[name] = {
                "divergence": divergence(mean, root, precision),
                "gradients": int(found.cost.gradients),
                "learning_rate": found.learning_rate,
            }
        return result

    setting = {"target": target.digest, "full-rank": gradients, "fitting": vars(settings["path"])}
    return Measurement(f"{DIM}-d Gaussian, full-rank", setting, seed, compute)


def gaussian_rows(plan: FitsPlan, laboratory: Laboratory) -> list[Row]:
    """Noise that vanishes at the optimum leaves nothing there; noise that does not leaves a floor."""
    wanted = [gaussian_measurement(plan.gaussian_gradients, seed) for seed in _seeds(plan)]
    results = laboratory.measure("Gaussian fits", wanted)
    setting = (
        f"full-rank, Gaussian of {DIM} dimensions, ρ = {CORRELATION:g}, {plan.gaussian_gradients:,} gradients"
    )
    rows = []
    for name, figure, rule in (
        ("path", "0 but for the optimizer: no noise is left", AtMost(1e-6)),
        ("total", "a floor of noise", AtLeast(1e-4)),
    ):
        claim = Claim(f"{name} gradient: KL(q‖p) in nats, at the end", PREDICTED, setting, figure, rule)
        spent = np.mean([result[name]["gradients"] for result in results])
        found = median_estimate(result[name]["divergence"] for result in results)
        rows.append(Row(claim, found, f"{spent:,.0f} gradients spent", floor=EXACT_FLOOR))
    return rows


# -- a start that is far and far too narrow -----------------------------------------------------------------


def far_measurement(seed: int) -> Measurement:
    """Divergence against steps, of mean-field fits to N(0, I) from N(3, e⁻⁸)."""
    target, family = standard_gaussian(FAR_DIM), MeanFieldGaussian()
    settings = {name: Fitting(estimator=name, patience=NEVER) for name in ("path", "total")}

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        problem = _as_it_is(target)

        def begin(params: Any) -> Any:
            return params._replace(loc=params.loc + FAR[0], log_scale=params.log_scale + FAR[1])

        result = {}
        for name, fitting in settings.items():
            way = trajectory(family, problem, fitting, FAR_RATE, FAR_STEPS, key, stop, begin)
            result[name] = [_far_divergence(params) for params in way]
        return result

    setting = {
        "target": target.digest,
        "start": FAR,
        "rate": FAR_RATE,
        "steps": FAR_STEPS,
        "fitting": vars(settings["path"]),
    }
    return Measurement(f"N(0, I), from N({FAR[0]:g}, e^{2 * FAR[1]:g})", setting, seed, compute)


def _as_it_is(target: Target) -> Problem:
    return Problem(target.density, jnp.zeros(target.dim), jnp.ones(target.dim), Space(target.dim))


def _far_divergence(params: Any) -> float:
    loc, twice = np.asarray(params.loc), 2 * np.asarray(params.log_scale)
    return float(max(0.0, 0.5 * np.sum(loc**2 + np.expm1(twice) - twice)))


def far_rows(plan: FitsPlan, laboratory: Laboratory) -> tuple[list[Row], alt.FacetChart]:
    """Total is ahead while q is narrow, and path in the end."""
    results = laboratory.measure("narrow start", [far_measurement(seed) for seed in _seeds(plan)])
    samples = Fitting().samples
    setting = f"mean-field, N(0, I) in {FAR_DIM} dimensions, from m = {FAR[0]:g}, log s = {FAR[1]:g}"

    def after(name: str, steps: int) -> list[float]:
        return [result[name][FAR_STEPS.index(steps) + 1] for result in results]

    claim = Claim(
        "a start that is too narrow: KL(q‖p) of total over that of path, early",
        PREDICTED,
        f"{setting}, {EARLY * samples:,} gradients",
        "below 0.1: path is lost in its noise",
        Below(0.1),
    )
    rows = [Row(claim, ratio(estimate(after("total", EARLY)), estimate(after("path", EARLY))))]
    where = f"{setting}, {FAR_STEPS[-1] * samples:,} gradients"
    for name, figure, rule in (
        ("path", "0 up to rounding: q can be p", AtMost(1e-12)),
        ("total", "a floor of noise", AtLeast(1e-4)),
    ):
        statement = f"the same start, {name} gradient: KL(q‖p) in nats, in the end"
        claim = Claim(statement, PREDICTED, where, figure, rule)
        rows.append(Row(claim, median_estimate(after(name, FAR_STEPS[-1])), floor=EXACT_FLOOR))
    points = []
    for name in ESTIMATORS:
        for steps in FAR_STEPS:
            found = median_estimate(after(name, steps))
            at_floor = found.value is not None and found.value <= EXACT_FLOOR
            shown = Estimate(EXACT_FLOOR) if at_floor else found
            points.append(
                CurvePoint(f"{setting}: KL divergence of q from p", name, steps * samples, shown, at_floor)
            )
    return rows, curve_figure(points, x_title="gradients", y_title="nats")
