"""What each way of running chains together costs, beside stanli's native NUTS.

``python -m essper.benchmarks.speed.execution [--json] [--chains N] [--repetitions N] [POSTERIOR …]``.
Every sampler runs in every layout that it can run in, with the gradients that the native sampler
spends on its 1000 warmup and 1000 sampling iterations. CPU time of the whole process without
compilation; ratios to the native sampler's run of the same repetition; medians over interleaved
repetitions with different seeds. With ``POSTERIORDB_PATH`` set, posteriordb's own data sets take
the place of the simulated ones.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np
import stanli
from rich import box
from rich.console import Console
from rich.table import Table

from ...models import from_stan
from ...models.ffi.native import NativeOracle
from ...models.target import Target
from ...posteriordb_adapter.database import PosteriorDatabase
from ...samplers import HMC, NUTS, Budget, DelayedRejectionGeneralizedHMC, DelayedRejectionHMC
from ...samplers.layouts import Layout
from .. import metrics
from .gradients import POSTERIORS as ALL_POSTERIORS
from .gradients import SECONDS

POSTERIORS = {name: real for name, real in ALL_POSTERIORS.items() if "lotka" not in name}
SAMPLERS = {
    "hmc": HMC(),
    "drhmc": DelayedRejectionHMC(),
    "drghmc": DelayedRejectionGeneralizedHMC(),
    "nuts": NUTS(),
}
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "hmc": ("lockstep", "masked", "independent"),
    "drhmc": ("masked", "independent"),
    "drghmc": ("masked", "independent"),
    "nuts": ("lockstep", "independent"),
}
COMPILING = Budget(2_000)
"""For a run that only compiles."""


class Spent(NamedTuple):
    """One run: seconds, gradients of all chains, smallest bulk ESS."""

    cpu: float
    cpu_sampling: float
    wall: float
    gradients: float
    executed: float
    ess: float


@dataclass(frozen=True)
class Row:
    """One sampler in one layout; medians over the repetitions."""

    posterior: str
    dim: int
    chains: int
    raw: float
    """CPU µs of one gradient by Stan alone"""
    sampler: str
    layout: str
    executed: float
    """gradients executed over gradients reported"""
    cost: float
    """CPU time per gradient reported over ``raw``"""
    ess_gradient: float
    """ESS per gradient over the native sampler's, warmup included"""
    ess_cpu: float
    """ESS per CPU second over the native sampler's, warmup included"""
    ess_cpu_sampling: float
    """the same of sampling alone"""
    ess_wall: float
    """ESS per second of a clock over the native sampler's, warmup included"""


def native(model: stanli.Model, target: Target, chains: int, seed: int) -> Spent:
    """A run of stanli's NUTS with its own defaults."""

    def sample(**options: Any) -> tuple[Any, float, float]:
        cpu, wall = time.process_time(), time.perf_counter()
        fit = model.sample(chains=chains, seed=seed, refresh=0, save_warmup=True, **options)
        return fit, time.process_time() - cpu, time.perf_counter() - wall

    _, warmup, _ = sample(samples=0)
    fit, cpu, wall = sample()
    draws = np.stack([fit.draws(name)[:, -1000:] for name in target.param_names], axis=-1)
    gradients = float(fit["n_leapfrog__"].sum())
    return Spent(cpu, max(cpu - warmup, 1e-9), wall, gradients, gradients, smallest_ess(target, draws))


def measured(sampler: Any, target: Target, chains: int, budget: Budget, seed: int) -> Spent:
    """A run of one of ours, its programs compiled before."""
    assert target.counter is not None
    warmed_up = [0.0]

    def progress(phase: str, gradients: int, draws: int) -> None:
        if phase == "warmup":
            warmed_up[0] = time.process_time()

    cpu, wall = time.process_time(), time.perf_counter()
    run = sampler.run(jax.random.key(seed), target, budget, chains=chains, progress=progress)
    draws = run.constrained()
    end, wall = time.process_time(), time.perf_counter() - wall
    assert run.executed is not None
    reported = float((run.warmup.gradients + run.sampling.gradients).sum())
    ess = smallest_ess(target, draws)
    return Spent(end - cpu, end - warmed_up[0], wall, reported, run.executed.gradients, ess)


def smallest_ess(target: Target, draws: np.ndarray) -> float:
    """The smallest bulk ESS over the constrained quantities that vary."""
    return float(metrics.efficiency(draws[:, :, metrics.varying(draws, target.param_names)]).ess_bulk.min())


def measure_posterior(name: str, chains: int, repetitions: int) -> list[Row]:
    """All samplers in all layouts on one posterior of the database."""
    posterior = PosteriorDatabase().posterior(name)
    target = from_stan(posterior.program_path(), posterior.data_text(), name=name, ffi="ffi")
    model = stanli.Model(stan_file=str(posterior.program_path()), data=posterior.data_text())
    first = native(model, target, chains, 1)
    budget = Budget(round(first.gradients / chains))
    ways = [
        (key, layout, replace(SAMPLERS[key], execution=layout)) for key in SAMPLERS for layout in LAYOUTS[key]
    ]
    compiled = [s.run(jax.random.key(0), target, COMPILING, chains=chains) for _, _, s in ways]
    raw = _raw(target, compiled[-1].draws[0])

    spent: list[dict[tuple[str, str], tuple[Spent, Spent]]] = []
    for seed in range(1, repetitions + 1):
        yardstick = native(model, target, chains, seed)
        runs = {(key, way): measured(s, target, chains, budget, seed) for key, way, s in ways}
        spent.append({key: (mine, yardstick) for key, mine in runs.items()})

    def row(key: str, layout: str) -> Row:
        pairs = [found[key, layout] for found in spent]

        def over(cost: Callable[[Spent], float]) -> float:
            return statistics.median((a.ess / cost(a)) / (b.ess / cost(b)) for a, b in pairs)

        return Row(
            posterior=name,
            dim=target.dim,
            chains=chains,
            raw=1e6 * raw,
            sampler=key,
            layout=layout,
            executed=statistics.median(a.executed / a.gradients for a, _ in pairs),
            cost=statistics.median(a.cpu / a.gradients for a, _ in pairs) / raw,
            ess_gradient=over(lambda x: x.gradients),
            ess_cpu=over(lambda x: x.cpu),
            ess_cpu_sampling=over(lambda x: x.cpu_sampling),
            ess_wall=over(lambda x: x.wall),
        )

    return [row(key, layout) for key, layout, _ in ways]


def _raw(target: Target, points: np.ndarray) -> float:
    """CPU seconds of a gradient by Stan alone, at draws; the median of five."""
    oracle = target.counter
    assert isinstance(oracle, NativeOracle)
    points = np.ascontiguousarray(points[:64])
    once = oracle.time_gradients(points, 10)
    repeats = max(1, round(SECONDS / 3 / (once * len(points))))
    return statistics.median(oracle.time_gradients(points, repeats) for _ in range(5))


FIGURES = {
    "executed": "gradients executed over gradients reported",
    "cost": "CPU time per gradient reported over raw C",
    "ess_gradient": "ESS per gradient over stanli's NUTS, warmup included",
    "ess_cpu": "ESS per CPU second over stanli's NUTS, warmup included",
    "ess_cpu_sampling": "ESS per CPU second over stanli's NUTS, sampling alone",
    "ess_wall": "ESS per second of a clock over stanli's NUTS, warmup included",
}
"""The printed fields of `Row`."""


def tables(rows: Sequence[Row]) -> Iterator[Table]:
    """A table for each figure: samplers and layouts down, posteriors across."""
    raw = {row.posterior: row.raw for row in rows}
    found = {(row.sampler, row.layout, row.posterior): row for row in rows}
    for name, title in FIGURES.items():
        out = Table(title=title, box=box.MARKDOWN)
        out.add_column("sampler")
        out.add_column("layout")
        for posterior, microseconds in raw.items():
            out.add_column(f"{posterior.partition('-')[2]} ({microseconds:.1f} µs)", justify="right")
        for sampler, layout in dict.fromkeys((row.sampler, row.layout) for row in rows):
            figures = (getattr(found[sampler, layout, posterior], name) for posterior in raw)
            out.add_row(sampler, layout, *(f"{figure:.2f}" for figure in figures))
        yield out


def main() -> None:
    """Measures and prints; one posterior after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print records instead of tables")
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("posteriors", nargs="*", help="names in the database; by default five of them")
    arguments = parser.parse_args()
    real_data = bool(os.environ.get("POSTERIORDB_PATH"))
    names = arguments.posteriors or list(POSTERIORS.values() if real_data else POSTERIORS)
    rows: list[Row] = []
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)  # compiling takes its time
        rows += measure_posterior(name, arguments.chains, arguments.repetitions)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        Console(width=160).print(*tables(rows), sep="\n")


if __name__ == "__main__":
    main()
