"""Reference draws written in posteriordb's layout, rounded as far as does no harm."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .draws import parse_chains
from .errors import DatabaseError
from .files import is_name, write_atomically

SIGNIFICANT_DIGITS = 3
SD_FRACTION = 50
"""A decimal place is kept if it is worth more than this part of the standard deviation."""
FINE_DIGITS = (10, 17)
"""Significant digits tried, in this order, for draws that rounding would take out of the support."""


def write_reference(
    layer: str | os.PathLike[str],
    name: str,
    names: Sequence[str],
    draws: np.ndarray,
    info: Mapping[str, Any],
    *,
    accepts: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Path:
    """Write reference draws and how they were made into a layer; returns the file of the draws.

    Values are rounded as `round_draws` says. The same draws give the same bytes, and either file is
    replaced at once or not at all.

    Parameters
    ----------
    layer : the layer's ``posterior_database`` folder, made where it is missing
    name : of the reference, which is that of its posterior
    names : one per parameter
    draws : ``f[chain, draw, parameter]``
    info : ``inference``, ``diagnostics``, ``checks_made``, … as `acceptance_checks` returns them
    accepts : as in `round_draws`

    Raises
    ------
    DatabaseError
        If ``name`` cannot be a file's name, or the draws could not be read back: wrong names, ragged,
        not finite.
    """
    if not is_name(name):
        raise DatabaseError(f"{name!r:.80} cannot be the name of a reference; use letters, digits and -_.+")
    if draws.ndim != 3 or draws.shape[2] != len(names):
        raise DatabaseError(f"draws of {name!r} have shape {draws.shape}, not (chain, draw, {len(names)})")
    file = Path(layer) / "reference_posteriors/draws/draws" / f"{name}.json.zip"
    parse_chains(_chains(names, draws), file)  # what is written must be readable
    chains = _chains(names, round_draws(np.asarray(draws, dtype=np.float64), accepts=accepts))
    content = json.dumps(chains, separators=(",", ":")).replace(".0,", ",").replace(".0]", "]")
    write_atomically(
        file.parents[1] / "info" / f"{name}.info.json",
        (json.dumps({"name": name, **info}, indent=2) + "\n").encode(),
    )
    write_atomically(file, _zipped(file.name.removesuffix(".zip"), content.encode()))
    return file


def _chains(names: Sequence[str], draws: np.ndarray) -> list[dict[str, list[float]]]:
    return [dict(zip(names, chain.T.tolist(), strict=True)) for chain in draws]


def round_draws(
    draws: np.ndarray, *, accepts: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """Draws with the digits left out that say nothing.

    Each value is rounded to the finer of `SIGNIFICANT_DIGITS` significant digits (what is near a
    bound at zero stays so) and the decimal place that is at most 1/`SD_FRACTION` of the parameter's
    standard deviation (an error that adds less than 10⁻⁴ to its variance).

    Parameters
    ----------
    draws : ``f[chain, draw, parameter]``
    accepts : ``f[n, parameter] -> bool[n]``, which draws are in the support. Draws that rounding would
        take out of it (a simplex no longer sums to one) keep more digits, all of them if need be.
    """
    flat = draws.reshape(-1, draws.shape[-1])
    sd = flat.std(0)
    with np.errstate(divide="ignore"):
        by_sd = np.where(sd > 0, np.ceil(-np.log10(sd / SD_FRACTION)), 0.0)
    rounded = _rounded(flat, np.maximum(_decimals(flat, SIGNIFICANT_DIGITS), by_sd))
    for digits in FINE_DIGITS if accepts is not None else ():
        assert accepts is not None
        bad = ~accepts(rounded)
        rounded[bad] = _rounded(flat[bad], _decimals(flat[bad], digits))
    return rounded.reshape(draws.shape)


def _decimals(values: np.ndarray, digits: int) -> np.ndarray:
    """Decimal places that ``digits`` significant digits of each value take."""
    with np.errstate(divide="ignore"):
        return np.where(values == 0, 0.0, digits - 1 - np.floor(np.log10(np.abs(values))))


def _rounded(values: np.ndarray, decimals: np.ndarray) -> np.ndarray:
    # Through decimal text: scaling by powers of ten would leave 0.30000000000000004 behind.
    text = (f"{value:.{max(int(d), 0)}f}" for value, d in zip(values.flat, decimals.flat, strict=True))
    return np.fromiter(map(float, text), dtype=np.float64, count=values.size).reshape(values.shape)


def _zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))  # no time stamp: same draws, same bytes
    member.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, content, compresslevel=9)
    return buffer.getvalue()
