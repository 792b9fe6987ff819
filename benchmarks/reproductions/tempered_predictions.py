"""What a temperature does to predictions, in closed form: where the model is right, and where labels are not.

Labels that several people agreed on have less noise than the model gives them (Aitchison 2021), which is one
reason why cold posteriors predict better; rows that stand twice in the data have more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..estimates import Estimate
from .framework import Between, Claim, Row
from .stochastic_runs import mean_estimate
from .tempered_regression import (
    SIGMA,
    TEMPERINGS,
    Regression,
    Tempering,
    draw_coefficients,
    draw_design,
    log_score,
)

N = 60
"""Rows of a data set."""
HELD_OUT = 500
TEMPERATURES = (0.1, 0.5, 1.0, 2.0)
CURATORS = 10
COPIES = 2
AITCHISON = "Aitchison (2021)"


class World(NamedTuple):
    """How labels come about; the model is the same in all."""

    name: str
    train_noise: float
    """Standard deviation"""
    test_noise: float
    copies: int
    """How often each row stands in the data"""
    best: float
    """The temperature that should win"""
    why: str


WORLDS = (
    World("correctly specified", SIGMA, SIGMA, 1, 1.0, "the posterior predicts best on average"),
    World(
        f"labels curated by {CURATORS}",
        SIGMA / CURATORS**0.5,
        SIGMA / CURATORS**0.5,
        1,
        0.1,
        f"{AITCHISON}: a label agreed on by S counts for S labels, T = 1/S",
    ),
    World(
        f"rows {COPIES} times each",
        SIGMA,
        SIGMA,
        COPIES,
        2.0,
        f"each copy counts 1/{COPIES}: T = {COPIES}",
    ),
)


def scores(world: World, data_sets: int) -> dict[Tempering, np.ndarray]:
    """Held-out log score per label, ``f[data set, temperature]``: exact for each data set.

    Coefficients are from the prior.
    """
    rng = np.random.default_rng(1)
    held_out = draw_design(rng, HELD_OUT)
    found: dict[Tempering, list[list[float]]] = {tempering: [] for tempering in TEMPERINGS}
    for _ in range(data_sets):
        x, truth = draw_design(rng, N // world.copies), draw_coefficients(rng)
        y = x @ truth + world.train_noise * rng.normal(size=len(x))
        data = Regression(np.repeat(x, world.copies, axis=0), np.repeat(y, world.copies))
        for tempering, kept in found.items():
            kept.append(
                [
                    log_score(data.tempered(tempering, t), held_out, truth, world.test_noise)
                    for t in TEMPERATURES
                ]
            )
    return {tempering: np.array(kept) for tempering, kept in found.items()}


def prediction_row(world: World, tempering: Tempering, found: np.ndarray) -> Row:
    """The temperature of the best held-out score, and by how much it wins."""
    means = found.mean(0)
    first, second = np.argsort(means)[::-1][:2]
    lead = mean_estimate(found[:, first] - found[:, second])
    claim = Claim(
        f"temperature of the best held-out log score, of {', '.join(f'{t:g}' for t in TEMPERATURES)}",
        world.why,
        f"closed form, no sampling: {world.name}, {tempering} tempering",
        f"{world.best:g}",
        Between(world.best, world.best),
    )
    note = ", ".join(f"T = {t:g}: {mean:.4f}" for t, mean in zip(TEMPERATURES, means, strict=True))
    note += f"; ahead of T = {TEMPERATURES[second]:g} by {lead.value:.4f} ({lead.low:.4f} – {lead.high:.4f})"
    return Row(claim, Estimate(TEMPERATURES[first], kind="arithmetic"), note)
