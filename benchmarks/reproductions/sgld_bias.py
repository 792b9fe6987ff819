"""The bias of SGLD: predicted and measured on a Gaussian, and on a regression against its step size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...posteriordb_adapter import PosteriorDatabase
from ..estimates import Estimate, estimate, ratio
from .figures import CurvePoint, curve_figure
from .framework import (
    PREDICTED,
    AtLeast,
    AtMost,
    Below,
    Between,
    Claim,
    Outcome,
    Reproduction,
    Row,
)
from .laboratory import Laboratory
from .sgld_curve import (
    BATCH,
    BURN_IN,
    ESTIMATORS,
    INFLATION,
    RULE_TIMES,
    STEPS,
    Curve,
    Estimator,
    Key,
    Subject,
    find_posterior,
    measure_curve,
    subject_of,
)
from .sgld_inflation import CURVATURE, N, inflation_rows, observations
from .stochastic_runs import mean_estimate, standard_error

NAMES = {"minibatch": f"minibatch {BATCH}", "control-variates": f"control variates {BATCH}"}
RECURRENCE = "(2 + hV)/(2 − hλ), V from the rows' gradients at the mode"
TOLERANCE = 0.1
SLOPE_STEPS = (0.03, 0.1, 0.3)
"""hλ at which the bias of minibatches is far from every floor and the posterior's curvature still decides."""
COMPARED_STEPS = (0.1, 0.3)
SIGNIFICANT = 3.0
"""Standard errors."""
STIFF = "variance along the stiffest direction over the reference's"
STIFF_B2 = "b² of z² along the stiffest direction"
AVERAGE_B2 = "b² of mean and x², averaged over parameters, at equal cost"


@dataclass(frozen=True)
class BiasPlan:
    """The size of the reproduction."""

    seeds: int = 8
    chains: int = 16
    """Of each run."""
    effective: int = 5000
    """About as many independent draws of the Gaussian does a run give."""
    gradients: int = 500
    """Per chain and run on the regression."""


def run(plan: BiasPlan, laboratory: Laboratory) -> Outcome:
    """The Gaussian's rows, then the regression's, and the regression's curve."""
    rows = inflation_rows(laboratory, chains=plan.chains, effective=plan.effective, seeds=plan.seeds)
    subject = subject_of(find_posterior(PosteriorDatabase()))
    curve = measure_curve(laboratory, subject, chains=plan.chains, gradients=plan.gradients, seeds=plan.seeds)
    rows += [rule_row(subject, curve), *recurrence_rows(subject, curve), slope_row(subject, curve)]
    rows += [floor_row(subject, curve), *control_variate_rows(subject, curve), *average_rows(subject, curve)]
    assert subject.target.likelihood is not None
    notes = (
        f"Gaussian mean: n = {N} observations drawn from N(0, 1) with prior N(0, 10²), λ = {CURVATURE:g};"
        f" their variance is {np.var(observations()):.4f}, V = n² Var(y)/m for batches with replacement."
        " Intervals are Student's over independent chains: within a chain draws are autocorrelated, and only"
        " their mean is used.",
        f"Regression: {subject.name}, {subject.target.likelihood.n} rows, dimension {subject.target.dim}, its"
        f" Stan program lowered to JAX; λ = {subject.curvature:.4g} is the largest curvature at the mode,"
        f" V/λ = {subject.noise:.2f} for m = {BATCH}. {plan.seeds} seeds of {plan.chains} chains from the"
        f" mode, {plan.gradients} gradient equivalents a chain with the search of the mode (with the rule's"
        f" step {RULE_TIMES} times as many), the first {BURN_IN:.0%} of the steps dropped.",
        "z is the position along the stiffest direction in the reference's standard deviations; b² of z² is"
        " (r − 1)²/2, r the variance over the reference's. The reference leaves r uncertain by"
        f" {subject.floor:.2%}, and b² averaged over parameters by {subject.average_floor:.2g}: the floors in"
        " the figure. A point at the floor shows the upper end of its interval.",
        "b² averaged over parameters has Monte Carlo error in it, and at this cost little else: it is the"
        " slow directions that decide, in which SGLD's bias is far smaller than in the stiffest one.",
        *divergence_notes(curve),
    )
    return Outcome(tuple(rows), figure(subject, curve), notes)


# -- what a curve comes to ------------------------------------------------------------------------


def ratios(curve: Curve, key: Key) -> np.ndarray:
    """r of every chain of all seeds."""
    return np.array([ratio for result in curve[key] for ratio in result["ratios"]])


def squared_biases(curve: Curve, key: Key) -> Estimate:
    """b² of z² over seeds."""
    return estimate((np.mean(result["ratios"]) - 1) ** 2 / 2 for result in curve[key])


def averages(curve: Curve, key: Key) -> Estimate:
    """b² averaged over parameters, over seeds."""
    return estimate(result["b2"] for result in curve[key])


def uncertainty(subject: Subject, curve: Curve, key: Key) -> float:
    """One standard error of r, of the run and of the reference."""
    return float(np.hypot(standard_error(ratios(curve, key)), subject.floor))


# -- rows -----------------------------------------------------------------------------------------


def rule_row(subject: Subject, curve: Curve) -> Row:
    """What the rule for step sizes promises."""
    key: Key = ("minibatch", None)
    measured = mean_estimate(ratios(curve, key))
    claim = Claim(
        STIFF,
        "the rule for SGLD's step size",
        f"{subject.name}, {NAMES['minibatch']}, inflation={INFLATION:g}",
        f"{1 + INFLATION:g}",
        Between(1 + INFLATION / 2, 1 + 1.5 * INFLATION),
    )
    return Row(claim, measured, f"hλ = {curve[key][0]['h_lambda']:.4f}")


def recurrence_rows(subject: Subject, curve: Curve) -> list[Row]:
    """The Gaussian's formula where the posterior is not Gaussian."""
    return [_recurrence_row(subject, curve, "minibatch", h) for h in SLOPE_STEPS] + [
        _recurrence_row(subject, curve, "control-variates", h) for h in COMPARED_STEPS
    ]


def _recurrence_row(subject: Subject, curve: Curve, estimator: Estimator, h_lambda: float) -> Row:
    predicted = subject.predicted(h_lambda, noise=estimator == "minibatch")
    claim = Claim(
        STIFF,
        RECURRENCE if estimator == "minibatch" else "2/(2 − hλ): no noise",
        _setting(subject, estimator, h_lambda),
        f"{predicted:.3f}",
        Between(round(predicted * (1 - TOLERANCE), 3), round(predicted * (1 + TOLERANCE), 3)),
    )
    return Row(claim, mean_estimate(ratios(curve, (estimator, h_lambda))))


def slope_row(subject: Subject, curve: Curve) -> Row:
    """How b² of z² falls with h."""

    def slope(excesses: list[float]) -> float:
        return float(np.polyfit(np.log(SLOPE_STEPS), np.log(np.square(excesses) / 2), 1)[0])

    predicted = slope([subject.predicted(h) - 1 for h in SLOPE_STEPS])
    seeds = len(curve["minibatch", None])
    measured = [
        slope([float(np.mean(curve["minibatch", h][seed]["ratios"])) - 1 for h in SLOPE_STEPS])
        for seed in range(seeds)
    ]
    claim = Claim(
        f"{STIFF_B2} falls with the step size: slope of log b² against log h",
        f"Vollmer, Zygalakis & Teh (2016): bias of order h; {RECURRENCE}",
        f"{subject.name}, {NAMES['minibatch']}, hλ = {SLOPE_STEPS[0]:g} to {SLOPE_STEPS[-1]:g}",
        f"{predicted:.2f}",
        Between(round(predicted - 0.3, 2), round(predicted + 0.3, 2)),
    )
    return Row(claim, mean_estimate(measured))


def floor_row(subject: Subject, curve: Curve) -> Row:
    """The smallest step, whose bias cannot be told from noise."""
    key: Key = ("minibatch", STEPS[0])
    error = uncertainty(subject, curve, key)
    deviation = abs(float(ratios(curve, key).mean()) - 1) / error
    claim = Claim(
        f"{STIFF_B2} at the smallest step is lost in noise: |r − 1| in standard errors of run and reference",
        PREDICTED,
        _setting(subject, *key),
        f"at most {SIGNIFICANT:g}",
        AtMost(SIGNIFICANT),
    )
    return Row(
        claim,
        Estimate(deviation, kind="arithmetic"),
        f"predicted r − 1: {subject.predicted(STEPS[0]) - 1:.3f}",
    )


def control_variate_rows(subject: Subject, curve: Curve) -> list[Row]:
    """Plain minibatches above control variates, at equal cost."""
    return [
        Row(
            Claim(
                f"{STIFF_B2}, minibatch over control variates",
                "Brosse, Durmus & Moulines (2018); Baker et al. (2019)",
                f"{subject.name}, m = {BATCH}, hλ = {h:g}",
                f"{(subject.predicted(h) - 1) ** 2 / (subject.predicted(h, noise=False) - 1) ** 2:.0f}",
                AtLeast(50.0),
            ),
            ratio(squared_biases(curve, ("minibatch", h)), squared_biases(curve, ("control-variates", h))),
        )
        for h in COMPARED_STEPS
    ]


def average_rows(subject: Subject, curve: Curve) -> list[Row]:
    """What b² averaged over parameters sees of all this."""
    first, last = STEPS[0], COMPARED_STEPS[-1]
    h = COMPARED_STEPS[0]
    return [
        Row(
            Claim(
                f"{AVERAGE_B2}: at a large step over that at the smallest",
                PREDICTED,
                f"{subject.name}, {NAMES['minibatch']}, hλ = {last:g} and {first:g}",
                "mixing decides: below 1",
                Below(1.0),
            ),
            ratio(averages(curve, ("minibatch", last)), averages(curve, ("minibatch", first))),
        ),
        Row(
            Claim(
                f"{AVERAGE_B2}: minibatch over control variates",
                PREDICTED,
                f"{subject.name}, m = {BATCH}, hλ = {h:g}",
                "not told apart: within a factor of 3",
                Between(0.333, 3.0),
            ),
            ratio(averages(curve, ("minibatch", h)), averages(curve, ("control-variates", h))),
        ),
    ]


def divergence_notes(curve: Curve) -> list[str]:
    """Steps that were not finite, where there were any."""
    return [
        f"{count} draws of {NAMES[estimator]} at hλ = {h} followed a step that was not finite"
        for (estimator, h), results in curve.items()
        if (count := sum(result["divergent"] for result in results))
    ]


def _setting(subject: Subject, estimator: Estimator, h_lambda: float | None) -> str:
    return f"{subject.name}, {NAMES[estimator]}, hλ = {h_lambda:g}"


# -- the figure -----------------------------------------------------------------------------------


def figure(subject: Subject, curve: Curve):
    """Both errors against the step size, with what is predicted and the reference's noise floors."""
    stiff, average = f"{subject.name}: {STIFF_B2}", f"{subject.name}: {AVERAGE_B2}"
    points = [stiff_point(subject, curve, stiff, estimator, h) for estimator in ESTIMATORS for h in STEPS]
    points += [
        CurvePoint(stiff, name, h, Estimate((subject.predicted(h, noise=noise) - 1) ** 2 / 2))
        for name, noise in ((f"predicted, minibatch {BATCH}", True), ("predicted, full gradients", False))
        for h in STEPS
    ]
    points += [
        CurvePoint(average, NAMES[estimator], h, averages(curve, (estimator, h)))
        for estimator in ESTIMATORS
        for h in STEPS
    ]
    floors = ((stiff, subject.floor**2 / 2), (average, subject.average_floor))
    points += [
        CurvePoint(panel, "noise floor of the reference", h, Estimate(value))
        for panel, value in floors
        for h in STEPS
    ]
    return curve_figure(points, x_title="hλ, step size times the largest curvature", y_title="b²")


def stiff_point(
    subject: Subject, curve: Curve, panel: str, estimator: Estimator, h_lambda: float
) -> CurvePoint:
    """b² of z² with its interval, or the upper end of that where zero bias cannot be excluded."""
    r = mean_estimate(ratios(curve, (estimator, h_lambda)))
    assert r.value is not None
    assert r.high is not None
    reach = r.high - r.value
    excess = abs(r.value - 1)
    if lost := excess < max(reach, 2 * uncertainty(subject, curve, (estimator, h_lambda))):
        return CurvePoint(panel, NAMES[estimator], h_lambda, Estimate((excess + reach) ** 2 / 2), lost)
    low, middle, high = ((excess + d) ** 2 / 2 for d in (-reach, 0.0, reach))
    return CurvePoint(panel, NAMES[estimator], h_lambda, Estimate(middle, low, high))


SGLD_BIAS = Reproduction(
    name="sgld-bias",
    title="SGLD's draws are too wide by (2 + hV)/(2 − hλ): small steps or control variates cure it",
    sources=(
        "Welling & Teh (2011), Bayesian learning via stochastic gradient Langevin dynamics, ICML",
        "Vollmer, Zygalakis & Teh (2016), Exploration of the (non-)asymptotic bias and variance of stochastic"
        " gradient Langevin dynamics, JMLR 17(159)",
        "Brosse, Durmus & Moulines (2018), The promises and pitfalls of stochastic gradient Langevin"
        " dynamics, NeurIPS",
        "Baker, Fearnhead, Fox & Nemeth (2019), Control variates for stochastic gradient MCMC, Statistics and"
        " Computing 29",
    ),
    default=BiasPlan(),
    full=BiasPlan(seeds=16, chains=32, effective=20_000, gradients=5000),
    run=run,
)
