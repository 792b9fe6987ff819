"""What lowering a Stan program to JAX is worth: set-up, and gradients of many chains at once.

``python -m essper.benchmarks.speed.lowering [--json] [--chains N …] [--precision P …] [POSTERIOR …]``.

On a CPU: seconds to read, trace and compile a program, and what a gradient costs by the lowered density
(groups of chains whole, in the chunks of the rule, in tuned chunks) and by BridgeStan through the FFI (all
chains in one call, which uses all cores; in groups; one chain after the other). Groups are those of a
sampler's run (`samplers.layouts`), each called from a thread. Ways are measured in turns; ratios are of one
round, medians over the rounds, over the faster of the FFI's first two ways. Time of a clock decides, on all
cores; CPU time of the process is printed beside it.

On an accelerator: see `accelerator`.

Without names: 18 of posteriordb's with ``POSTERIORDB_PATH`` set, else those built in, ODEs left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from ...models import from_stan
from ...models.chunk_tuning import tuned_chunk
from ...models.chunks import chunked, default_chunk
from ...models.stan_to_jax.model import Precision
from ...posteriordb_adapter.database import PosteriorDatabase
from ...samplers.layouts import GROUP, group_sizes
from . import accelerator
from .batches import Setup, in_turns, measure_of, one_by_one, set_up, together

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
REPETITIONS = 7
WAYS = ("whole", "rule", "tuned", "ffi", "ffi_groups", "ffi_chain")


@dataclass(frozen=True)
class Row:
    """One posterior on a CPU; microseconds per gradient by a clock, medians."""

    posterior: str
    dim: int
    chains: int
    precision: str
    setup: Setup
    rule_chunk: int | None
    """None: the whole group"""
    tuned_chunk: int | None
    search: float
    """seconds to find it"""
    wall: dict[str, float]
    """of every way"""
    cpu: dict[str, float]
    """CPU microseconds of the process per gradient, of every way"""
    speedup: float
    """tuned, over the faster of ``ffi`` and ``ffi_groups``"""
    speedup_rule: float
    """by the rule, over the same"""
    speedup_chain: float
    """tuned, over ``ffi_chain``"""
    speedup_cpu: float
    """tuned, over the same as ``speedup``, in CPU time"""


def measure_posterior(name: str, chains: int, precision: Precision, repetitions: int) -> Row:
    """All ways for one posterior of the database."""
    posterior = PosteriorDatabase().posterior(name)
    setup, lowered, points = set_up(posterior, chains, precision)
    stan = from_stan(
        posterior.program_path(), posterior.data_text(), backend="bridgestan", name=name, ffi="ffi"
    )
    log_density = jax.jit(lowered.log_density)
    rule = default_chunk(log_density, lowered.dim)
    tuned = tuned_chunk(log_density, lowered.dim, np.asarray(points), width=min(chains, GROUP))
    groups = jnp.split(points, np.cumsum(group_sizes("lockstep", chains))[:-1])
    spent = in_turns(
        {
            "whole": measure_of(together, chunked(log_density, None), groups),
            "rule": measure_of(together, chunked(log_density, rule), groups),
            "tuned": measure_of(together, chunked(log_density, tuned.chunk), groups),
            "ffi": measure_of(together, stan.density, [points]),
            "ffi_groups": measure_of(together, stan.density, groups),
            "ffi_chain": measure_of(one_by_one, stan.density, [points]),
        },
        repetitions,
    )

    def microseconds(way: str, clock: str) -> float:
        return 1e6 * statistics.median(getattr(seconds, clock) for seconds in spent[way])

    def ratio(above: str, below: str, clock: str = "wall") -> float:
        pairs = zip(spent[above], spent[below], strict=True)
        return statistics.median(getattr(a, clock) / getattr(b, clock) for a, b in pairs)

    faster = min("ffi", "ffi_groups", key=lambda way: microseconds(way, "wall"))
    return Row(
        posterior=name,
        dim=lowered.dim,
        chains=chains,
        precision=precision,
        setup=setup,
        rule_chunk=rule,
        tuned_chunk=tuned.chunk,
        search=tuned.seconds,
        wall={way: microseconds(way, "wall") for way in WAYS},
        cpu={way: microseconds(way, "cpu") for way in WAYS},
        speedup=ratio(faster, "tuned"),
        speedup_rule=ratio(faster, "rule"),
        speedup_chain=ratio("ffi_chain", "tuned"),
        speedup_cpu=ratio(faster, "tuned", "cpu"),
    )


def table(rows: Sequence[Row]) -> Table:
    """Set-up, microseconds by a clock, and speed-ups; geometric means and medians at the end."""
    out = Table(title=f"µs per gradient at {rows[0].chains} chains; speed-up over the FFI", box=box.MARKDOWN)
    for heading in ("posterior", "precision"):
        out.add_column(heading)
    numbers = ["dim", "read s", "trace s", "compile s", "whole", "rule (chunk)", "tuned (chunk)", "search s"]
    for heading in [
        *numbers,
        "FFI",
        "FFI, groups",
        "FFI, by chain",
        "speed-up",
        "by rule",
        "by chain",
        "CPU time",
    ]:
        out.add_column(heading, justify="right")
    for row in rows:
        ratios = (row.speedup, row.speedup_rule, row.speedup_chain, row.speedup_cpu)
        out.add_row(
            row.posterior,
            row.precision,
            str(row.dim),
            *(f"{seconds:.2f}" for seconds in (row.setup.read, row.setup.trace, row.setup.compile)),
            f"{row.wall['whole']:.2f}",
            f"{row.wall['rule']:.2f} ({_chunk(row.rule_chunk)})",
            f"{row.wall['tuned']:.2f} ({_chunk(row.tuned_chunk)})",
            f"{row.search:.1f}",
            *(f"{row.wall[way]:.2f}" for way in ("ffi", "ffi_groups", "ffi_chain")),
            *(f"{ratio:.2f}" for ratio in ratios),
        )
    columns = [[r.speedup, r.speedup_rule, r.speedup_chain, r.speedup_cpu] for r in rows]
    for title, mean in (("geometric mean", statistics.geometric_mean), ("median", statistics.median)):
        setups = [mean([getattr(r.setup, part) for r in rows]) for part in ("read", "trace", "compile")]
        means = [mean(column) for column in zip(*columns, strict=True)]
        cells = [*(f"{x:.2f}" for x in setups), *[""] * 7, *(f"{x:.2f}" for x in means)]
        out.add_row(title, "", "", *cells)
    return out


def _chunk(chunk: int | None) -> str:
    return "whole" if chunk is None else str(chunk)


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
    sizes = arguments.chains or ((CHAINS,) if on_cpu else accelerator.CHAINS)
    precisions = arguments.precision or (PRECISIONS[:1] if on_cpu else PRECISIONS)
    if on_cpu and len(sizes) > 1:
        parser.error("on a CPU give one number of chains")
    rows: list[Row] = []
    accelerated: list[accelerator.Row] = []
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)  # compiling takes its time
        if on_cpu:
            rows += [measure_posterior(name, sizes[0], p, arguments.repetitions) for p in precisions]
        else:
            with_stan = not arguments.without_stan
            accelerated += accelerator.measure_posterior(
                name, sizes, precisions, arguments.repetitions, with_stan
            )
        jax.clear_caches()
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows or accelerated], indent=2))
    else:
        Console(width=240).print(table(rows) if on_cpu else accelerator.table(accelerated))


if __name__ == "__main__":
    main()
