"""What one gradient costs: Stan alone, through every way of calling it, and inside samplers.

``python -m essper.benchmarks.speed.gradients [--json]``. CPU time of the whole process, not wall
time; medians of interleaved repetitions. Points and tuning come from a short NUTS run, so that
samplers and plain loops evaluate where it matters. With ``POSTERIORDB_PATH`` set, posteriordb's own
data sets take the place of the simulated ones.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from rich.console import Console
from rich.table import Table

from ...models import from_stan
from ...models.ffi.native import NativeOracle
from ...models.target import Density, Target
from ...posteriordb_adapter.database import PosteriorDatabase
from ...samplers.adaptation import Tuning
from ...samplers.base import Budget, Run
from ...samplers.hmc import HMC
from ...samplers.metrics import make_metric
from ...samplers.peers.blackjax import NUTS

POSTERIORS = {
    # built in: in posteriordb
    "eight_schools-eight_schools_noncentered": "eight_schools-eight_schools_noncentered",
    "simulated_nes-nes": "nes1972-nes",
    "simulated_garch-garch11": "garch-garch11",
    "simulated_gp-gp_regr": "gp_pois_regr-gp_regr",
    "simulated_hmm-hmm_example": "hmm_example-hmm_example",
    "simulated_hare_lynx-lotka_volterra": "hudson_lynx_hare-lotka_volterra",
}
REPETITIONS = 7
SECONDS = 0.15
"""CPU time that one measurement takes, about."""
POINTS = 64
BATCH = 16
TUNING_BUDGET = 20_000

Measure = Callable[[], float]
"""Runs once and returns CPU seconds per executed gradient."""


@dataclass(frozen=True)
class Row:
    """CPU microseconds per gradient, by way of calling; medians."""

    posterior: str
    dim: int
    raw: float
    """Stan alone, a tight loop in C"""
    ffi: float
    """one point at a time, inside one compiled loop"""
    batch: float
    """a batch by vmap, inside one compiled loop, on one thread"""
    callback: float
    """one point at a time, through Python"""
    hmc: float
    """HMC's sampling steps, one chain"""
    nuts: float
    """blackjax's NUTS's sampling steps, one chain"""

    def ratio(self, column: str) -> float:
        """A column over ``raw`` of the same run."""
        return getattr(self, column) / self.raw


WAYS = ("ffi", "batch", "callback", "hmc", "nuts")


def measure_posterior(name: str) -> Row:
    """All columns for one posterior of the database."""
    posterior = PosteriorDatabase().posterior(name)
    program, data = posterior.program_path(), posterior.data_text()
    target = from_stan(program, data, name=name, ffi="ffi", parallel=False)
    called_back = from_stan(program, data, name=name, ffi="callback")
    run = NUTS().run(jax.random.key(0), target, Budget(TUNING_BUDGET), chains=1)
    points = np.ascontiguousarray(run.draws[0, np.linspace(0, run.draws.shape[1] - 1, POINTS).astype(int)])

    oracle = target.counter
    assert isinstance(oracle, NativeOracle)
    seconds = oracle.time_gradients(points, 10)
    raw_repeats = max(1, round(SECONDS / (seconds * POINTS)))
    measures: dict[str, Measure] = {
        "raw": lambda: oracle.time_gradients(points, raw_repeats),
        "ffi": _loop(target, points[:, None], seconds + 0.3e-6),
        "batch": _loop(target, points.reshape(-1, BATCH, target.dim), seconds + 0.1e-6),
        "callback": _loop(called_back, points[:, None], seconds + 70e-6),
        **sampler_columns(target, run, points[0], seconds),
    }
    samples: dict[str, list[float]] = {column: [] for column in measures}
    for _ in range(REPETITIONS):
        for column, measure in measures.items():
            samples[column].append(1e6 * measure())
    return Row(name, target.dim, **{column: statistics.median(s) for column, s in samples.items()})


def sampler_columns(target: Target, run: Run, start: np.ndarray, seconds: float) -> dict[str, Measure]:
    """Sampling steps of HMC and NUTS at the step size and metric that ``run`` has found.

    ``seconds`` is about what one gradient takes.
    """
    metric = make_metric(jnp.asarray(run.tuning["inverse_mass_matrix"]))
    tuning = Tuning(jnp.asarray(run.tuning["step_size"]), metric)
    gradients_per_draw = float(np.mean(run.info.cost.gradients))
    draws = max(10, round(SECONDS / ((seconds + 0.5e-6) * gradients_per_draw)))

    def measure_of(sampler: HMC | NUTS) -> Measure:
        @jax.jit
        def sample(density: Density, tuning: Tuning, key: Array, position: Array) -> tuple[Array, Array]:
            kernel = sampler.kernel(density, tuning)
            state, _ = kernel.init(key, position)

            def body(state, key):
                state, info = kernel.step(key, state)
                return state, (kernel.position(state), info.acceptance)

            return lax.scan(body, state, jax.random.split(key, draws))[1]

        keys = iter(range(1 << 30))
        return _measure(target, lambda: sample(target.density, tuning, jax.random.key(next(keys)), start))

    return {"hmc": measure_of(HMC()), "nuts": measure_of(NUTS())}


def _loop(target: Target, batches: np.ndarray, seconds: float) -> Measure:
    """Gradients at ``f[k, batch, dim]``, over and over in one compiled loop."""
    size = batches.shape[1]
    steps = max(1, round(SECONDS / (seconds * size)))

    @jax.jit
    def loop(density: Density, batches: Array) -> Array:
        def body(i, total):
            x = batches[i % len(batches)]
            value, gradient = (
                jax.vmap(density.value_and_grad)(x) if size > 1 else density.value_and_grad(x[0])
            )
            return total + jnp.sum(value) + jnp.sum(gradient)

        return lax.fori_loop(0, steps, body, 0.0)

    points = jnp.asarray(batches)
    return _measure(target, lambda: loop(target.density, points))


def _measure(target: Target, run: Callable[[], object]) -> Measure:
    counter = target.counter
    assert counter is not None
    jax.block_until_ready(run())  # compiles

    def measure() -> float:
        before, start = counter.read().gradients, time.process_time()
        jax.block_until_ready(run())
        seconds = time.process_time() - start
        return seconds / (counter.read().gradients - before)

    return measure


def table(rows: list[Row]) -> Table:
    """Microseconds, and in brackets the ratio to Stan alone."""
    out = Table(title="CPU µs per gradient (ratio to raw)")
    out.add_column("posterior")
    out.add_column("dim", justify="right")
    headings = ("raw C", "FFI", f"FFI × {BATCH}", "callback", "in HMC", "in NUTS")
    for heading in headings:
        out.add_column(heading, justify="right")
    for row in rows:
        cells = (f"{getattr(row, way):.2f} ({row.ratio(way):.2f})" for way in WAYS)
        out.add_row(row.posterior, str(row.dim), f"{row.raw:.2f}", *cells)
    return out


def main() -> None:
    """Measures and prints; one posterior after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print records instead of a table")
    parser.add_argument("posteriors", nargs="*", help="names in the database; by default six of them")
    arguments = parser.parse_args()
    real_data = bool(os.environ.get("POSTERIORDB_PATH"))
    names = arguments.posteriors or list(POSTERIORS.values() if real_data else POSTERIORS)
    rows = [measure_posterior(name) for name in names]
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        Console(width=140).print(table(rows))


if __name__ == "__main__":
    main()
