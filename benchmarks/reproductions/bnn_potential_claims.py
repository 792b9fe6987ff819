"""What the literature says of Bayesian networks, as claims about the neural potential with their rules.

The rules were fixed before the samplers were compared. Most of the sources measured image classifiers: what
they found need not hold of a small regression, and a row says whether it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from ..estimates import CONFIDENCE, Estimate, estimate
from .framework import AtLeast, AtMost, Below, Between, Claim, Row, Rule, WithinFactor
from .predictive import LEVELS, REGIONS, distance

IZMAILOV = "Izmailov et al. (2021)"
WILSON = "Wilson & Izmailov (2020)"
WENZEL = "Wenzel et al. (2020)"
LAKSHMINARAYANAN = "Lakshminarayanan et al. (2017)"
COLD = 0.1
"""The temperature of cold posteriors."""
REFERENCE_COST = 5
"""How many times the others' gradients the reference may spend."""
INTEGRATORS = ("SGLD", "SGHMC")
ENSEMBLE, REFERENCE = "deep ensemble", "NUTS, reference"

type Found = Mapping[str, Sequence[Mapping[str, Any]]]
"""`prediction` by method, one a replicate."""


def named(name: str, temperature: float) -> str:
    """With its temperature, where that is not 1."""
    return name if temperature == 1 else f"{name}, T = {temperature:g}"


def counted(name: str, chains: int) -> str:
    """With its number of chains."""
    return f"{name}, {chains} chain{'s' if chains > 1 else ''}"


def rows_of(found: Found, several: int, gradients: int) -> tuple[Row, ...]:
    """Every claim with what came out.

    Parameters
    ----------
    several : chains of a method that has several, and members of the ensemble
    gradients : of each of these chains
    """
    sgld, sghmc = (counted(name, several) for name in INTEGRATORS)
    nuts = counted("NUTS", several)
    setting = f"{several} chains × {gradients:,} gradients"
    equal = f"{setting}, or one of {several * gradients:,}"
    rows = [
        *(
            Row(
                Claim(
                    f"{100 * level:g} % intervals {region}: coverage of the reference",
                    "the nominal level",
                    f"{REFERENCE}: {several} chains × {REFERENCE_COST * gradients:,} gradients",
                    f"{level:g}",
                    Between(level - margin, min(1.0, level + margin)),
                ),
                mean_estimate(one[region][f"coverage_{100 * level:.0f}"] for one in found[REFERENCE]),
            )
            for region, margins in (("inside", (0.1, 0.05)), ("outside", (0.2, 0.1)))
            for level, margin in zip(LEVELS, margins, strict=True)
        ),
        difference(
            found,
            (counted("NUTS", 1), nuts),
            "outside.coverage_90",
            f"{IZMAILOV}, abstract (2)",
            equal,
            "one long chain is comparable to several shorter ones",
            Between(-0.1, 0.1),
        ),
    ]
    for name, many in zip(INTEGRATORS, (sgld, sghmc), strict=True):
        one = counted(name, 1)
        rows += [
            difference(
                found,
                (many, one),
                "outside.coverage_90",
                f"{WILSON}, abstract",
                equal,
                "several basins cover more than one",
                AtLeast(0.0),
            ),
            nearer(found, many, one, f"{WILSON}, abstract", equal, "nearer to the posterior", Below(1.0)),
            difference(
                found,
                (many, ENSEMBLE),
                "outside.log_density",
                f"{WILSON}, abstract",
                setting,
                "marginalizing within basins improves on a deep ensemble",
                AtLeast(0.0),
            ),
        ]
        cold = counted(named(name, COLD), several)
        for source, claimed, rule in (
            (f"{WENZEL}, abstract", "cold posteriors predict better", AtLeast(0.0)),
            (f"{IZMAILOV}, abstract (3)", "tempering is not needed", AtMost(0.0)),
        ):
            rows.append(difference(found, (cold, many), "inside.log_density", source, setting, claimed, rule))
        rows.append(
            difference(
                found,
                (cold, many),
                "outside.coverage_90",
                "p^(1/T) has √T times the spread in a Gaussian approximation",
                setting,
                "a cold posterior covers less",
                Below(0.0),
            )
        )
    rows += [
        nearer(
            found,
            ENSEMBLE,
            sgld,
            f"{IZMAILOV}, abstract (6)",
            setting,
            "similarly close to HMC",
            WithinFactor(1.0, 1.5),
        ),
        difference(
            found,
            (ENSEMBLE, REFERENCE),
            "outside.coverage_90",
            f"{WILSON}, abstract: it does not marginalize within its basins",
            f"{several} members",
            "under-covers",
            Below(0.0),
        ),
        *(
            difference(
                found,
                (ENSEMBLE, sgld),
                f"{region}.log_density",
                f"{LAKSHMINARAYANAN}, abstract",
                f"{several} members",
                "as good as approximate Bayesian networks, or better",
                AtLeast(0.0),
            )
            for region in REGIONS
        ),
        quotient(
            [one["outside"]["spread"] / one["inside"]["spread"] for one in found[ENSEMBLE]],
            f"{ENSEMBLE}: spread outside over spread inside",
            f"{LAKSHMINARAYANAN}, §3.2, figure 1",
            f"{several} members",
            "grows away from the data",
            AtLeast(1.0),
            f"{np.mean([one['inside']['spread'] for one in found[ENSEMBLE]]):.2g} inside, where the"
            f" reference has {np.mean([one['inside']['spread'] for one in found[REFERENCE]]):.2g}",
        ),
        difference(
            found,
            (REFERENCE, ENSEMBLE),
            "inside.log_density",
            f"{IZMAILOV}, abstract (1)",
            "at all replicates",
            "gains over deep ensembles",
            AtLeast(0.0),
        ),
        quotient(
            [
                a["outside"]["rmse"] / b["outside"]["rmse"]
                for a, b in zip(found[REFERENCE], found[ENSEMBLE], strict=True)
            ],
            f"{REFERENCE} over {ENSEMBLE}: RMSE outside",
            f"{IZMAILOV}, abstract (5)",
            "at all replicates",
            "poor generalization under domain shift",
            AtLeast(1.0),
        ),
        _mixing(found, REFERENCE, f"{IZMAILOV}, §5"),
    ]
    return tuple(rows)


MEASURES = {
    "outside.coverage_90": "coverage of 90 % intervals outside",
    "inside.log_density": "log predictive density per energy inside",
    "outside.log_density": "log predictive density per energy outside",
}


def difference(
    found: Found,
    pair: tuple[str, str],
    measure: str,
    source: str,
    setting: str,
    figure: str,
    rule: Rule,
) -> Row:
    """One method's figure minus another's, replicate by replicate: they have the same data."""
    region, name = measure.split(".")
    sides = [[result[region][name] for result in found[method]] for method in pair]
    values = [a - b for a, b in zip(*sides, strict=True)]
    statement = f"{pair[0]} minus {pair[1]}: {MEASURES[measure]}"
    note = " and ".join(f"{np.mean(side):.3g}" for side in sides)
    return Row(Claim(statement, source, setting, figure, rule), mean_estimate(values), f"means {note}")


def nearer(found: Found, one: str, other: str, source: str, setting: str, figure: str, rule: Rule) -> Row:
    """One method's distance from the reference over another's, outside."""
    distances = [
        [
            distance(result, exact, "outside")
            for result, exact in zip(found[name], found[REFERENCE], strict=True)
        ]
        for name in (one, other)
    ]
    statement = f"{one} over {other}: W1 to the reference's curves outside"
    return quotient(
        [a / b for a, b in zip(*distances, strict=True)], statement, source, setting, figure, rule
    )


def quotient(
    values: Sequence[float],
    statement: str,
    source: str,
    setting: str,
    figure: str,
    rule: Rule,
    note: str = "",
) -> Row:
    """A ratio, its geometric mean over replicates."""
    return Row(Claim(statement, source, setting, figure, rule), estimate(values), note)


def _mixing(found: Found, name: str, source: str) -> Row:
    """R-hat of predictions minus that of weights; undefined where either is."""
    pairs = [((one["inside"]["rhat"], one["outside"]["rhat"]), one["rhat_weights"]) for one in found[name]]
    values = [
        max(functions) - weights
        for functions, weights in pairs
        if weights is not None and None not in functions
    ]
    claim = Claim(
        f"{name}: median R-hat of predictions (the larger region's) minus that of weights",
        source,
        "at all replicates",
        "chains mix better in functions than in weights",
        Below(0.0),
    )
    return Row(claim, mean_estimate(values))


def mean_estimate(values: Iterable[float]) -> Estimate:
    """The mean over replicates with its Student-t interval; none of a single replicate."""
    x = np.array(list(values), float)
    if not x.size:
        return Estimate(kind="arithmetic")
    middle, replicates = float(x.mean()), tuple(x.tolist())
    if x.size == 1:
        return Estimate(middle, kind="arithmetic", values=replicates)
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, x.size - 1) * x.std(ddof=1) / np.sqrt(x.size))
    return Estimate(middle, middle - reach, middle + reach, "arithmetic", replicates)
