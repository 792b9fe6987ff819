"""Which Stan models have exact conditionals here, and the test that a program is the model they are for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..conditional import Blocks
from ..target import Target
from .base import Derive, KnownModel
from .eight_schools import centered, noncentered
from .hidden_markov import hmm_example
from .mixture import low_dim_gauss_mix
from .regression import blr, earn_height, kidscore_interaction, kidscore_momiq, logmesquite_logvas, nes

KNOWN: dict[str, Derive] = {
    "eight_schools_centered": centered,
    "eight_schools_noncentered": noncentered,
    "blr": blr,
    "kidscore_momiq": kidscore_momiq,
    "kidscore_interaction": kidscore_interaction,
    "earn_height": earn_height,
    "logmesquite_logvas": logmesquite_logvas,
    "nes": nes,
    "low_dim_gauss_mix": low_dim_gauss_mix,
    "hmm_example": hmm_example,
}
"""By posteriordb's names of models."""

POINTS = 8
TOLERANCE, SINGLE_TOLERANCE = 1e-10, 1e-4
"""Relative to a log density; the second where it is computed in single precision."""


class ConditionalsMismatch(ValueError):
    """A program is not the model that the conditionals under its name were derived for."""


def blocks_for(model: str, data: dict[str, Any], target: Target) -> Target:
    """The target with the exact conditionals that its model is known to have; as it is where it has none.

    Raises
    ------
    ConditionalsMismatch
        If the program of that name has another density here than the conditionals are for.
    """
    if model not in KNOWN:
        return target
    try:
        found = KNOWN[model](data)
    except KeyError as error:
        _mismatch(target, f"that has data {error}, which are not given")
    confirmed(found, target)
    return replace(target, blocks=found.blocks)


def confirmed(found: KnownModel, target: Target) -> None:
    """Compares log densities at random points and where the conditionals lead from there, up to one constant.

    At points far from all data log densities are so large that a prior is lost in their rounding; after a
    sweep they are not.

    Raises
    ------
    ConditionalsMismatch
        If they differ by more than rounding.
    """
    away = jnp.asarray(np.random.default_rng(0).uniform(-2, 2, (POINTS, target.dim)))
    keys = jax.random.split(jax.random.key(0), POINTS)
    points = jnp.concatenate([away, jax.jit(jax.vmap(partial(_swept, found.blocks)))(keys, away)])
    evaluate = jax.jit(target.density.log_density)
    values = np.array([float(evaluate(x)) for x in points])
    own = np.asarray(jax.jit(jax.vmap(found.log_density))(points))
    good = np.isfinite(values) & np.isfinite(own)
    if good.sum() < POINTS:
        _mismatch(target, f"at {(~good).sum()} of {len(points)} points one of the two is not finite")
    tolerance = SINGLE_TOLERANCE if "float32" in target.backend else TOLERANCE
    difference, size = (values - own)[good], np.abs(values[good])
    error = np.abs(difference - difference[np.argmin(size)])
    if np.any(error > tolerance * np.maximum(1.0, size)):
        _mismatch(target, f"they differ by up to {error.max():.2g} nats")


def _swept(blocks: Blocks, key: Array, position: Array) -> Array:
    """A point after one draw of every block that has a conditional."""
    extra = blocks.start(key, position)
    for number, conditional in enumerate(blocks.conditionals.values()):

        def one(block: Array, now: tuple, number: int = number, draw: Callable = conditional.draw) -> tuple:
            return draw(jax.random.fold_in(jax.random.fold_in(key, number), block), block, *now)

        position, extra = jax.lax.fori_loop(0, conditional.size, one, (position, extra))
    return position


def _mismatch(target: Target, how: str) -> NoReturn:
    raise ConditionalsMismatch(
        f"the log density of {target.name} is not that of the model whose exact conditionals are known"
        f" under its name ({how}): run gibbs[exact=false], or give the model another name"
    )
