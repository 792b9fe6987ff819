"""Amortized VI on a nonlinear latent model: the gap against the width of the network, held-out data, a race.

Margossian & Blei, "Amortized variational inference: when and why?", UAI 2024, section 4. F-VI's optimum has
no closed form here; quadrature and an exhaustive search for every datum find it (`avi_quadrature`), and give
the ELBO of everything that is fitted without Monte Carlo error.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...models.latent_nonlinear import Simulated, latent_nonlinear, simulate_latent_nonlinear
from ...models.target import Target
from ...samplers.amortized import AmortizedVI
from ...samplers.variational import ConstantFactorVI, MeanFieldVI
from ...samplers.vi.fits import Fit, VariationalSampler
from ...samplers.vi.hierarchical import Network
from ...samplers.vi.settings import Fitting
from ..estimates import estimate, ratio
from . import avi_quadrature as quadrature
from .avi_quadrature import Factorized
from .avi_races import STARTS, Race, RaceSubject, race_of
from .avi_runs import PAPER, SOURCE, factors_of, fit_measurement
from .figures import CurvePoint, curve_figure
from .framework import (
    PREDICTED,
    AtLeast,
    AtMost,
    Below,
    Claim,
    Outcome,
    Reproduction,
    Row,
    Unchecked,
    median_estimate,
)
from .laboratory import Laboratory, Measurement

FITTING = Fitting(samples=2)
CONSTANT, FREE, FEW = "constant factor", "F-VI", "few data"
WIDE = 16
"""Units of a hidden layer from which on the gap is claimed to be closed."""
CLOSED = 0.01
"""Of the constant factor's gap."""
TOLERANCE = 1e-3
FRESH = 1000
"""Data that a network has not seen, from the same θ."""
UNSEEN = 10_000
"""Added to the seed of a data set for that of its new data."""
GOAL = 0.1
"""In the race a fit has arrived when it is as near to F-VI's optimum, in constant gaps."""
EVERY = 10


type Fits = Mapping[str, Sequence[Mapping[str, Any]]]
"""Results of every family on every data set."""


@dataclass(frozen=True)
class NonlinearPlan:
    """The size of the reproduction."""

    n: int = 400
    few: int = 40
    """Data of the fits that are to memorize them."""
    gradients: int = 4000
    """Of a fit, at most."""
    widths: tuple[int, ...] = (1, 2, 4, 8, 16)
    race_steps: int = 400
    seeds: int = 8
    """Data sets, each with a fit of every family."""


@functools.lru_cache(maxsize=64)
def data(n: int, seed: int) -> tuple[Simulated, Target]:
    """A data set and its posterior; θ is drawn, too."""
    found = simulate_latent_nonlinear(n, seed)
    return found, latent_nonlinear(found.x)


def run(plan: NonlinearPlan, laboratory: Laboratory) -> Outcome:
    """Optima and gaps, held-out data, the race."""
    optima = measured_optima(plan, laboratory)
    fits = measured_fits(plan, laboratory)
    gaps = {k: relative_gaps(fits[_name(k)], optima) for k in plan.widths}
    race = measured_race(plan, laboratory, optima)
    rows = [
        *optimum_rows(plan, fits, optima),
        *width_rows(plan, gaps),
        against_free_row(plan, fits, optima),
        *held_out_rows(plan, fits),
        race.row(f"{_where(plan)}, the same grid for both, its cost counted"),
    ]
    spent = ", ".join(f"{name} {np.mean([r['gradients'] for r in rs]):,.0f}" for name, rs in fits.items())
    ended = ", ".join(f"{name} {sum(r['converged'] for r in rs)}" for name, rs in fits.items())
    notes = (
        "x_k ~ N(θ + z_k + z_k sin z_k, exp(2 cos z_k)), z_k ~ N(0, 1), simulated as it is specified, with"
        " θ ~ N(0, 1) in the density and in the simulation. The authors' published notebook differs: it"
        " draws z_k from N(0, 5²) in the simulation, has a flat prior for θ, leaves −cos z_k, the"
        " normalizer, out of the density, and fits one network for means and one for log standard"
        " deviations, where here one network has both as outputs.",
        f"{plan.seeds} data sets, one fit of every family to each, of at most {plan.gradients} gradients with"
        f" start and grid; {FITTING.samples} draws a gradient, two hidden layers of k rectified linear units."
        f" Gradients spent, mean: {spent}. Converged by the rule, of {plan.seeds}: {ended}.",
        "Gaps are distances from F-VI's optimum as quadrature and an exhaustive search for every datum find"
        " it, over the optimal constant factor's; ELBOs of fits are by quadrature, too. F-VI as it is fitted"
        " has a distance of its own: every free factor has the noise of one datum to learn from, where a"
        " network averages over all.",
        f"Loss: the ELBO of a datum's best factor for the fit's q(θ), minus that of the network's. {FEW}: the"
        f" widest network on {plan.few} data.",
        f"The race: every rate of the grid without decay, looked at every {EVERY} steps, has arrived within"
        f" {GOAL:.0%} of the constant gap from F-VI's optimum. Counted are the start and all rates of the"
        " grid until the best one arrives, the one with the smallest median over data sets.",
        *race.notes(),
    )
    return Outcome(tuple(rows), figure(plan, fits, optima, gaps, race), notes)


def _where(plan: NonlinearPlan) -> str:
    return f"n = {plan.n:,}, {plan.seeds} data sets"


# -- what is measured ---------------------------------------------------------------------------------


def measured_optima(plan: NonlinearPlan, laboratory: Laboratory) -> list[dict[str, Any]]:
    """F-VI's optimal ELBO on every data set, and that of a constant factor."""

    def measurement(seed: int) -> Measurement:
        found, target = data(plan.n, seed)

        def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
            free, constant = quadrature.factorized_optimum(found.x), quadrature.constant_optimum(found.x)
            return {"free": quadrature.elbo(found.x, free), "constant": quadrature.elbo(found.x, constant)}

        return Measurement("quadrature", {"target": target.digest, "optima": True}, seed, compute)

    return laboratory.measure("optima", [measurement(seed) for seed in range(plan.seeds)])


def _gap(optima: Mapping[str, float]) -> float:
    """The optimal constant factor's, in nats."""
    return optima["free"] - optima["constant"]


def measured_fits(plan: NonlinearPlan, laboratory: Laboratory) -> dict[str, list[dict[str, Any]]]:
    """Every family on every data set; and the widest network on a few data."""
    samplers: dict[str, tuple[int, VariationalSampler]] = {
        CONSTANT: (plan.n, ConstantFactorVI(FITTING)),
        FREE: (plan.n, MeanFieldVI(FITTING)),
        **{_name(k): (plan.n, AmortizedVI(FITTING, width=k)) for k in plan.widths},
        FEW: (plan.few, AmortizedVI(FITTING, width=max(plan.widths))),
    }
    wanted = []
    for name, (n, sampler) in samplers.items():
        for seed in range(plan.seeds):
            found, target = data(n, seed)
            evaluate = functools.partial(evaluated, sampler=sampler, found=found, seed=seed)
            wanted.append(fit_measurement(name, sampler, target, plan.gradients, seed, evaluate))
    results = iter(laboratory.measure("fits", wanted))
    return {name: [next(results) for _ in range(plan.seeds)] for name in samplers}


def _name(width: int) -> str:
    return f"k = {width}"


def evaluated(fit: Fit, sampler: VariationalSampler, found: Simulated, seed: int) -> dict[str, float]:
    """Its ELBO, and of a network the mean loss of its factors on the data and on new ones."""
    loc, scale = factors_of(sampler, fit.problem, fit.params)
    result = {"elbo": exact_elbo(found.x, loc, scale)}
    if not isinstance(sampler, AmortizedVI):
        return result
    unseen = simulate_latent_nonlinear(FRESH, UNSEEN + seed, theta=found.theta).x
    own = Factorized(float(loc[0]), float(scale[0]), loc[1:], scale[1:])
    other = Factorized(own.theta, own.theta_scale, *factors_of_data(sampler, fit, found.x, unseen))
    return {**result, "trained": mean_loss(found.x, own), "held out": mean_loss(unseen, other)}


def exact_elbo(x: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> float:
    """Of a factorized Gaussian on the target's space."""
    return quadrature.elbo(x, Factorized(float(loc[0]), float(scale[0]), loc[1:], scale[1:]))


def factors_of_data(
    sampler: AmortizedVI, fit: Fit, x: np.ndarray, unseen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A network's factors for data that it was not fitted to.

    Parameters
    ----------
    x : what it was fitted to: its inputs are in units of these
    """
    local_map = Network(sampler.width, sampler.depth)
    inputs = jnp.asarray((unseen - x.mean()) / x.std())[:, None]
    loc, log_scale = np.asarray(local_map(fit.params.local_map, inputs, 2)).T
    center, scale = (float(values[1]) for values in (fit.problem.center, fit.problem.scale))  # all z alike
    return center + scale * loc, scale * np.exp(log_scale)


def mean_loss(x: np.ndarray, q: Factorized) -> float:
    """By how much local factors are below the best ones for this q(θ), in nats per datum."""
    best = quadrature.best_factors(x - q.theta, np.full(len(x), q.theta_scale**2))
    optimal = Factorized(q.theta, q.theta_scale, best[:, 0], np.exp(best[:, 1]))
    return float(np.mean(quadrature.local_elbos(x, optimal) - quadrature.local_elbos(x, q)))


def measured_race(plan: NonlinearPlan, laboratory: Laboratory, optima: Sequence[Mapping[str, float]]) -> Race:
    """F-VI against a network of the width that is claimed to do."""
    subjects = []
    for seed, one in enumerate(optima):
        found, target = data(plan.n, seed)
        subjects.append(
            RaceSubject(target, functools.partial(exact_elbo, found.x), one["free"], GOAL * _gap(one))
        )
    contenders = {"F-VI": MeanFieldVI(FITTING), f"A-VI, k = {WIDE}": AmortizedVI(FITTING, width=WIDE)}
    return race_of(
        laboratory,
        contenders,
        subjects,
        STARTS[FITTING.start],
        start=FITTING.start,
        steps=plan.race_steps,
        every=EVERY,
    )


def relative_gaps(
    results: Sequence[Mapping[str, float]], optima: Sequence[Mapping[str, float]]
) -> list[float]:
    """Distances to F-VI's optimum over those of the optimal constant factor."""
    return [(o["free"] - r["elbo"]) / _gap(o) for r, o in zip(results, optima, strict=True)]


# -- rows ---------------------------------------------------------------------------------------------


def optimum_rows(plan: NonlinearPlan, fits: Fits, optima: Sequence[Mapping[str, float]]) -> list[Row]:
    """What fits reach of the optima that quadrature has found."""
    own = [abs(o["constant"] - r["elbo"]) / _gap(o) for r, o in zip(fits[CONSTANT], optima, strict=True)]
    free = relative_gaps(fits[FREE], optima)
    nats = np.median([gap * _gap(o) for gap, o in zip(free, optima, strict=True)])
    there = np.mean([_gap(o) for o in optima])
    return [
        Row(
            Claim(
                "constant factor as fitted: distance from its optimum, over its gap",
                "quadrature",
                _where(plan),
                "0",
                AtMost(TOLERANCE),
            ),
            median_estimate(own),
            f"its gap is {there:.1f} nats on average",
        ),
        Row(
            Claim(
                "F-VI as fitted: distance from its optimum, over the constant factor's gap",
                "quadrature and search",
                _where(plan),
                "0",
                AtMost(CLOSED),
            ),
            median_estimate(free),
            f"{nats:.3g} nats",
        ),
    ]


def width_rows(plan: NonlinearPlan, gaps: Mapping[int, list[float]]) -> list[Row]:
    """That the gap shrinks with the width, and is closed."""
    rows = []
    for before, after in itertools.pairwise(plan.widths):
        claim = Claim(
            f"gap at k = {after} over that at k = {before}",
            f"{PAPER}: the gap shrinks with k" if after <= WIDE else "nothing is claimed beyond k = 16",
            _where(plan),
            "below 1",
            Below(1.0) if after <= WIDE else Unchecked("both are closed"),
        )
        rows.append(Row(claim, ratio(estimate(gaps[after]), estimate(gaps[before]))))
    for width in (k for k in plan.widths if k >= WIDE):
        claim = Claim(
            f"gap at k = {width} over the constant factor's",
            f"{PAPER}: closed by k = {WIDE}",
            _where(plan),
            f"below {CLOSED:g}",
            Below(CLOSED),
        )
        rows.append(Row(claim, median_estimate(gaps[width]), f"largest {max(gaps[width]):.2g}"))
    return rows


def against_free_row(plan: NonlinearPlan, fits: Fits, optima: Sequence[Mapping[str, float]]) -> Row:
    """Who is nearer to F-VI's optimum for the same gradients."""
    widest = max(plan.widths)
    claim = Claim(
        f"distance from F-VI's optimum after the same budget: A-VI, k = {widest}, over F-VI",
        PREDICTED,
        f"{_where(plan)}, {plan.gradients} gradients with the grid",
        "below 1: A-VI's fit is the better one",
        Below(1.0),
    )
    amortized, free = (estimate(relative_gaps(fits[name], optima)) for name in (_name(widest), FREE))
    return Row(claim, ratio(amortized, free))


def held_out_rows(plan: NonlinearPlan, fits: Fits) -> list[Row]:
    """Whether a wide network has learned the map, or its data."""
    widest = max(plan.widths)
    rows = []
    for name, n, figure, rule in (
        (_name(widest), plan.n, "the map is learned: within a factor of 2", AtMost(2.0)),
        (FEW, plan.few, "the data are: at least 2", AtLeast(2.0)),
    ):
        claim = Claim(
            f"A-VI, k = {widest}: loss per datum, new data over those it was fitted to",
            PREDICTED,
            f"n = {n:,}, {plan.seeds} data sets, {FRESH:,} new data each",
            figure,
            rule,
        )
        new, old = (estimate(result[which] for result in fits[name]) for which in ("held out", "trained"))
        rows.append(Row(claim, ratio(new, old), f"{new.value:.2g} against {old.value:.2g} nats per datum"))
    return rows


# -- the figure ---------------------------------------------------------------------------------------


def figure(
    plan: NonlinearPlan,
    fits: Fits,
    optima: Sequence[Mapping[str, float]],
    gaps: Mapping[int, list[float]],
    race: Race,
) -> Any:
    """Gaps and losses against the width, and every rate of the grid against gradients."""
    panel, losses = "gap over the constant factor's", "loss of a factor, nats per datum"
    free = median_estimate(relative_gaps(fits[FREE], optima))
    points = [CurvePoint(panel, "A-VI", k, median_estimate(values)) for k, values in gaps.items()]
    points += [CurvePoint(panel, "F-VI as fitted", k, free) for k in plan.widths]
    for which, words in (("trained", "data it was fitted to"), ("held out", "new data")):
        points += [
            CurvePoint(losses, words, k, estimate(result[which] for result in fits[_name(k)]))
            for k in plan.widths
        ]
    widths = curve_figure(points, x_title="k, units of a hidden layer", y_title="gap, loss")
    rates = curve_figure(
        race.curves(),
        x_title="gradients of one rate, with the start's",
        y_title="F-VI's optimum minus ELBO, nats",
    )
    return alt.vconcat(widths, rates).resolve_scale(color="independent", shape="independent")


AVI_NONLINEAR = Reproduction(
    name="avi-nonlinear",
    title="On a nonlinear latent model the amortization gap shrinks with the network's width, and closes",
    sources=(SOURCE, "Its authors' notebooks: github.com/charlesm93/AVI-when-and-why, nonlinear_prob_model"),
    default=NonlinearPlan(),
    full=NonlinearPlan(n=10_000, gradients=60_000, widths=(1, 2, 4, 8, 16, 32), race_steps=2000, seeds=16),
    run=run,
)
