"""Gradients a second of lowered densities on an accelerator, against the number of chains.

In float64 and float32, next to BridgeStan on all cores of the same machine.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import jax
from rich import box
from rich.table import Table

from ...models import from_stan
from ...models.chunks import chunked
from ...models.stan_to_jax.model import Precision
from ...posteriordb_adapter.database import PosteriorDatabase
from ...posteriordb_adapter.posterior import Posterior
from .batches import measure_of, points_near_0, set_up, together

CHAINS = (1, 16, 256, 1024, 4096, 16384, 65536)


@dataclass(frozen=True)
class Row:
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


def measure_posterior(
    name: str, sizes: Sequence[int], precisions: Sequence[Precision], repetitions: int, with_stan: bool
) -> list[Row]:
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
                measure = measure_of(together, density, [points_near_0(density, chains, lowered.dim)])
                compiled = time.perf_counter() - start
                rate = 1 / statistics.median(measure().wall for _ in range(repetitions))
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                compiled, rate = time.perf_counter() - start, None
            device = jax.devices()[0].device_kind
            row = (name, lowered.dim, device, precision, chains, compiled, rate, stan.get(chains))
            rows.append(Row(*row))
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
            measure = measure_of(together, stan.density, [points_near_0(stan.density, chains, stan.dim)])
            rates[chains] = 1 / statistics.median(measure().wall for _ in range(repetitions))
    return rates


def table(rows: Sequence[Row]) -> Table:
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


def _rate(row: Row) -> str:
    if row.rate is None:
        return "memory"
    ratio = "" if row.ffi_rate is None else f" ({row.rate / row.ffi_rate:.2f})"
    return f"{row.rate / 1e3:.4g}{ratio}"
