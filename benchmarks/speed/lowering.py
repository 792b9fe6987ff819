"""What lowering a Stan program to JAX is worth: set-up, and gradients of many chains at once.

``python -m essper.benchmarks.speed.lowering [--json] [--chains N …] [--precision P …] [POSTERIOR …]``.

On a CPU: seconds to read, trace and compile a program, and what a gradient of a batch of chains costs by
the lowered density (the batch whole, in the chunks of the rule, in tuned chunks) and by BridgeStan through
the FFI (the batch by vmap, as samplers call it, and one chain after the other). Ways are measured in turns;
ratios are of one round, medians over the rounds. Time of a clock decides, on all cores; CPU time of the
process is printed beside it.

On an accelerator: gradients a second against the number of chains, in float64 and float32, next to
BridgeStan on all cores of the same machine.

Without names: 18 of posteriordb's with ``POSTERIORDB_PATH`` set, else those built in, ODEs left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from rich import box
from rich.console import Console
from rich.table import Table

from ...models import from_stan
from ...models.chunk_tuning import tuned_chunk
from ...models.chunks import chunked, default_chunk
from ...models.stan_source import read_data, read_program
from ...models.stan_to_jax import Lowered, lower
from ...models.stan_to_jax.model import Precision
from ...models.target import Density
from ...posteriordb_adapter.database import PosteriorDatabase
from ...posteriordb_adapter.posterior import Posterior

POSTERIORDB = (
    "eight_schools-eight_schools_noncentered",
    "nes1972-nes",
    "kidiq-kidscore_momiq",
    "earnings-earn_height",
    "sblri-blr",
    "diamonds-diamonds",
    "wells_data-wells_dist",
    "GLM_Binomial_data-GLM_Binomial_model",
    "prostate-logistic_regression_rhs",
    "radon_mn-radon_hierarchical_intercept_noncentered",
    "irt_2pl-irt_2pl",
    "dogs-dogs",
    "low_dim_gauss_mix-low_dim_gauss_mix",
    "arK-arK",
    "arma-arma11",
    "garch-garch11",
    "gp_pois_regr-gp_regr",
    "hmm_example-hmm_example",
)
"""Measured by default where posteriordb is at hand."""
PRECISIONS: tuple[Precision, ...] = ("float64", "float32")
CHAINS = 1024
ACCELERATOR_CHAINS = (1, 16, 256, 1024, 4096, 16384, 65536)
REPETITIONS = 7
SECONDS = 0.2
"""What one measurement takes, about."""


class Seconds(NamedTuple):
    """Per gradient."""

    wall: float
    cpu: float


Measure = Callable[[], Seconds]


# -- set-up ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setup:
    """Seconds until a program is ready to evaluate a batch."""

    read: float
    """text and data to a `Lowered`, transformed data included"""
    trace: float
    """value and gradient to a jaxpr"""
    compile: float
    """of the batch, in the chunks of the rule"""


def set_up(posterior: Posterior, chains: int, precision: Precision) -> tuple[Setup, Lowered, Array]:
    """A posterior lowered, what that took, and points of finite density, ``f[chains, dim]``."""
    lower(read_program("parameters { real x; } model { x ~ normal(0, 1); }", "warm_up"), {})
    start = time.perf_counter()
    source = read_program(posterior.program_path(), posterior.name)
    lowered = lower(source, read_data(posterior.data_text(), posterior.name), precision=precision)
    read = time.perf_counter()
    log_density = jax.jit(lowered.log_density)
    jax.make_jaxpr(jax.value_and_grad(log_density))(jnp.zeros(lowered.dim))
    traced = time.perf_counter()
    density = chunked(log_density, default_chunk(log_density, lowered.dim))
    batch = jnp.zeros((chains, lowered.dim))
    jax.jit(jax.vmap(density.fused, (None, 0))).lower((), batch).compile()
    compiled = time.perf_counter()
    setup = Setup(read - start, traced - read, compiled - traced)
    return setup, lowered, _points(density, chains, lowered.dim)


def _points(density: Density, n: int, dim: int) -> Array:
    """Points of finite density, drawn from N(0, 1/4) and halved where there is none: ``f[n, dim]``."""
    points = jax.random.normal(jax.random.key(0), (n, dim)) / 2
    evaluate = jax.jit(jax.vmap(density.value_and_grad))
    for _ in range(20):
        finite = jnp.isfinite(evaluate(points)[0])
        if finite.all():
            return points
        points = jnp.where(finite[:, None], points, points / 2)
    raise ValueError("no points of finite density were found near 0: nothing can be measured")


# -- measuring ------------------------------------------------------------------------------------

Evaluate = Callable[[Density, Array], tuple[Array, Array]]


def together(density: Density, points: Array) -> tuple[Array, Array]:
    """All chains by ``vmap``."""
    return jax.vmap(density.value_and_grad)(points)


def one_by_one(density: Density, points: Array) -> tuple[Array, Array]:
    """One chain after the other, in a compiled loop."""
    return lax.map(density.value_and_grad, points)


def measure_of(evaluate: Evaluate, density: Density, points: Array) -> Measure:
    """Gradients of a batch over and over in one compiled loop, compiled and run once."""

    @jax.jit
    def loop(density: Density, points: Array, steps: int) -> Array:
        # Moved by next to nothing, so that no evaluation is the same as the one before.
        return lax.fori_loop(0, steps, lambda _, x: x + 1e-30 * evaluate(density, x)[1], points)

    def seconds(steps: int) -> Seconds:
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(loop(density, points, steps))
        spent = steps * len(points)
        return Seconds((time.perf_counter() - wall) / spent, (time.process_time() - cpu) / spent)

    seconds(1)  # compiles
    once = seconds(1).wall * len(points)
    steps = max(1, round(SECONDS / once))
    return lambda: seconds(steps)


def in_turns(measures: dict[str, Measure], repetitions: int) -> dict[str, list[Seconds]]:
    """All of them, one round after the other."""
    rounds = [{way: measure() for way, measure in measures.items()} for _ in range(repetitions)]
    return {way: [found[way] for found in rounds] for way in measures}


# -- on a CPU -------------------------------------------------------------------------------------

WAYS = ("whole", "rule", "tuned", "ffi", "ffi_chain")


@dataclass(frozen=True)
class Row:
    """One posterior on a CPU; microseconds per gradient by a clock, medians."""

    posterior: str
    dim: int
    chains: int
    precision: str
    setup: Setup
    rule_chunk: int | None
    """None: the whole batch"""
    tuned_chunk: int | None
    search: float
    """seconds to find it"""
    whole: float
    rule: float
    tuned: float
    ffi: float
    """BridgeStan, the batch by vmap"""
    ffi_chain: float
    """BridgeStan, one chain after the other"""
    cpu: dict[str, float]
    """CPU microseconds of the process per gradient, of every way"""
    speedup: float
    """``ffi`` over ``tuned``"""
    speedup_rule: float
    """``ffi`` over ``rule``"""
    speedup_chain: float
    """``ffi_chain`` over ``tuned``"""
    speedup_cpu: float
    """``ffi`` over ``tuned``, in CPU time"""


def measure_posterior(name: str, chains: int, precision: Precision, repetitions: int) -> Row:
    """All ways for one posterior of the database."""
    posterior = PosteriorDatabase().posterior(name)
    setup, lowered, points = set_up(posterior, chains, precision)
    stan = from_stan(
        posterior.program_path(), posterior.data_text(), backend="bridgestan", name=name, ffi="ffi"
    )
    log_density = jax.jit(lowered.log_density)
    rule = default_chunk(log_density, lowered.dim)
    tuned = tuned_chunk(log_density, lowered.dim, np.asarray(points), width=chains)
    spent = in_turns(
        {
            "whole": measure_of(together, chunked(log_density, None), points),
            "rule": measure_of(together, chunked(log_density, rule), points),
            "tuned": measure_of(together, chunked(log_density, tuned.chunk), points),
            "ffi": measure_of(together, stan.density, points),
            "ffi_chain": measure_of(one_by_one, stan.density, points),
        },
        repetitions,
    )

    def ratio(above: str, below: str, clock: str = "wall") -> float:
        pairs = zip(spent[above], spent[below], strict=True)
        return statistics.median(getattr(a, clock) / getattr(b, clock) for a, b in pairs)

    def microseconds(way: str, clock: str) -> float:
        return 1e6 * statistics.median(getattr(seconds, clock) for seconds in spent[way])

    return Row(
        posterior=name,
        dim=lowered.dim,
        chains=chains,
        precision=precision,
        setup=setup,
        rule_chunk=rule,
        tuned_chunk=tuned.chunk,
        search=tuned.seconds,
        **{way: microseconds(way, "wall") for way in WAYS},
        cpu={way: microseconds(way, "cpu") for way in WAYS},
        speedup=ratio("ffi", "tuned"),
        speedup_rule=ratio("ffi", "rule"),
        speedup_chain=ratio("ffi_chain", "tuned"),
        speedup_cpu=ratio("ffi", "tuned", "cpu"),
    )


def table(rows: Sequence[Row]) -> Table:
    """Set-up, microseconds by a clock, and speed-ups; geometric means and medians at the end."""
    out = Table(title=f"µs per gradient at {rows[0].chains} chains; speed-up over the FFI", box=box.MARKDOWN)
    for heading in ("posterior", "precision"):
        out.add_column(heading)
    numbers = ["dim", "read s", "trace s", "compile s", "whole", "rule (chunk)", "tuned (chunk)", "search s"]
    for heading in [*numbers, "FFI", "FFI, by chain", "speed-up", "by rule", "by chain", "CPU time"]:
        out.add_column(heading, justify="right")
    for row in rows:
        ratios = (row.speedup, row.speedup_rule, row.speedup_chain, row.speedup_cpu)
        out.add_row(
            row.posterior,
            row.precision,
            str(row.dim),
            *(f"{seconds:.2f}" for seconds in (row.setup.read, row.setup.trace, row.setup.compile)),
            f"{row.whole:.2f}",
            f"{row.rule:.2f} ({_chunk(row.rule_chunk)})",
            f"{row.tuned:.2f} ({_chunk(row.tuned_chunk)})",
            f"{row.search:.1f}",
            f"{row.ffi:.2f}",
            f"{row.ffi_chain:.2f}",
            *(f"{ratio:.2f}" for ratio in ratios),
        )
    columns = [[r.speedup, r.speedup_rule, r.speedup_chain, r.speedup_cpu] for r in rows]
    for title, mean in (("geometric mean", statistics.geometric_mean), ("median", statistics.median)):
        setups = [mean([getattr(r.setup, part) for r in rows]) for part in ("read", "trace", "compile")]
        means = [mean(column) for column in zip(*columns, strict=True)]
        cells = [*(f"{x:.2f}" for x in setups), *[""] * 6, *(f"{x:.2f}" for x in means)]
        out.add_row(title, "", "", *cells)
    return out


def _chunk(chunk: int | None) -> str:
    return "whole" if chunk is None else str(chunk)


# -- on an accelerator ----------------------------------------------------------------------------


@dataclass(frozen=True)
class AcceleratorRow:
    """One posterior, precision and number of chains on an accelerator."""

    posterior: str
    dim: int
    device: str
    precision: str
    chains: int
    compile: float
    """seconds"""
    rate: float | None
    """gradients a second; None where the memory of the device does not suffice"""
    ffi_rate: float | None
    """BridgeStan's, on all cores of the same machine, as many chains; None where that was not asked for"""


def measure_on_accelerator(
    name: str, sizes: Sequence[int], precisions: Sequence[Precision], repetitions: int, with_stan: bool
) -> list[AcceleratorRow]:
    """Gradients a second at every number of chains, in every precision, and BridgeStan's beside them."""
    posterior = PosteriorDatabase().posterior(name)
    stan = _stan_rates(posterior, sizes, repetitions) if with_stan else {}
    rows = []
    for precision in precisions:
        _, lowered, _ = set_up(posterior, 1, precision)
        density = chunked(jax.jit(lowered.log_density), None)
        for chains in sizes:
            start = time.perf_counter()
            try:
                measure = measure_of(together, density, _points(density, chains, lowered.dim))
                compiled = time.perf_counter() - start
                rate = 1 / statistics.median(measure().wall for _ in range(repetitions))
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                compiled, rate = time.perf_counter() - start, None
            device = jax.devices()[0].device_kind
            row = (name, lowered.dim, device, precision, chains, compiled, rate, stan.get(chains))
            rows.append(AcceleratorRow(*row))
    return rows


def _stan_rates(posterior: Posterior, sizes: Sequence[int], repetitions: int) -> dict[int, float]:
    """BridgeStan's gradients a second on all cores, by the number of chains."""
    cpu = jax.devices("cpu")[0]
    with jax.default_device(cpu):
        stan = from_stan(
            posterior.program_path(), posterior.data_text(), "bridgestan", name=posterior.name, ffi="ffi"
        )
        rates = {}
        for chains in sizes:
            measure = measure_of(together, stan.density, _points(stan.density, chains, stan.dim))
            rates[chains] = 1 / statistics.median(measure().wall for _ in range(repetitions))
    return rates


def accelerator_table(rows: Sequence[AcceleratorRow]) -> Table:
    """Thousands of gradients a second: posteriors and precisions down, chains across; ratios to the FFI."""
    title = f"thousand gradients a second on {rows[0].device} (over BridgeStan's on {os.cpu_count()} cores)"
    out = Table(title=title, box=box.MARKDOWN)
    out.add_column("posterior")
    out.add_column("precision")
    sizes = sorted({row.chains for row in rows})
    for chains in sizes:
        out.add_column(f"{chains}", justify="right")
    found = {(row.posterior, row.precision, row.chains): row for row in rows}
    for posterior, precision in dict.fromkeys((row.posterior, row.precision) for row in rows):
        cells = []
        for chains in sizes:
            row = found[posterior, precision, chains]
            cells.append(_rate(row))
        out.add_row(posterior, precision, *cells)
    return out


def _rate(row: AcceleratorRow) -> str:
    if row.rate is None:
        return "memory"
    ratio = "" if row.ffi_rate is None else f" ({row.rate / row.ffi_rate:.2f})"
    return f"{row.rate / 1e3:.4g}{ratio}"


def main() -> None:
    """Measures and prints; one posterior after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print records instead of a table")
    parser.add_argument(
        "--chains", type=int, nargs="+", help="one number on a CPU, several on an accelerator"
    )
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--without-stan", action="store_true", help="on an accelerator, the lowered alone")
    parser.add_argument("posteriors", nargs="*", help="names in the database")
    arguments = parser.parse_args()
    built_in = [name for name in PosteriorDatabase().names() if "lotka" not in name]
    names = arguments.posteriors or (POSTERIORDB if os.environ.get("POSTERIORDB_PATH") else built_in)
    on_cpu = jax.default_backend() == "cpu"
    sizes = arguments.chains or ((CHAINS,) if on_cpu else ACCELERATOR_CHAINS)
    precisions = arguments.precision or (PRECISIONS[:1] if on_cpu else PRECISIONS)
    if on_cpu and len(sizes) > 1:
        parser.error("on a CPU give one number of chains")
    rows: list[Row] = []
    accelerated: list[AcceleratorRow] = []
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)  # compiling takes its time
        if on_cpu:
            rows += [measure_posterior(name, sizes[0], p, arguments.repetitions) for p in precisions]
        else:
            with_stan = not arguments.without_stan
            accelerated += measure_on_accelerator(name, sizes, precisions, arguments.repetitions, with_stan)
        jax.clear_caches()
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows or accelerated], indent=2))
    else:
        Console(width=240).print(table(rows) if on_cpu else accelerator_table(accelerated))


if __name__ == "__main__":
    main()
