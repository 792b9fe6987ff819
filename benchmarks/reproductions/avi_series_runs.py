"""What the two series have in common: gaps on one series and on others of its kind, and rows of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from ...models.hierarchy import Hierarchy
from ...models.latent_series import Factors, HiddenMarkov, Posterior, SawTooth, best_linear
from ...models.target import Target
from ...samplers.amortized import AmortizedVI, amortization_gap
from ...samplers.base import Budget
from ...samplers.variational import MeanFieldVI
from ...samplers.vi.fits import Fit
from ...samplers.vi.gaussian_optimum import Gaussian, ascended
from ...samplers.vi.hierarchical import AmortizedGaussian
from ...samplers.vi.settings import Fitting
from ..estimates import Estimate
from .avi_runs import factors_of, fit_measurement
from .ensemble import Stopped
from .framework import PREDICTED, AtLeast, AtMost, Below, Claim, Row, median_estimate
from .laboratory import Laboratory, Measurement, sampler_setting

PAPER = "Margossian & Blei 2024, section 3"
CLOSED = "closed form"
LARGEST = 1e6
"""Nats that a map is charged for one new series at most: beyond its data a network may say anything."""
EXACT = 1e-6
"""Relative difference from a closed form: rounding, and where L-BFGS ends."""

WIDE = AmortizedVI(width=64, depth=3, fitting=Fitting(samples=1, learning_rates=(0.003, 0.01)))
"""Enough to pass through every one of a few data."""

type Model = SawTooth | HiddenMarkov


@dataclass(frozen=True)
class SeriesPlan:
    """The size of a reproduction."""

    seeds: int = 8
    """Series, each with fits of its own."""
    n: int = 100
    """Data in a series."""
    gradients: int = 20_000
    """Per fit, the start and the grid of learning rates included."""
    short: int = 30
    """Data in a series that a wide network memorizes."""
    memorizing: int = 5000
    """Gradients that this takes."""
    new_series: int = 64
    """For every fit, that nothing was fitted to."""


@dataclass(frozen=True, eq=False)
class Series:
    """Data, and what is known of their latent variables."""

    model: Model
    x: np.ndarray

    @property
    def target(self) -> Target:
        return self.model.target(self.x)

    @property
    def posterior(self) -> Posterior:
        return self.model.posterior(self.x)

    @property
    def hierarchy(self) -> Hierarchy:
        found = self.target.hierarchy
        assert found is not None
        return found

    @property
    def best_elbo(self) -> float:
        """Of factorized Gaussians."""
        return self.model.log_evidence(self.x) - self.posterior.lost

    def windows(self, family: AmortizedVI) -> np.ndarray:
        """What a network is given, ``f[n, inputs]``."""
        return self.hierarchy.windows(family.before, family.after)


def series(model: Model, n: int, seed: int) -> Series:
    """The one that everything with this seed is about."""
    return Series(model, model.simulate(np.random.default_rng(seed), n))


def new_series(model: Model, n: int, count: int, seed: int) -> list[Series]:
    """Others than `series`."""
    rng = np.random.default_rng([seed, 1])
    return [Series(model, model.simulate(rng, n)) for _ in range(count)]


@dataclass(frozen=True)
class Case:
    """A map from data to factors on one series for every seed, with its closed form."""

    name: str
    family: AmortizedVI
    series: Callable[[int], Series]
    """Of a seed."""
    optimum: Callable[[Posterior, np.ndarray], Factors]
    """``(posterior, inputs) -> factors``"""
    replicates: int = 1
    """Fits of which the better one is the gap's: a network may sit in a poor optimum."""

    def closed(self, seed: int) -> float:
        """The gap in nats."""
        series = self.series(seed)
        return series.posterior.gap(self.optimum(series.posterior, series.windows(self.family)))


def gap_measurement(case: Case, gradients: int, seed: int) -> Measurement:
    """What `amortization_gap` says: the gap, that of the fit by stochastic gradients, and conditions."""
    series = case.series(seed)

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        if stop.is_set():
            raise Stopped
        settings = {"key": key, "budget": Budget(gradients), "replicates": case.replicates}
        found = amortization_gap(series.target, case.family, **settings)
        conditions = found.conditions
        same = conditions.same_inputs_same_factors
        return {
            "gap": found.gap,
            "stochastic": found.stochastic_gap,
            "factorized": found.factorized.elbo,
            "independent": conditions.locals_independent.holds,
            "interaction": conditions.locals_independent.interaction,
            "same_models": conditions.same_inputs_same_models.holds,
            "same_factors": same.holds,
            "mean_difference": same.mean_difference if same.data else None,
            "log_sd_difference": same.log_sd_difference if same.data else None,
            "gradients": int(found.cost.gradients),
        }

    setting = {"target": series.target.digest, "gradients": gradients, "replicates": case.replicates}
    described = {**setting, "sampler": fitted_setting(case.family)}
    return Measurement(f"{case.name}, series {seed}", described, seed, compute)


def fitted_setting(sampler: AmortizedVI | MeanFieldVI) -> dict[str, Any]:
    return {**sampler_setting(sampler), "fitting": {**vars(sampler.fitting)}}


def fitted_gap(
    label: str,
    sampler: AmortizedVI | MeanFieldVI,
    series: Series,
    gradients: int,
    seed: int,
    new: Sequence[Series] = (),
    carried_on: bool = False,
) -> Measurement:
    """A fit by stochastic gradients.

    The result has its ``gap``; the largest distance of a mean from the best factor's in its standard
    deviations and of a log standard deviation, ``mean_error`` and ``log_sd_error``; and where other series
    are given ``new``, the mean gap of the fitted map on those.

    Parameters
    ----------
    carried_on : also what the two gaps are once the map has been carried on to a maximum of the exact ELBO of
        its series: ``gap_after`` and ``new_after``.
    """

    def evaluate(found: Fit) -> dict[str, Any]:
        mean, deviation = factors_of(sampler, found.problem, found.params)
        best = series.posterior.best
        result = {
            "gap": series.posterior.gap(Factors(mean, deviation**2)),
            "mean_error": float(np.max(np.abs(mean - best.mean) / np.sqrt(best.variance))),
            "log_sd_error": float(np.max(np.abs(np.log(deviation) - np.log(best.variance) / 2))),
        }
        if new:
            assert isinstance(sampler, AmortizedVI)
            result["new"] = mean_gap(sampler, found, series, new)
            if carried_on:
                end = carry_on(sampler, found, series)
                result["gap_after"] = mean_gap(sampler, end, series, [series])
                result["new_after"] = mean_gap(sampler, end, series, new)
        return result

    setting = {"new_series": [one.target.digest for one in new], "carried_on": carried_on}
    return fit_measurement(label, sampler, series.target, gradients, seed, evaluate, setting)


def carry_on(sampler: AmortizedVI, found: Fit, series: Series) -> Fit:
    """A fit without the noise of its gradients, by L-BFGS."""
    family = sampler.family
    assert isinstance(family, AmortizedGaussian)
    target, (mean, precision) = series.target, map(jnp.asarray, series.posterior)
    known = Gaussian(target.density, mean, target.log_density(mean), jnp.diag(precision))
    return found._replace(params=ascended(family, found.problem, known, found.params).params)


def mean_gap(sampler: AmortizedVI, found: Fit, trained: Series, others: Sequence[Series]) -> float:
    """Of a fitted map on other series, of which none counts more than `LARGEST`."""
    with np.errstate(over="ignore", invalid="ignore"):
        gaps = [one.posterior.gap(factors_on(sampler, found, trained, one)) for one in others]
    return float(np.mean(np.minimum(np.nan_to_num(gaps, nan=LARGEST, posinf=LARGEST), LARGEST)))


def factors_on(sampler: AmortizedVI, found: Fit, trained: Series, other: Series) -> Factors:
    """A fitted map's factors for a series of the same length that it was not fitted to.

    Inputs are standardized by the series of the fit: the map is what it was.
    """
    windows = trained.windows(sampler)
    spread = windows.std(axis=0)
    inputs = (other.windows(sampler) - windows.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    space = found.problem.space
    assert space.locals is not None
    moved = replace(space, locals=replace(space.locals, inputs=jnp.asarray(inputs)))
    mean, deviation = factors_of(sampler, replace(found.problem, space=moved), found.params)
    return Factors(mean, deviation**2)


# -- rows ---------------------------------------------------------------------------------------------


def measured_cases(
    cases: Iterable[Case], gradients: int, seeds: int, laboratory: Laboratory
) -> dict[str, list[dict[str, Any]]]:
    """Results of `gap_measurement` by the case's name and seed."""
    cases = list(cases)
    wanted = [gap_measurement(case, gradients, seed) for case in cases for seed in range(seeds)]
    found = laboratory.measure("gaps", wanted)
    return {case.name: found[i * seeds : (i + 1) * seeds] for i, case in enumerate(cases)}


def case_rows(case: Case, results: Sequence[Mapping[str, Any]], where: str, tolerance: float) -> list[Row]:
    """The gap by `amortization_gap`, and that of the fit that it began with, against the closed form.

    Parameters
    ----------
    tolerance : relative, of the fit by stochastic gradients
    """
    closed = np.array([case.closed(seed) for seed in range(len(results))])
    same = np.ptp(closed) < EXACT * closed.mean()
    nats = f"{closed.mean():.4g} nats" if same else f"{closed.min():.3g} – {closed.max():.3g} nats"
    rows = []
    for name, what, limit in (
        ("gap", "amortization_gap", EXACT),
        ("stochastic", "fit by stochastic gradients", tolerance),
    ):
        away = np.abs([result[name] for result in results] / closed - 1)
        claim = Claim(
            f"{case.name}: gap, relative difference from its closed form ({what})",
            CLOSED,
            where,
            f"0 (closed form: {nats})",
            AtMost(limit),
        )
        rows.append(Row(claim, median_estimate(away), f"largest of {len(away)}: {away.max():.2g}"))
    return rows


def memorizing_rows(model: Model, plan: SeriesPlan, laboratory: Laboratory) -> list[Row]:
    """A wide network of one datum on a short series, and what it has learned for others."""
    wanted = []
    for seed in range(plan.seeds):
        here = series(model, plan.short, seed)
        new = new_series(model, plan.short, plan.new_series, seed)
        label = f"wide network, series {seed}"
        wanted.append(fitted_gap(label, WIDE, here, plan.memorizing, seed, new, carried_on=True))
    found = laboratory.measure("memorizing", wanted)
    all_here = [series(model, plan.short, seed) for seed in range(plan.seeds)]
    ones = [one.posterior.gap(best_linear(one.posterior, one.hierarchy.inputs)) for one in all_here]
    unexplained = model.unexplained(plan.short)
    network = f"x_k, network of {WIDE.depth} × {WIDE.width}"
    where = f"n = {plan.short}, all x_k distinct, {plan.memorizing} gradients, {plan.seeds} series"
    on_new = f"{where}; mean of {plan.new_series} new series, at most {LARGEST:g} nats each"
    own = "gap on the series of the fit over that of the best linear map"
    exact = "carried on to a maximum of the exact ELBO"
    rows = []
    for name, statement, figure, rule in (
        ("gap", f"{own} (fit by stochastic gradients)", "below 1", Below(1.0)),
        ("gap_after", f"{own} ({exact})", "near 0: it memorizes", AtMost(0.25)),
    ):
        values = [result[name] / one for result, one in zip(found, ones, strict=True)]
        claim = Claim(f"{network}: {statement}", PREDICTED, where, figure, rule)
        rows.append(Row(claim, median_estimate(values), worst(values)))
    claim = Claim(
        f"{network}: gap on new series over the best of any function of x_k ({exact})",
        f"{CLOSED}: {unexplained:.4g} nats in expectation",
        on_new,
        "≥ 1",
        AtLeast(1.0),
    )
    before = np.median([result["new"] / unexplained for result in found])
    note = f"before it was carried on: median {before:.3g}"
    return [*rows, Row(claim, median_estimate(result["new_after"] / unexplained for result in found), note)]


def worst(values: Iterable[float]) -> str:
    """For a row's note."""
    values = list(values)
    return f"largest of {len(values)}: {max(values):.2g}"


def positive(values: Iterable[float]) -> Estimate:
    """The median of magnitudes that may be 0."""
    return median_estimate(abs(value) for value in values)
