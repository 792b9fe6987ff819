"""What a report's figures mean: the text that stands beside them in every format."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..distances import PROJECTIONS, STEIN_DRAWS
from ..gates import FAMILY_WISE_LEVEL, MAX_RHAT, MIN_BULK_ESS_PER_CHAIN
from ..importance import MAX_KHAT
from ..variational import REPAIR

METRICS = {
    "ess_bulk": "effective draws over all chains, bulk",
    "ess_tail": "effective draws over all chains, tail",
    "ess_mean": "effective draws for the mean of x",
    "ess_square": "effective draws for the mean of x²",
    "ess_bulk_per_gradient": "bulk ESS per gradient of the sampling phase",
    "ess_bulk_per_gradient_with_warmup": "bulk ESS per gradient of warmup and sampling",
    "ess_square_per_gradient": "ESS of x² per gradient of the sampling phase",
    "ess_tail_per_gradient": "tail ESS per gradient of the sampling phase",
    "ess_bulk_per_second": "bulk ESS per second of the sampling phase",
    "ess_bulk_per_density": "bulk ESS per evaluation of the density, where sampling takes nothing else",
    "ess_bulk_per_evaluation": "bulk ESS per gradient, density or conditional draw of the sampling phase",
    "ess_bulk_per_evaluation_with_warmup": "the same over warmup and sampling",
}
ERRORS = {
    "b2_final.mean": "b² of x at the end, averaged over parameters",
    "b2_final.square": "b² of x² at the end, averaged over parameters",
    "w1.average": "W₁ of the marginals in the reference's sd, averaged over parameters",
    "w1.maximum": "the same, largest over parameters",
    "sliced_w1": "sliced W₁ of the standardized parameters",
    "ksd": "kernel Stein discrepancy, 0 where its square is estimated as negative",
    "mean_error.average": "|mean − reference mean| in the reference's sd, averaged over parameters",
    "mean_error.maximum": "the same, largest over parameters",
    "sd_error.average": "|log(sd / reference sd)|, averaged over parameters",
    "sd_error.maximum": "the same, largest over parameters",
    "sd_ratio": "sd over reference sd, geometric mean over parameters",
    "quantile_error.average": "|error| of the 5, 50 and 95 % quantiles in the reference's sd, averaged",
    "quantile_error.maximum": "the same, largest over quantiles and parameters",
    "coverage_50": "share of reference draws inside the central 50 % interval, averaged over parameters",
    "coverage_50.minimum": "the same, smallest over parameters",
    "coverage_90": "share of reference draws inside the central 90 % interval, averaged over parameters",
    "coverage_90.minimum": "the same, smallest over parameters",
    "w1_resampled.average": "w1.average of a variational fit's draws as importance weights count them",
    "w1_resampled.maximum": "w1.maximum of the same",
}
_DEFINITIONS = (
    (
        "Cell and group",
        "A cell is one run: sampler configuration, posterior, seed, budget (evaluations per chain, "
        "warmup included), chains, backend, precision, platform, source of the Stan model. A group is the "
        "cells that differ in nothing but the seed. Seeds are the replicates of every interval.",
    ),
    (
        "Gates",
        f"Fixed before any run. not converged: rank-normalised split R-hat ≥ {MAX_RHAT}, or bulk ESS "
        f"below {MIN_BULK_ESS_PER_CHAIN} per chain, for some parameter. biased: some |z| against the "
        "reference draws at its threshold or above. unverified: converged, but without reference draws to "
        "hold it against. failed: the run raised an error. ok: none of these. Only groups whose cells "
        "are all ok are ranked on efficiency; the others are shown, unranked.",
    ),
    (
        "Approximate samplers",
        "Samplers that say of themselves that their draws are of another distribution than the posterior "
        "(stochastic-gradient methods with a fixed step size, variational fits). They are ranked on error, "
        "never on efficiency, and take part in no ratio, whatever the gates found: effective draws of "
        "another distribution, however many and however cheap, come no nearer to the posterior. ESS and "
        "R-hat are kept as diagnostics of the chains; ESS per gradient and per second are left out (“–”).",
    ),
    (
        "Gradients",
        "Evaluations of the gradient on all data. A method that evaluates gradients of single data rows is "
        "charged gradients + datum gradients / n with n the number of rows, in budgets, curves and tables; "
        "cells show the datum gradients themselves, too.",
    ),
    (
        "R-hat",
        "The largest over parameters of the rank-normalised split R-hat: the larger of its bulk and "
        "its folded (tail) version (Vehtari, Gelman, Simpson, Carpenter and Bürkner, 2021, Bayesian "
        "Analysis 16, 667–718).",
    ),
    (
        "ESS, bulk and tail",
        "Effective draws over all chains, by Geyer's initial monotone sequence on split chains "
        "(Vehtari et al., 2021). Bulk: of the rank-normalised draws. Tail: the smaller of the 5 % and "
        "95 % quantiles' ESS. A stuck or constant chain has ESS 0. Tables show the minimum over "
        "parameters; the data files add the median.",
    ),
    (
        "ESS of x²",
        "The ESS of the squared parameter: what the second moment, and so the spread, is worth.",
    ),
    (
        "ESS per gradient",
        "ESS over the gradient evaluations of all chains in the sampling phase; “with warmup”: over "
        "those of both phases. Gradients are counted, never estimated. Samplers that sample without "
        "gradients have none (“–”, not infinity), and neither have those that take other evaluations "
        "besides, which it would leave out: see the axis.",
    ),
    (
        "Axis",
        "What a sampler's draws cost: gradients, densities (evaluations of the density alone), conditional "
        "draws (exact draws of a block), or evaluations: several of these, each counted as one. ESS per "
        "evaluation is there for all rows; what kinds cost in seconds differs, and ESS per second says how "
        "much. Budgets count evaluations of every kind.",
    ),
    (
        "ESS per second",
        "ESS over the wall-clock seconds of the sampling phase; compilation is timed apart.",
    ),
    (
        "Audit",
        "“Executed” is what the density counted for itself. It equals what the sampler reports unless "
        "chains run in lockstep with steps of different lengths; any difference is highlighted.",
    ),
    (
        "Bias z",
        "z = (estimate − reference) / √(MCSE² + MCSE_reference²), for the mean, the standard "
        "deviation and the 5, 50 and 95 % quantiles of every parameter: the noise of both sides is in "
        "the denominator. The threshold on the largest |z| is Bonferroni's: a correct cell is called "
        f"biased with probability {FAMILY_WISE_LEVEL} over all of its comparisons together.",
    ),
    (
        "b²",
        "Squared bias over reference variance (Hoffman and Sountsov, 2022, AISTATS): (mean of all "
        "chains' draws so far − reference mean)² / reference variance, for x and for x², averaged over "
        "parameters or at its maximum, against gradients (on other axes: evaluations) per chain with warmup "
        "included. Curves are "
        "medians over seeds, interpolated in log gradients, with the seeds' range shaded. A sampler that has "
        "paid for all of its draws before the first one (a variational fit) is a single point. Below the "
        "reference's own noise (dashed) curves cannot be told apart; there, ranks on error tie.",
    ),
    (
        "Rank on error",
        "By the largest W₁ of a parameter, for all groups that have it, within the posterior at equal budget "
        "and chains. Unlike b² it sees a spread that is not right, and chains that stay in a mode. "
        "In each column “best” marks the smallest error; errors below their noise are equal.",
    ),
    (
        "W₁",
        "Wasserstein-1 distance between the draws of all chains and the reference draws, parameter by "
        "parameter, in standard deviations of the reference: W₁ = ∫|F⁻¹(u) − G⁻¹(u)| du of the empirical "
        "distributions. The largest over parameters is shown. In parentheses: the same between two "
        "halves of the reference (by chain), which is what noise alone makes; the halves being smaller than "
        "the whole, it is not too small.",
    ),
    (
        "Sliced W₁",
        f"The mean W₁ over {PROJECTIONS} projections on directions uniform on the sphere (the same for all "
        "runs), of all compared parameters standardized by the reference's mean and standard deviation. In "
        "parentheses: between two halves of the reference.",
    ),
    (
        "KSD",
        "Kernel Stein discrepancy (Gorham and Mackey, 2017, ICML) with the inverse multiquadric kernel "
        "(1 + r²)^(−1/2) on the unconstrained scale, whitened by the reference's covariance there. KSD² is "
        f"the U-statistic over at most {STEIN_DRAWS} draws, thinned evenly: its mean is 0 for exact draws; "
        "KSD is its root, 0 where it is negative. In parentheses: the root of one standard deviation of KSD² "
        "for as many independent exact draws. Its gradients are no cost of the run.",
    ),
    (
        "Errors of means, sds and quantiles",
        "Of all chains' draws together against the reference draws: differences of means and of the 5, 50 "
        "and 95 % quantiles in standard deviations of the reference, and log(sd / reference sd); the largest "
        "over parameters. In parentheses: the same between two halves of the reference. “sd ratio, mean”: "
        "geometric mean over parameters; below 1, draws are too narrow.",
    ),
    (
        "Coverage",
        "The share of the reference draws that lie inside the central 50 or 90 % interval of the draws, "
        "averaged over parameters, and for 90 % the least over parameters. 0.5 and 0.9 are right. Means over "
        "seeds.",
    ),
    (
        "ELBO",
        "Of a variational fit q: the mean of log p − log q over its draws, p being the target's density on "
        "the unconstrained scale, up to a constant. On one posterior larger is better. Fits are averaged "
        "over chains and seeds; in brackets the smallest and the largest. Fits that converged ended by their "
        "own rule, not with their budget; R-hat between them says whether they ended in the same place.",
    ),
    (
        "k-hat",
        "The shape of the generalized Pareto distribution that the largest importance weights p/q follow "
        "(Vehtari, Simpson, Gelman, Yao and Gabry, 2024, JMLR 25(72); as a diagnostic of variational fits "
        "Yao, Vehtari, Simpson and Gelman, 2018, ICML). Every chain is a fit with weights of its own; the "
        "largest k-hat over fits is shown. Weights of S draws are usable up to "
        f"min(1 − 1/log10(S), {MAX_KHAT:g}).",
    ),
    (
        "Weighted draws",
        "Draws of every fit with their Pareto-smoothed importance weights, normalized within the fit; fits "
        "count the same. Importance resampling draws from just these. A note says where that repairs a fit: "
        "k-hat usable in every fit, and the largest W₁, above its noise as it is, falls to at most "
        f"{REPAIR:.0%} of it or to the noise. It says where k-hat is above the limit, too.",
    ),
    (
        "Gradients to b²",
        "Gradients (or evaluations, by axis) per chain, warmup included, from which on the largest b² over "
        "parameters stays below the threshold, for x and for x². The geometric mean over seeds is given "
        "only where every seed got there.",
    ),
    (
        "Intervals",
        "Geometric mean over seeds with a Student-t interval on the logarithms. One seed has no "
        "interval. Where a seed has 0, the arithmetic mean is shown instead, starred, without "
        "interval.",
    ),
    (
        "Ratio to the baseline",
        "Ratio of geometric means with Welch's interval on the difference of mean logarithms. "
        "Unpaired: samplers that share a seed share no randomness. In parentheses: one of the two is "
        "not ok. Over posteriors: the geometric mean of the ratios where both are ok, its interval "
        "over posteriors.",
    ),
)


def metric_title(metric: str) -> str:
    """A metric such as "ess_bulk_per_gradient.min" in words."""
    name, _, over = metric.partition(".")
    return f"{'Minimum' if over == 'min' else 'Median'} over parameters of {METRICS[name]}"


def definitions(comparison: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Terms and their definitions, with the thresholds that these very records were held to."""
    biases = [record["bias"] for record in records if record.get("bias")]
    z = sorted({bias["threshold"] for bias in biases if bias["comparisons"]})
    b2 = sorted(
        {record["gradients_to_b2"]["threshold"] for record in records if record.get("gradients_to_b2")}
    )
    ranked_on = metric_title(comparison["rank_metric"])
    here = {
        "Bias z": f" Here: {_span(z)}." if z else " Here no cell had a reference.",
        "Gradients to b²": f" Here: {_span(b2)}." if b2 else "",
        "Intervals": f" Here: {100 * comparison['confidence']:g} %.",
        "Ratio to the baseline": f" Here: {comparison['baseline']}. {ranked_on}.",
    }
    return [(term, text + here.get(term, "")) for term, text in _DEFINITIONS]


def _span(values: Sequence[float]) -> str:
    low, high = f"{values[0]:.3g}", f"{values[-1]:.3g}"
    return f"threshold {low}" if low == high else f"thresholds from {low} to {high}"
