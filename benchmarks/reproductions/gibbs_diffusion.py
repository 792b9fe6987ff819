"""Gibbs diffusion where the answer is known: against the exact posterior, calibrated, and made wrong.

Heurtel-Depeiges, Margossian, Ohana & Régaldo-Saint Blancard, "Listening to the noise: Blind denoising with
Gibbs diffusion", ICML 2024, alternate x | y, φ, σ by a diffusion model with (φ, σ) | y − x by HMC. Here the
field is Gaussian: p(φ, σ | y) is a double integral, x | y, φ, σ the Wiener filter's, so that what a
discretization, a trained network, or a mistake costs can be told from what Gibbs sampling itself does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...samplers.diffusion.network import Training
from ..estimates import Estimate, estimate
from .framework import PREDICTED, AtLeast, AtMost, Between, Claim, Outcome, Reproduction, Row, Rule
from .gibbs_diffusion_calibration import BINS, all_log10_p
from .gibbs_diffusion_figure import Page, figure
from .gibbs_diffusion_network import Trained, training_measurement, training_note
from .gibbs_diffusion_runs import (
    COARSE,
    FIELD,
    FINE,
    MASSES,
    QUANTITIES,
    Length,
    Variant,
    accuracy_measurement,
    calibration_measurement,
    chains_of,
)
from .laboratory import Laboratory
from .stochastic_runs import mean_estimate

SOURCE = "Heurtel-Depeiges et al. 2024"
GRID = "p(φ, σ | y) by quadrature"
EXACT = "Talts et al. 2018: ranks are uniform if draws are of the posterior"
NAMES: dict[Variant, str] = {
    "exact": "exact denoiser",
    "fine": f"exact score, {FINE} steps",
    "network": f"trained network, {FINE} steps",
    "coarse": f"exact score, {COARSE} steps",
    "told the true σ": "denoiser told the true σ",
    "y rescaled by the first σ": "y rescaled by the chain's first σ",
    "rounded to 1000 times": "noise level rounded to 1000 times",
    "rounded to 100 times": "noise level rounded to 100 times",
}
RIGHT: tuple[Variant, ...] = ("exact", "fine", "network")
"""That are meant to be right: held against the grid, and looked at as images."""
MISLED: tuple[Variant, ...] = ("coarse", "told the true σ")
"""That calibration is to find out."""
PICTURES = 2
"""Data sets in the figure."""
RMS, RATIO = 0.2, (0.9, 1.1)
PASSES, FAILS_BY_FAR = -2.0, -6.0
"""log₁₀ p."""


@dataclass(frozen=True)
class GibbsDiffusionPlan:
    """The size of the reproduction."""

    seeds: int = 8
    """Of batches of data sets; and data sets that are held against their grids."""
    data_sets: int = 16
    """Per seed, with a chain each, for calibration."""
    chains: int = 16
    """On a data set that is held against its grid; another number than of data sets is compiled anew."""
    warmup: int = 300
    thin: int = 18
    """Sweeps per ranked draw."""
    network_lanes: int = 8
    """Data sets per seed of the trained network, which costs far more."""
    network_chains: int = 8
    network_warmup: int = 200
    network_thin: int = 6
    training_steps: int = 1000

    def seeds_of(self, name: Variant) -> range:
        """Wrong denoisers are found out with half of the data sets."""
        return range(self.seeds if name in RIGHT else (self.seeds + 1) // 2)

    @property
    def length(self) -> Length:
        return Length(self.warmup, self.thin)

    @property
    def network_length(self) -> Length:
        return Length(self.network_warmup, self.network_thin)


type Results = Sequence[Mapping[str, Any]]


def run(plan: GibbsDiffusionPlan, laboratory: Laboratory) -> Outcome:
    """Everything without the network while that is trained; then the network."""
    training, seeds = Training(steps=plan.training_steps), range(plan.seeds)
    own: list[Variant] = [name for name in NAMES if name != "network"]
    grids: list[Variant] = [name for name in RIGHT if name != "network"]
    # Seed by seed, so that at first every thread compiles another program.
    order: list[tuple[int, Variant]] = [
        (seed, name) for seed in seeds for name in own if seed in plan.seeds_of(name)
    ]
    wanted = [_calibration(plan, name, seed) for seed, name in order]
    wanted += [accuracy_measurement(name, seed, plan.chains, plan.length) for seed in seeds for name in grids]
    network, *results = laboratory.measure("denoisers", [training_measurement(FIELD, training), *wanted])
    found = iter(results)
    calibrations: dict[Variant, list[Any]] = {name: [] for name in NAMES}
    accuracies: dict[Variant, list[Any]] = {name: [] for name in RIGHT}
    for _, name in order:
        calibrations[name].append(next(found))
    for _ in seeds:
        for name in grids:
            accuracies[name].append(next(found))

    trained, length, chains = Trained.of(FIELD, training, network), plan.network_length, plan.network_chains
    wanted = [_calibration(plan, "network", seed, trained) for seed in seeds]
    wanted += [accuracy_measurement("network", seed, chains, length, trained) for seed in seeds]
    results = laboratory.measure("trained network", wanted)
    calibrations["network"], accuracies["network"] = results[: plan.seeds], results[plan.seeds :]

    rows = [row for name in RIGHT for row in accuracy_rows(name, accuracies[name], _where(plan, name, True))]
    for name in NAMES:
        rows += calibration_rows(name, calibrations[name], _where(plan, name), _length(plan, name).draws)
    for name in RIGHT:
        rows += image_rows(name, calibrations[name], _where(plan, name))
    page = Page(NAMES, RIGHT, calibrations, {name: _length(plan, name).draws for name in NAMES})
    return Outcome(
        tuple(rows), figure(page), (*notes(plan, calibrations, accuracies), training_note(training, network))
    )


def _calibration(plan: GibbsDiffusionPlan, name: Variant, seed: int, trained: Trained | None = None) -> Any:
    number = plan.network_lanes if name == "network" else plan.data_sets
    pictures = PICTURES if name in RIGHT and seed == 0 else 0
    return calibration_measurement(name, seed, number, _length(plan, name), pictures, trained)


def _length(plan: GibbsDiffusionPlan, name: Variant) -> Length:
    return plan.network_length if name == "network" else plan.length


def _where(plan: GibbsDiffusionPlan, name: Variant, on_grid: bool = False) -> str:
    """The setting of a row."""
    length, network = _length(plan, name), name == "network"
    if on_grid:
        chains = plan.network_chains if network else plan.chains
        sweeps = (length.draws) * length.thin
        return f"{plan.seeds} data sets, {chains} chains of {sweeps:,} sweeps each, warmup {length.warmup}"
    number = len(plan.seeds_of(name)) * (plan.network_lanes if network else plan.data_sets)
    return f"{number} data sets, {length.draws} draws of a chain each, {length.thin} sweeps apart"


# -- against the grid ----------------------------------------------------------------------------------


def scaled_errors(results: Results) -> np.ndarray:
    """(mean − exact mean)/exact sd, ``f[data set, 2]``."""
    mean, exact, sd = (np.array([one[k] for one in results]) for k in ("mean", "exact_mean", "exact_sd"))
    return (mean - exact) / sd


def sd_ratios(results: Results) -> np.ndarray:
    """sd over the exact one, ``f[data set, 2]``."""
    return np.array([one["sd"] for one in results]) / np.array([one["exact_sd"] for one in results])


def rms_estimate(errors: np.ndarray) -> Estimate:
    """Over all elements of ``f[data set, 2]``; the interval is Student's over data sets, of mean squares."""
    squares = mean_estimate(np.mean(errors**2, axis=1))

    def root(x: float | None) -> float | None:
        return None if x is None else math.sqrt(max(x, 0.0))

    values = tuple(math.sqrt(x) for x in squares.values)
    return Estimate(root(squares.value), root(squares.low), root(squares.high), "root mean square", values)


def accuracy_rows(name: Variant, results: Results, where: str) -> list[Row]:
    """Means and standard deviations of φ and σ."""
    ratios = sd_ratios(results)
    worst = ratios.ravel()[np.argmax(np.abs(np.log(ratios)))]
    each = [
        f"{parameter} {np.sqrt(np.mean(errors**2)):.2g}"
        for parameter, errors in zip("φσ", scaled_errors(results).T, strict=True)
    ]
    claims = (
        (
            "posterior means of φ and σ: error in posterior sd, rms over both and data sets",
            AtMost(RMS),
            "0",
            rms_estimate(scaled_errors(results)),
            ", ".join(each),
        ),
        (
            "posterior sd of φ and σ over the exact one: geometric mean over both and data sets",
            Between(*RATIO),
            "1",
            estimate(np.exp(np.log(ratios).mean(1))),
            "",
        ),
        (
            "the same: the ratio farthest from 1",
            Between(*RATIO),
            "1",
            Estimate(float(worst), kind="worst", values=tuple(ratios.ravel().tolist())),
            f"of {ratios.size}",
        ),
    )
    return [
        Row(Claim(f"{NAMES[name]}: {statement}", GRID, where, claimed, rule), measured, note)
        for statement, rule, claimed, measured, note in claims
    ]


# -- calibration ---------------------------------------------------------------------------------------


def calibration_claim(name: Variant) -> tuple[str, str, Rule]:
    """What is expected of a denoiser: words, source, rule."""
    if name in RIGHT:
        return "passes", EXACT, AtLeast(PASSES)
    return "fails by far", PREDICTED, AtMost(FAILS_BY_FAR)


def ranks_by_quantity(results: Results) -> dict[str, list[int]]:
    """Of all data sets."""
    chains = chains_of(results)
    return {name: [chain["ranks"][name] for chain in chains] for name in QUANTITIES}


def calibration_rows(name: Variant, results: Results, where: str, draws: int) -> list[Row]:
    """The test of uniform ranks; of errors of the noise level how far they move the posterior's mean."""
    p = all_log10_p(ranks_by_quantity(results), draws)
    if name in RIGHT or name in MISLED:
        words, source, rule = calibration_claim(name)
        statement = f"{NAMES[name]}: simulation-based calibration, log₁₀ of the smallest p-value"
        note = f"{len(QUANTITIES)} quantities, Bonferroni"
        return [Row(Claim(statement, source, where, words, rule), Estimate(p, kind="log10 p"), note)]
    errors = scaled_errors(chains_of(results))
    small = name == "rounded to 1000 times"
    claim = Claim(
        f"{NAMES[name]}: error of the posterior means of φ and σ in posterior sd, rms, one chain each",
        PREDICTED,
        where,
        "Monte Carlo error" if small else "beyond the Monte Carlo error",
        AtMost(0.3) if small else AtLeast(0.4),
    )
    shift = ", ".join(
        f"{parameter} {mean:+.2f}" for parameter, mean in zip("φσ", errors.mean(0), strict=True)
    )
    return [Row(claim, rms_estimate(errors), f"mean shift {shift}; calibration: log₁₀ p {p:.1f}")]


# -- images --------------------------------------------------------------------------------------------


def image_rows(name: Variant, results: Results, where: str) -> list[Row]:
    """PSNR of the posterior mean, and how many pixels intervals cover."""
    chains = chains_of(results)
    psnr = {key: np.array([chain["psnr"][key] for chain in chains]) for key in chains[0]["psnr"]}
    mean = {key: f"{values.mean():.2f}" for key, values in psnr.items()}
    gain = Claim(
        f"{NAMES[name]}: PSNR of the posterior mean minus that of y, dB, mean",
        PREDICTED,
        where,
        "above 1",
        AtLeast(1.0),
    )
    loss = Claim(
        f"{NAMES[name]}: PSNR of the blind posterior mean minus that of the Wiener filter told φ and σ, dB",
        f"{GRID}: what not knowing them costs",
        where,
        f"{np.mean(psnr['exact'] - psnr['wiener']):.3f}",
        Between(-0.3, 0.0),
    )
    rows = [
        Row(gain, mean_estimate(psnr["blind"] - psnr["y"]), f"y {mean['y']}, posterior mean {mean['blind']}"),
        Row(loss, mean_estimate(psnr["blind"] - psnr["wiener"]), f"Wiener filter {mean['wiener']}"),
    ]
    for key, mass in MASSES.items():
        claim = Claim(
            f"{NAMES[name]}: coverage of pixels' central {mass:.0%} intervals",
            "nominal",
            where,
            f"{mass:g}",
            Between(round(mass - 0.02, 2), round(mass + 0.02, 2)),
        )
        rows.append(Row(claim, mean_estimate(chain[key] for chain in chains)))
    return rows


# -- notes ---------------------------------------------------------------------------------------------


def notes(
    plan: GibbsDiffusionPlan,
    calibrations: Mapping[Variant, Results],
    accuracies: Mapping[Variant, Results],
) -> tuple[str, ...]:
    """Definitions, mixing, and what was trained."""
    times = np.array(
        [[t or math.inf for t in c["autocorrelation"]] for c in chains_of(calibrations["exact"])]
    )
    pooled = np.array([[t or math.inf for t in one["autocorrelation"]] for one in accuracies["exact"]])
    sweeps = plan.chains * plan.length.draws * plan.thin
    single = rms_estimate(scaled_errors(chains_of(calibrations["exact"])))
    mixing = ", ".join(
        f"{parameter} {np.median(column):.0f} (nine in ten below {np.quantile(column, 0.9):.0f},"
        f" {np.mean(column > plan.thin):.0%} above {plan.thin})"
        for parameter, column in zip("φσ", times.T, strict=True)
    )
    return (
        f"A field on {FIELD.side} × {FIELD.side} periodic pixels with spectrum |k|^−2, noise of spectrum"
        " |k|^φ scaled to standard deviation σ, φ ~ U[−1, 1], σ ~ U[0.04, 0.3]. The grid is 64 × 64"
        " Gauss-Legendre nodes: twice as many move no mean or sd by 10⁻³ sd.",
        "Calibration: φ, σ and the field are drawn from the prior. Ranked are φ, σ, log p(y | φ, σ) and one"
        f" pixel of x among draws of one chain; the test is χ² on {BINS} bins of ranks, and the smallest"
        f" p-value is multiplied by their number, {len(QUANTITIES)}. Passing is p ≥ 0.01.",
        "Integrated autocorrelation times of the exact denoiser's chains in sweeps, median over data sets:"
        f" {mixing}; ranked draws are {plan.thin} sweeps apart. The less noise, the slower: what y says of σ"
        " is little next to what y − x says. Effective draws of the exact denoiser's chains on a data set"
        f" that is held against its grid: at least {sweeps / pooled.max():,.0f}.",
        f"Reverse diffusion: {FINE} steps of the stochastic Heun method; coarse is {COARSE} ancestral steps,"
        " whose noise lacks what x varies given x_t. All other wrong denoisers are the exact one but for what"
        " it is told of y or σ; with the exact one the same chains have an rms error of"
        f" {single.value:.2f} sd. PSNR's peak is the range of the true field.",
        "The network's linear path can represent the mean of a Gaussian field exactly: that it does well here"
        " says that it was trained well, not that networks are exact.",
    )


GIBBS_DIFFUSION = Reproduction(
    name="gibbs-diffusion",
    title="Gibbs diffusion is calibrated with an exact or a finely discretized denoiser, and not otherwise",
    sources=(
        "Heurtel-Depeiges, Margossian, Ohana & Régaldo-Saint Blancard (2024), Listening to the noise: Blind"
        " denoising with Gibbs diffusion, ICML; arXiv 2402.19455",
        "Talts, Betancourt, Simpson, Vehtari & Gelman (2018), Validating Bayesian inference algorithms with"
        " simulation-based calibration; arXiv 1804.06788",
        "Säilynoja, Bürkner & Vehtari (2022), Graphical test for discrete uniformity and its applications in"
        " goodness-of-fit evaluation and multiple sample comparison, Statistics and Computing 32",
    ),
    default=GibbsDiffusionPlan(),
    full=GibbsDiffusionPlan(
        seeds=16,
        data_sets=32,
        chains=32,
        thin=40,
        network_lanes=32,
        network_chains=32,
        network_warmup=400,
        network_thin=20,
        training_steps=20_000,
    ),
    run=run,
)
