"""The chunk of a density as a clock finds it, found once on a machine.

Results depend on the chunk in their last bits (`chunks`), so that a tuned chunk is asked for, recorded,
and kept: processes that find one use it, and two that search at once agree on the first.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import chunks
from .cache import cache_dir
from .chunks import LogDensity, chunked, default_chunk
from .target import digest_of
from .verification import lowering_version

LADDER = (1, 4, 16, 64, None)
"""Chunks that are tried."""
SEARCH_SECONDS = 3.0
"""After which no other chunk is tried; the one being tried is finished."""
ROUNDS = 5
CLEARLY_SLOWER = 1.5
"""Times as slow as the best so far: no more rounds are needed."""
ROUND_SECONDS = 0.02
"""What one measurement takes, at least, where that many calls do."""


class TunedChunk(NamedTuple):
    """What a search has found."""

    chunk: int | None
    microseconds: dict[int | None, float]
    """Per point, of each chunk tried: the smallest of all rounds."""
    seconds: float
    """Of the search, compilation included; 0 where it was found before."""


def tuned_chunk(
    log_density: LogDensity,
    dim: int,
    points: np.ndarray,
    *,
    digest: str | None = None,
    width: int = 64,
) -> TunedChunk:
    """The chunk in `LADDER` that evaluates a batch soonest; None (the whole batch) on an accelerator.

    Begins at `default_chunk` and tries the others, the nearest first, for about `SEARCH_SECONDS`.

    Parameters
    ----------
    log_density : ``f[dim] -> f[]``
    points : ``f[k, dim]``, where the density is evaluated; repeated to make up the batch
    digest : of the target, under which the result is kept in `cache_dir` for this machine, this version
        of the lowering, this precision and this width. None keeps nothing.
    width : points in the batch; as many chains as move together on a CPU
    """
    if jax.default_backend() != "cpu":
        return TunedChunk(None, {}, 0.0)
    path = cache_dir() / "chunks" / f"{_key(digest, width)}.json" if digest is not None else None
    if path is not None and path.exists():
        return _read(path)
    found = _search(log_density, dim, jnp.asarray(np.resize(points, (width, dim)), float))
    return found if path is None else _kept(path, found)


def _search(log_density: LogDensity, dim: int, batch: jax.Array) -> TunedChunk:
    began = time.perf_counter()
    ladder = [chunk for chunk in LADDER if chunk is None or chunk < len(batch)]
    rule = default_chunk(log_density, dim)
    best = ladder.index(rule) if rule in ladder else len(ladder) - 1
    runs, times = {best: _compiled(log_density, ladder[best], batch)}, {best: np.inf}
    for other in sorted(set(range(len(ladder))) - {best}, key=lambda i: abs(i - best)):
        if time.perf_counter() - began > SEARCH_SECONDS:
            break
        runs[other], times[other] = _compiled(log_density, ladder[other], batch), np.inf
        for _ in range(ROUNDS):  # in turns: what else the machine does falls on both
            for i in (best, other):
                times[i] = min(times[i], runs[i]())
            if times[other] > CLEARLY_SLOWER * times[best]:
                break
        if times[other] < times[best]:
            best = other
    microseconds = {
        ladder[i]: 1e6 * seconds / len(batch) for i, seconds in sorted(times.items()) if np.isfinite(seconds)
    }
    return TunedChunk(ladder[best], microseconds, time.perf_counter() - began)


def _compiled(log_density: LogDensity, chunk: int | None, batch: jax.Array) -> Callable[[], float]:
    """Evaluates the batch, for `ROUND_SECONDS` or once, and returns the seconds of one time."""
    density = chunked(log_density, chunk)
    program = jax.jit(jax.vmap(lambda x: density.value_and_grad(x))).lower(batch).compile()
    jax.block_until_ready(program(batch))

    def run() -> float:
        times, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < ROUND_SECONDS or not times:
            jax.block_until_ready(program(batch))
            times += 1
        return elapsed / times

    return run


def _key(digest: str, width: int) -> str:
    precision = jnp.asarray(0.0).dtype.name
    return digest_of(digest, str(width), precision, _machine(), lowering_version(), _CHUNKS)


_CHUNKS = digest_of(Path(chunks.__file__).read_bytes())


def _machine() -> str:
    return f"{platform.platform()} {_processor()} {os.cpu_count()}"


@functools.cache
def _processor() -> str:
    """The processor's model, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    return ", ".join(sorted(models)) or platform.processor() or platform.machine()


def _read(path: Path) -> TunedChunk:
    record = json.loads(path.read_text())
    return TunedChunk(record["chunk"], dict(record["microseconds"]), 0.0)


def _kept(path: Path, found: TunedChunk) -> TunedChunk:
    """``found``, or what another process has written in the meantime."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"chunk": found.chunk, "microseconds": list(found.microseconds.items())}
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
        json.dump(record, file)
    try:
        os.link(file.name, path)  # whole or not at all, and never over another
    except FileExistsError:
        return _read(path)._replace(seconds=found.seconds)
    finally:
        os.unlink(file.name)
    return found
