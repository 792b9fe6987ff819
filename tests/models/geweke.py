"""The joint-distribution test of Geweke (2004): parameters and data alternate, and nothing may move."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from essper.models.conditional import Conditional
from essper.models.conditionals.base import Derive
from jax import Array

type Extra = dict[str, Array]
type Data = dict[str, Any]
type Mistake = Callable[[Conditional, Array], Conditional]
"""``(conditional, amount f[]) -> conditional``: as it is where the amount is 0, wrong where it is 1. One
compiled program serves both."""

N, ROUNDS = 20_000, 3
BATCH = 2000
"""Chains that are stepped together."""
ROUNDING = 1e-12
"""Standard errors below this are of functions of what was not drawn: rounding may have a direction."""


@dataclass(frozen=True, eq=False)
class Joint:
    """A model as its Stan program states it, simulated independently of its conditionals."""

    derive: Derive
    prior: Callable[[Array], tuple[Array, Extra]]
    """``key -> (position, extra)``, an exact draw"""
    likelihood: Callable[[Array, Array, Extra], Data]
    """``(key, position, extra) -> data``, another"""
    mistakes: Mapping[str, Mistake]
    """By the name of the conditional"""
    observed: str
    """What in the data is drawn"""
    center: float = 0.0
    """About where that is"""
    scale: float = 1.0
    units: tuple[float, ...] = ()
    """Of the coordinates, about their standard deviations; 1 where none are given"""


def movement(joint: Joint, name: str, mistake: float = 0.0, *, seed: int = 0) -> float:
    """The largest |z| of the mean change of bounded functions, after one round and after all.

    A round draws all blocks of conditional ``name`` given the data, then the data given all. It leaves the
    joint distribution of parameters and data invariant, in which every chain starts.

    Parameters
    ----------
    mistake : how much of the conditional's mistake is made
    """
    number = list(joint.mistakes).index(name)
    keys = jax.random.split(jax.random.key(seed), N)
    changes = np.asarray(_program(joint)(keys, number, mistake))
    assert np.isfinite(changes).all()
    both = changes.reshape(N, -1)
    error = both.std(axis=0) / np.sqrt(N)
    moving = error > ROUNDING
    return float(np.abs(both.mean(axis=0)[moving] / error[moving]).max())


@cache
def _program(joint: Joint) -> Callable[[Array, int, float], Array]:
    """``(keys [n], number of the conditional, amount) -> f[n, 2, functions]``: changes after the first round
    and the last."""

    def chain(number: Array, amount: Array, key: Array) -> Array:
        start, first, key = jax.random.split(key, 3)
        position, extra = joint.prior(start)
        begun = position, extra, joint.likelihood(first, position, extra)

        def one(state: tuple, key: Array) -> tuple[tuple, tuple]:
            position, extra, data = state
            draw_key, data_key = jax.random.split(key)
            conditionals = joint.derive(data).blocks.conditionals
            draws = [
                partial(_all_blocks, mistake(conditionals[name], amount))
                for name, mistake in joint.mistakes.items()
            ]
            position, extra = jax.lax.switch(number, draws, draw_key, position, extra)
            after = position, extra, joint.likelihood(data_key, position, extra)
            return after, after

        _, states = jax.lax.scan(one, begun, jax.random.split(key, ROUNDS))
        compared = jax.tree.map(lambda a, b: jnp.stack([a, b[0], b[-1]]), begun, states)
        values = jax.vmap(partial(_functions, joint))(*compared)
        return values[1:] - values[0]

    def run(keys: Array, number: Array, amount: Array) -> Array:
        return jax.lax.map(partial(chain, number, amount), keys, batch_size=BATCH)

    return jax.jit(run)


def _all_blocks(conditional: Conditional, key: Array, position: Array, extra: Extra) -> tuple[Array, Extra]:
    def one(block: Array, now: tuple[Array, Extra]) -> tuple[Array, Extra]:
        return conditional.draw(jax.random.fold_in(key, block), block, *now)

    return jax.lax.fori_loop(0, conditional.size, one, (position, extra))


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
