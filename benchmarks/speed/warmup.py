"""What warmup is worth: ESS per gradient, warmup included, of ways to adapt over Stan's way.

``python -m essper.benchmarks.speed.warmup [--samplers nuts hmc] [--budget N] [--seeds N] [POSTERIOR …]``.
The figure is the smallest bulk ESS over the parameters per 1000 gradients of all chains, warmup
included; a ratio has a 95 % interval over seeds (Welch, on logarithms) and their geometric mean over
posteriors one over posteriors. Runs that have not converged (R-hat) are marked and left out of the mean.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from ...models.target import Target
from ...posteriordb_adapter.database import PosteriorDatabase
from ...samplers.base import Budget
from ..defaults import DEFAULT_CHAINS, DEFAULT_POSTERIORS
from ..estimates import Estimate, estimate, ratio
from ..gates import MAX_RHAT
from ..metrics import efficiency
from ..specs import parse_spec

STAN = "num_warmup=1000,schedule=stan,estimator=variance"
QUARTER = "rule=fixed,jitter=0.2"
"""π/2 in the units of the metric, with the little jitter that such a trajectory needs."""
WAYS = {
    "nuts": {"Stan's": STAN, "overlapping variance": "estimator=variance", "Fisher": "estimator=fisher"},
    "hmc": {
        "Stan's": f"{STAN},{QUARTER}",
        "Fisher, fixed": QUARTER,
        "Fisher, scale": "rule=scale",
        "Fisher, nuts": "rule=nuts",
    },
}
WAYS["drhmc"] = WAYS["hmc"]
"""Options of each way, the first being what the others are divided by."""
BUDGET = 30_000
SEEDS = 3


@dataclass(frozen=True)
class Row:
    """One way of adapting on one posterior."""

    posterior: str
    sampler: str
    way: str
    efficiency: Estimate
    """ESS per 1000 gradients."""
    ratio: Estimate
    """Over the first way."""
    converged: bool
    """R-hat below the gate's limit with every seed; for a ratio to count both ways must be."""
    acceptance: float
    warmup: float
    """Part of the budget."""


def measure(target: Target, sampler: str, budget: int, seeds: int) -> list[Row]:
    """All ways of one sampler on one posterior."""
    rows: list[Row] = []
    for way, options in WAYS[sampler].items():
        spec = parse_spec(f"{sampler}[{options}]")
        values, acceptances, spent, rhats = [], [], [], []
        for seed in range(seeds):
            run = spec.sampler.run(jax.random.key(seed), target, Budget(budget), chains=DEFAULT_CHAINS)
            figures = efficiency(run.constrained())
            cost = np.sum(run.warmup.gradients) + np.sum(run.sampling.gradients)
            constant = np.ptp(run.constrained(), axis=(0, 1)) == 0  # by definition
            values.append(1000 * float(figures.ess_bulk[~constant].min() / cost))
            rhats.append(float(figures.rhat[~constant].max()))
            acceptances.append(float(run.info.acceptance.mean()))
            spent.append(float(np.mean(run.warmup.gradients)) / budget)
        found = estimate(values)
        against = ratio(found, rows[0].efficiency if rows else found)
        converged = bool(np.all(np.array(rhats) < MAX_RHAT))
        mean = float(np.mean(acceptances)), float(np.mean(spent))
        rows.append(Row(target.name, sampler, way, found, against, converged, *mean))
    return rows


def overall(rows: Sequence[Row], sampler: str, way: str) -> tuple[Estimate, int]:
    """The geometric mean of a way's ratios over the posteriors where it and the first way converged."""
    first = {
        row.posterior for row in rows if row.sampler == sampler and row.converged and _is_first(sampler, row)
    }
    counted = [
        row.ratio.value
        for row in rows
        if (row.sampler, row.way) == (sampler, way) and row.converged and row.posterior in first
    ]
    return estimate(counted), len(counted)


def _is_first(sampler: str, row: Row) -> bool:
    return row.way == next(iter(WAYS[sampler]))


def table(rows: Sequence[Row], sampler: str, budget: int) -> Table:
    """ESS per 1000 gradients and ratios of one sampler, a row for each posterior."""
    out = Table(title=f"{sampler}: min bulk ESS per 1000 gradients, warmup included; budget {budget}")
    out.add_column("posterior")
    for way in WAYS[sampler]:
        out.add_column(way, justify="right")
    mine = [row for row in rows if row.sampler == sampler]
    for posterior in dict.fromkeys(row.posterior for row in mine):
        out.add_row(posterior, *(_cell(row) for row in mine if row.posterior == posterior))
    out.add_section()
    means = [overall(rows, sampler, way) for way in WAYS[sampler]]
    out.add_row("geometric mean of ratios", *(f"{_ratio(mean)}  ({count})" for mean, count in means))
    return out


def _cell(row: Row) -> str:
    mark = "" if row.converged else "  not converged"
    first = _is_first(row.sampler, row)
    relative = "" if first else f"  {_ratio(row.ratio)}"
    return f"{row.efficiency.value or 0:.3g}{relative}  a {row.acceptance:.2f}  w {row.warmup:.2f}{mark}"


def _ratio(found: Estimate) -> str:
    if found.value is None:
        return "–"
    interval = "" if found.low is None or found.high is None else f" [{found.low:.2f}, {found.high:.2f}]"
    return f"× {found.value:.2f}{interval}"


def main() -> None:
    """Measures and prints; one posterior after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samplers", nargs="+", choices=list(WAYS), default=["nuts", "hmc"])
    parser.add_argument("--budget", type=int, default=BUDGET, help="gradients per chain")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--json", action="store_true", help="print records instead of tables")
    parser.add_argument("posteriors", nargs="*", help="names in the database; by default those of compare")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for name in arguments.posteriors or DEFAULT_POSTERIORS:
        target = PosteriorDatabase().posterior(name).target()
        for sampler in arguments.samplers:
            rows += measure(target, sampler, arguments.budget, arguments.seeds)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        for sampler in arguments.samplers:
            Console(width=200).print(table(rows, sampler, arguments.budget))


if __name__ == "__main__":
    main()
