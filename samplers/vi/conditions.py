"""Whether a map from data to factors can do what free factors do: what can be probed of a density.

Margossian & Blei 2024, section 3: an ideal inference function exists where one function takes every datum to
the optimal factor of its local parameters. Simple hierarchical models, p(θ) Π_k p(z_k | θ) p(x_k | z_k, θ),
always have one; where local parameters interact, as in a hidden Markov model, equal data can have different
optimal factors, and no function of a datum serves both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...models.target import Density, Target
from ..base import Cost
from .families import Locals
from .gaussian import Factors

PROBES = 24
"""A pair of data that interact is overlooked with probability 2 to minus this."""
SAME_FACTOR = 1e-6
"""Standard deviations, and logarithms of them: a difference of exact optima that counts as none."""
NOISE = 2.0
"""Times what two fits differ by: a difference of fitted optima that counts as none."""


@dataclass(frozen=True)
class Independence:
    """Whether, given global parameters, no datum's local parameters interact with another's.

    So it is in a simple hierarchical model, but also where a datum depends on another datum, which is then
    among the inputs that a map would need.
    """

    holds: bool | None
    """None where the density could not be evaluated, or there is one datum."""
    interaction: float
    """The largest change of a gradient when local parameters of other data move by about one standard
    deviation; nats per standard deviation"""
    text: str


@dataclass(frozen=True)
class SameInputs:
    """Whether data whose inputs are exactly equal have equal optimal factors."""

    holds: bool | None
    """None where all inputs differ, or fits are too few to tell noise from differences."""
    data: int
    """How many share their inputs with another."""
    groups: int
    mean_difference: float
    """The largest within a group, in standard deviations of the factors"""
    log_sd_difference: float
    text: str


@dataclass(frozen=True)
class SameModels:
    """Whether data whose inputs are exactly equal have the same density of their local parameters."""

    holds: bool | None
    """None where all inputs differ."""
    difference: float
    """The largest, between gradients at equal local parameters; nats per standard deviation"""
    text: str


@dataclass(frozen=True)
class Conditions:
    """Of an ideal map from data to factors."""

    locals_independent: Independence
    same_inputs_same_factors: SameInputs
    same_inputs_same_models: SameModels

    @property
    def text(self) -> str:
        found = self.locals_independent, self.same_inputs_same_models, self.same_inputs_same_factors
        return " ".join(condition.text for condition in found if condition.text)


def probe_conditions(
    target: Target, locals: Locals, optima: Sequence[Factors], exact: bool, key: Array
) -> tuple[Conditions, Cost]:
    """Probe a density about the best factorized Gaussian.

    Parameters
    ----------
    locals : with the inputs that the map is given
    optima : fits of F-VI, the best first; one where it is exact
    """
    first, second = jax.random.split(key)
    groups = _repeated(np.asarray(locals.inputs))
    independence = _independence(target.density, locals, optima[0], first)
    factors = _same_factors(locals, optima, exact, groups)
    models = _same_models(target.density, locals, optima[0], groups, second)
    return Conditions(independence, factors, models), Cost(gradients=2 * PROBES + (1 if groups else 0))


def _independence(density: Density, locals: Locals, about: Factors, key: Array) -> Independence:
    keys = jax.random.split(key, PROBES)
    good, change, size = (np.asarray(x) for x in _changes(density, locals, about, keys))
    if len(locals.places) < 2 or not good.any():
        what = "there is one datum" if len(locals.places) < 2 else "the density could not be evaluated"
        return Independence(None, float("nan"), f"Whether local parameters interact is not known: {what}.")
    change, size = float(change[good].max()), float(size[good].max())
    holds = change <= _rounding(about) * size
    text = (
        "Given global parameters, local ones of different data do not interact."
        if holds
        else "Given global parameters, local ones of different data interact (gradients change by up to"
        f" {change:.2g} nats per standard deviation): the best factor of a datum depends on other data."
    )
    return Independence(holds, change, text)


@jax.jit
def _changes(density: Density, locals: Locals, about: Factors, keys: Array) -> tuple[Array, Array, Array]:
    """Move the local parameters of a random half of the data; see how the gradients of the others change."""
    places, scale = locals.places, jnp.exp(about.log_scale)

    def probe(key: Array) -> tuple[Array, Array, Array]:
        where, which, far = jax.random.split(key, 3)
        point = about.loc + scale * jax.random.normal(where, scale.shape)
        moves = jax.random.bernoulli(which, shape=(len(places), 1))
        step = jnp.where(moves, scale[places] * jax.random.normal(far, places.shape), 0.0)
        (before, first), (after, second) = map(density.value_and_grad, (point, point.at[places].add(step)))
        change = jnp.abs(scale * (second - first))[places]
        sizes = jnp.abs(scale * first)[places].max() + change.max()
        return jnp.isfinite(before) & jnp.isfinite(after), jnp.where(moves, 0.0, change).max(), sizes

    return jax.lax.map(probe, keys)


def _same_factors(
    locals: Locals, optima: Sequence[Factors], exact: bool, groups: list[np.ndarray]
) -> SameInputs:
    data = sum(map(len, groups))
    if not groups:
        text = (
            "No two data have equal inputs: some map from data to factors always fits all of these, perhaps"
            " by memorizing them: data that are held out tell."
        )
        return SameInputs(None, 0, 0, float("nan"), float("nan"), text)
    loc, log_scale = (np.asarray(x)[np.asarray(locals.places)] for x in optima[0])
    scales = [np.exp(log_scale[group].mean(axis=0)) for group in groups]
    means = max(float((np.ptp(loc[g], axis=0) / s).max()) for g, s in zip(groups, scales, strict=True))
    logs = max(float(np.ptp(log_scale[group], axis=0).max()) for group in groups)
    limits = (SAME_FACTOR, SAME_FACTOR) if exact else _noise(locals, optima)
    holds = None if limits is None else means <= limits[0] and logs <= limits[1]
    measured = f"means by up to {means:.2g} standard deviations, logarithms of these by up to {logs:.2g}"
    verdict = {
        True: "have the same optimal factors: one map can serve them",
        False: "have different optimal factors: no map can serve them",
        None: "have optimal factors that one fit cannot tell apart from its noise; ask for more replicates",
    }[holds]
    text = f"{data} data that share their inputs with others {verdict} ({measured})."
    return SameInputs(holds, data, len(groups), means, logs, text)


def _noise(locals: Locals, optima: Sequence[Factors]) -> tuple[float, float] | None:
    """What counts as no difference of fitted means and of log scales, by what two fits differ in."""
    if len(optima) < 2:
        return None
    places = np.asarray(locals.places)
    (loc, log_scale), (other, other_log) = ([np.asarray(x)[places] for x in f] for f in optima[:2])
    means = np.abs(loc - other) / np.exp(log_scale)
    return NOISE * float(means.max()), NOISE * float(np.abs(log_scale - other_log).max())


def _same_models(
    density: Density, locals: Locals, about: Factors, groups: list[np.ndarray], key: Array
) -> SameModels:
    if not groups:
        return SameModels(None, float("nan"), "")
    gradients, size = (np.asarray(x) for x in _at_equal_locals(density, locals, about, key))
    difference = max(float(np.ptp(gradients[group], axis=0).max()) for group in groups)
    holds = difference <= _rounding(about) * float(size)
    text = (
        "Data with equal inputs have the same local model."
        if holds
        else "Data with equal inputs have different local models (gradients at equal local parameters differ"
        f" by up to {difference:.2g} nats per standard deviation): the inputs leave out what matters."
    )
    return SameModels(holds, difference, text)


@jax.jit
def _at_equal_locals(density: Density, locals: Locals, about: Factors, key: Array) -> tuple[Array, Array]:
    """Gradients where all data have the same local parameters, ``f[n, d]``, nats per standard deviation."""
    places = locals.places
    scale = jnp.exp(about.log_scale[places].mean(axis=0))
    point = about.loc + jnp.exp(about.log_scale) * jax.random.normal(key, about.loc.shape)
    common = point[places].mean(axis=0)
    gradient = scale * density.value_and_grad(point.at[places].set(common))[1][places]
    return gradient, jnp.abs(gradient).max()


def _repeated(inputs: np.ndarray) -> list[np.ndarray]:
    """Numbers of the data that share their inputs, group by group."""
    if not inputs.shape[1]:
        return [np.arange(len(inputs))] if len(inputs) > 1 else []
    _, group = np.unique(inputs, axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(group.ravel()))[:-1]
    return [members for members in np.split(order, ends) if len(members) > 1]


def _rounding(about: Factors) -> float:
    return float(np.sqrt(np.finfo(about.loc.dtype).eps))
