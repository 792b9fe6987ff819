"""Published means and mean squares of references, which exist where the draws may not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .errors import CorruptDatabase, MissingReference
from .files import read_object
from .layers import Layers

Statistic = Literal["mean_value", "mean_squared_value"]


@dataclass(frozen=True, eq=False)
class Summary:
    """One statistic of a reference posterior, by parameter."""

    names: tuple[str, ...]
    values: np.ndarray
    """``f[parameter]``"""
    mcse: np.ndarray | None
    """``f[parameter]``: Monte Carlo standard errors of ``values``, where published."""


def read_summary(layers: Layers, reference_name: str, statistic: Statistic) -> Summary:
    """The published ``mean_value`` or ``mean_squared_value`` of a reference.

    posteriordb 1.0.0 spells the second key ``"mean_squared_value."`` and writes numbers as strings.

    Raises
    ------
    MissingReference
        If no layer has the file.
    CorruptDatabase
        If names and numbers in it do not fit together.
    """
    file = f"reference_posteriors/summary_statistics/{statistic}/{statistic}/{reference_name}.json"
    found = layers.find(file, f"{file}.zip")
    if found is None:
        raise MissingReference(f"no layer of {layers.describe()} has {file}; add one that has")
    record = read_object(found.path)
    names = record.get("names")
    names = tuple([names] if isinstance(names, str) else names or ())
    values = _column(record.get(statistic, record.get(f"{statistic}.")), len(names), statistic, found.path)
    mcse = record.get("mcse_mean", record.get("mcse_mean."))
    return Summary(
        names, values, None if mcse is None else _column(mcse, len(names), "mcse_mean", found.path)
    )


def _column(values: Any, length: int, key: str, path: Path) -> np.ndarray:
    try:
        column = np.atleast_1d(np.array(values, dtype=np.float64))  # reads strings of digits as numbers
    except (TypeError, ValueError) as error:
        raise CorruptDatabase(path, f"{key!r} is not a list of numbers ({error})") from error
    if column.shape != (length,) or not np.isfinite(column).all():
        raise CorruptDatabase(path, f"{key!r} does not hold one finite number for each of {length} names")
    return column
