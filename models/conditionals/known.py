"""Which Stan models have exact conditionals here, and the test that a program is the model they are for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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
TOLERANCE = 1e-8


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
    found = KNOWN[model](data)
    confirmed(found, target)
    return replace(target, blocks=found.blocks)


def confirmed(found: KnownModel, target: Target) -> None:
    """Compares log densities at random points, up to one constant.

    Raises
    ------
    ConditionalsMismatch
        If they differ by more than rounding.
    """
    points = np.random.default_rng(0).uniform(-2, 2, (POINTS, target.dim))
    evaluate = jax.jit(target.density.log_density)
    values = np.array([float(evaluate(x)) for x in points])
    own = np.asarray(jax.vmap(found.log_density)(jnp.asarray(points)))
    good = np.isfinite(values) & np.isfinite(own)
    difference = (values - own)[good]
    scale = np.maximum(1.0, np.abs(values[good]).max(initial=0.0))
    if good.sum() < 2 or np.ptp(difference) > TOLERANCE * scale:
        raise ConditionalsMismatch(
            f"the log density of {target.name} is not that of the model whose exact conditionals are known"
            f" under its name (they differ by up to {np.ptp(difference):.2g} nats): run gibbs[exact=false],"
            " or give the model another name"
        )
