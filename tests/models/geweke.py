"""The joint-distribution test of Geweke (2004): parameters and data alternate, and nothing may move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from essper.models.conditional import Conditional
from essper.models.conditionals.base import Derive
from jax import Array

type Extra = dict[str, Array]
type Data = dict[str, Any]

BATCH = 2000
"""Chains that are stepped together."""


class Joint(NamedTuple):
    """A model as its Stan program states it, simulated independently of its conditionals."""

    derive: Derive
    prior: Callable[[Array], tuple[Array, Extra]]
    """``key -> (position, extra)``, an exact draw"""
    likelihood: Callable[[Array, Array, Extra], Data]
    """``(key, position, extra) -> data``, another"""
    observed: str
    """What in the data is drawn"""
    center: float = 0.0
    """About where that is"""
    scale: float = 1.0
    units: tuple[float, ...] = ()
    """Of the coordinates, about their standard deviations; 1 where none are given"""


def movement(
    joint: Joint, name: str, derive: Derive | None = None, *, rounds: int = 3, n: int = 20_000, seed: int = 0
) -> float:
    """The largest |z| of the mean change of bounded functions, after one round and after all.

    A round draws all blocks of conditional ``name`` given the data, then the data given all. It leaves the
    joint distribution of parameters and data invariant, in which every chain starts.
    """
    derive = derive or joint.derive

    def chain(key: Array) -> tuple[Array, Array]:
        start, first, key = jax.random.split(key, 3)
        position, extra = joint.prior(start)
        data = joint.likelihood(first, position, extra)
        before = _functions(joint, position, extra, data)

        def one(state: tuple, key: Array) -> tuple[tuple, Array]:
            position, extra, data = state
            draw_key, data_key = jax.random.split(key)
            conditional = derive(data).blocks.conditionals[name]
            position, extra = _all_blocks(draw_key, conditional, position, extra)
            data = joint.likelihood(data_key, position, extra)
            return (position, extra, data), _functions(joint, position, extra, data) - before

        _, changes = jax.lax.scan(one, (position, extra, data), jax.random.split(key, rounds))
        return changes[0], changes[-1]

    run = jax.jit(lambda keys: jax.lax.map(chain, keys, batch_size=BATCH))
    both = np.concatenate(run(jax.random.split(jax.random.key(seed), n)), axis=1)
    assert np.isfinite(both).all()
    error = both.std(axis=0) / np.sqrt(n)
    return float(np.abs(both.mean(axis=0)[error > 0] / error[error > 0]).max())


def _all_blocks(key: Array, conditional: Conditional, position: Array, extra: Extra) -> tuple[Array, Extra]:
    for block in range(conditional.size):
        own = jax.random.fold_in(key, block)
        position, extra = conditional.draw(own, jnp.int32(block), position, extra)
    return position, extra


def _functions(joint: Joint, position: Array, extra: Extra, data: Data) -> Array:
    """Of every variable, and of every parameter with every other variable; of labels, also how many there are
    and how many follow one of their kind."""
    seen = (jnp.asarray(data[joint.observed]) - joint.center) / joint.scale
    labels = [value.astype(float) - 0.5 for value in extra.values()]
    others = jnp.concatenate([seen, *labels])
    standard = position / jnp.asarray(joint.units) if joint.units else position
    everything = jnp.concatenate([standard, others])
    products = standard[:, None] * everything
    among = jnp.concatenate([seen * value for value in labels] or [jnp.zeros(0)])
    shares = [part.mean() * standard for v in labels for part in (2 * v, 4 * v[1:] * v[:-1])]
    among = jnp.concatenate([among, *shares])
    return jnp.concatenate(
        [jnp.tanh(everything), jnp.exp(-0.5 * everything**2), jnp.tanh(products).ravel(), jnp.tanh(among)]
    )
