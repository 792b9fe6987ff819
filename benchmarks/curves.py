"""Error curves of several seeds as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .grouping import Record


@dataclass(frozen=True)
class Curve:
    """Error against gradients (or evaluations, by axis) per chain, warmup included: median, low and high
    over seeds.

    `series` has "mean.average", "mean.maximum", "square.average" and "square.maximum": b² of x and of x².
    """

    gradients: tuple[float, ...]
    series: Mapping[str, Mapping[str, tuple[float | None, ...]]]
    noise_floor: float | None
    seeds: int


def common_curve(curves: Sequence[Record]) -> Curve | None:
    """Median and range over seeds on a common grid, each curve interpolated linearly in log gradients.

    Curves of one point (all cost was paid before the first draw) have a common one at the geometric mean of
    their gradients. Where draws cost no gradients at all there is none.
    """
    if not curves or not all(curve["gradients"][-1] > 0 for curve in curves):
        return None
    if all(len(curve["gradients"]) == 1 for curve in curves):
        common = float(np.exp(np.mean(np.log([curve["gradients"] for curve in curves]))))
        curves = [{**curve, "gradients": [common]} for curve in curves]
    start = max(curve["gradients"][0] for curve in curves)
    end = min(curve["gradients"][-1] for curve in curves)
    if end < start:
        return None
    grid = np.array(curves[0]["gradients"], dtype=float)
    if len(curves) > 1:
        grid = np.geomspace(start, end, max(len(curve["gradients"]) for curve in curves))
    series = {}
    for moment in ("mean", "square"):
        for over in ("average", "maximum"):
            seeds = np.array([_interpolated(curve, f"b2_{moment}", over, grid) for curve in curves])
            known = np.isfinite(seeds).all(axis=0)
            statistics = {"median": np.median(seeds, 0), "low": seeds.min(0), "high": seeds.max(0)}
            series[f"{moment}.{over}"] = {
                name: tuple(float(f"{y:.4g}") if ok else None for y, ok in zip(values, known, strict=True))
                for name, values in statistics.items()
            }
    floors = [curve["noise_floor"] for curve in curves if curve.get("noise_floor") is not None]
    return Curve(tuple(np.round(grid, 1).tolist()), series, max(floors) if floors else None, len(curves))


def _interpolated(curve: Record, quantity: str, over: str, grid: np.ndarray) -> np.ndarray:
    pairs = zip(curve["gradients"], curve[quantity][over], strict=True)
    points = [(x, y) for x, y in pairs if y is not None and y > 0]
    if not points:
        return np.full(grid.shape, np.nan)
    x, y = np.log(np.array(points, dtype=float)).T
    return np.exp(np.interp(np.log(grid), x, y, left=np.nan, right=np.nan))
