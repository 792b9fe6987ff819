"""Federated stochastic gradient Langevin dynamics: data in shards, the chain at one shard at a time.

Rows are divided into shards s = 1 … S of N_s rows. A round takes the chain to shard s with probability f_s;
there it makes T steps of SGLD with gradients of this shard alone, m rows of it at a time (Ahn, Shahbaba &
Welling 2014, ICML: DSGLD),

    ĝ_s(θ) = ∇ log prior(θ) + N_s/(f_s m) Σ_{i∈B} ∇ℓ_i(θ),        B: m rows of shard s, with replacement.

Averaged over shards it is ∇ log p, yet for T steps on end it pulls to the shard's own mode: the more, the
longer a round. *Conducive gradients* take this pull back (El Mekkaoui, Mesquita, Blomstedt & Kaski 2021, UAI:
FSGLD):

    ĝ_s(θ) + ∇ log q(θ) − ∇ log q_s(θ)/f_s,      q = Π_s q_s,

of mean 0 over shards. q_s is a Gaussian approximation of the shard's *likelihood*, made once: here the
expansion of its logarithm to second order at the point θ̂ where the chain starts,
∇ log q_s(θ) = ∇L_s(θ̂) + ∇²L_s(θ̂)(θ − θ̂). Only this gradient is used, so that nothing need be positive
definite; where likelihoods are Gaussian it is exact. Elsewhere it holds near θ̂: far from there the conducive
gradient grows on as a Gaussian's does where the likelihood's gradient may not, and long rounds at a shard
unlike the others can carry a chain away.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import index
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .base import Cost
from .sgld import SGLD
from .stochastic.estimators import Estimator
from .stochastic.problem import Problem
from .stochastic.settings import Gradients

DEALT = ("contiguous", "shuffled")
PROBABILITIES = ("uniform", "sizes")


@dataclass(frozen=True)
class Division:
    """Which rows are in which shard, whatever their number is."""

    shards: int
    dealt: Literal["contiguous", "shuffled"]
    shuffle_seed: int
    members: tuple[tuple[int, ...], ...] | None

    def of(self, n: int) -> list[np.ndarray]:
        """The rows of every shard, ``S × i[N_s]``; sizes differ by one at most unless shards are given.

        Raises
        ------
        ValueError
            If there are fewer rows than shards, or the given shards are no partition of n rows.
        """
        if self.members is not None:
            given = [np.asarray(shard, np.int64) for shard in self.members]
            if not np.array_equal(np.sort(np.concatenate(given)), np.arange(n)):
                raise ValueError(
                    f"members: {len(given)} shards name {sum(map(len, given))} rows; each of 0 … {n - 1}"
                    " must be in exactly one shard"
                )
            return given
        if self.shards > n:
            raise ValueError(
                f"shards={self.shards}, but the data have {n} rows: give no more shards than rows"
            )
        order = np.arange(n)
        if self.dealt == "shuffled":
            order = np.random.default_rng(self.shuffle_seed).permutation(n)
        return np.array_split(order, self.shards)

    def probabilities(self, n: int, kind: Literal["uniform", "sizes"]) -> np.ndarray:
        """f_s, ``f[S]``."""
        sizes = np.array([len(rows) for rows in self.of(n)], float)
        return sizes / n if kind == "sizes" else np.full(len(sizes), 1 / len(sizes))


class Conducive(NamedTuple):
    """∇ log q − ∇ log q_s/f_s of every shard, which is linear in θ."""

    center: Array
    """θ̂, ``f[dim]``"""
    gradient: Array
    """At θ̂, ``f[S, dim]``"""
    slope: Array
    """Its Jacobian, ``f[S, dim, dim]``"""

    def at(self, shard: Array, position: Array) -> Array:
        return self.gradient[shard] + self.slope[shard] @ (position - self.center)


class Visiting(NamedTuple):
    """What a chain takes along."""

    key: Array
    """Together with a round's number it says which shard is visited."""
    conducive: Conducive | None


@dataclass(frozen=True)
class ShardGradients:
    """Estimates of ∇ log p from the shard that the chain is visiting; an `Estimator`."""

    division: Division
    probabilities: Literal["uniform", "sizes"]
    local_steps: int
    """T, steps in a round"""
    conducive: bool
    batch: int | None
    """m; None for all rows of the shard, each once"""
    dim: int

    def start(self, problem: Problem, key: Array, position: Array) -> Visiting:
        if not self.conducive:
            return Visiting(key, None)
        gradients, hessians = shard_expansions(problem, self.division.of(problem.n), position)
        scale = 1 / jnp.asarray(self.division.probabilities(problem.n, self.probabilities))
        return Visiting(
            key,
            Conducive(
                position,
                gradients.sum(0) - scale[:, None] * gradients,
                hessians.sum(0) - scale[:, None, None] * hessians,
            ),
        )

    def estimate(
        self, problem: Problem, key: Array, state: Visiting, position: Array, number: Array
    ) -> tuple[Array, Visiting]:
        shard = self.visited(problem, state.key, number // self.local_steps)
        return self.gradient(problem, state, position, shard, self.rows(problem, key, shard)), state

    def visited(self, problem: Problem, key: Array, round_number: Array) -> Array:
        """The shard of a round: ``i[]``."""
        ends = np.cumsum(self.division.probabilities(problem.n, self.probabilities))
        drawn = jax.random.uniform(jax.random.fold_in(key, round_number))
        # The last end is 1 up to rounding: only the ends between shards are looked at.
        return jnp.searchsorted(jnp.asarray(ends[:-1]), drawn, side="right")

    def rows(self, problem: Problem, key: Array, shard: Array) -> Array:
        """A batch of a shard: ``i[m]``, with replacement, or all of it."""
        shards = self.division.of(problem.n)
        if self.batch is None:
            return jnp.asarray(np.stack(shards))[shard]
        sizes = np.array([len(rows) for rows in shards])
        first, size = jnp.asarray(np.cumsum(sizes) - sizes)[shard], jnp.asarray(sizes)[shard]
        drawn = jax.random.randint(key, (self.batch,), 0, size)
        return jnp.asarray(np.concatenate(shards))[first + drawn]

    def gradient(
        self, problem: Problem, state: Visiting, position: Array, shard: Array, rows: Array
    ) -> Array:
        """The estimate from these rows of this shard: ``f[dim]``."""
        sizes = jnp.asarray([len(members) for members in self.division.of(problem.n)])
        probability = jnp.asarray(self.division.probabilities(problem.n, self.probabilities))[shard]
        scale = sizes[shard] / (probability * len(rows))

        def log_density(theta: Array) -> Array:
            return problem.log_prior(theta) + scale * problem.log_likelihood(theta, rows)

        found = jax.grad(log_density)(position)
        return found if state.conducive is None else found + state.conducive.at(shard, position)

    def start_cost(self, problem: Problem) -> int:
        return (1 + self.dim) * problem.n if self.conducive else 0

    def cost(self, problem: Problem, steps: int) -> int:
        return steps * (problem.n // len(self.division.of(problem.n)) if self.batch is None else self.batch)

    def communications(self, steps: int) -> int:
        shards = self.division.shards if self.division.members is None else len(self.division.members)
        return (shards if self.conducive else 0) + -(-steps // self.local_steps)


def shard_expansions(problem: Problem, shards: list[np.ndarray], position: Array) -> tuple[Array, Array]:
    """Gradient and Hessian of every shard's log likelihood at a point: ``f[S, dim], f[S, dim, dim]``.

    Forward over reverse: a gradient, and its derivative along each of dim directions, as much work as another
    gradient each: (1 + dim) n datum-gradients for all shards.
    """

    def one(rows: Array) -> tuple[Array, Array]:
        def twice(theta: Array) -> tuple[Array, Array]:
            gradient = jax.grad(problem.log_likelihood)(theta, rows)
            return gradient, gradient

        hessian, gradient = jax.jacfwd(twice, has_aux=True)(position)
        return gradient, hessian

    dim = len(position)
    gradients, hessians = jnp.zeros((len(shards), dim)), jnp.zeros((len(shards), dim, dim))
    sizes = np.array([len(rows) for rows in shards])
    for size in np.unique(sizes):  # one after the other: shards of a size share a program and its memory
        which = np.flatnonzero(sizes == size)
        found = lax.map(one, jnp.asarray(np.stack([shards[s] for s in which])))
        gradients, hessians = gradients.at[which].set(found[0]), hessians.at[which].set(found[1])
    return gradients, hessians


@dataclass(frozen=True)
class FederatedSGLD(SGLD):
    """SGLD on data in shards with conducive gradients; biased as SGLD is, hardly more for long rounds.

    The integrator, ``schedule``, ``temperature`` and ``gradients`` are those of `SGLD`; ``gradients.batch``
    rows are drawn from the shard. The rule for the step size knows the noise of minibatches and not that of
    shards, which conducive gradients take away; without them the inflation is more than
    ``schedule.inflation``.

    Costs: m datum-gradients a step; the approximations of all shards (1 + dim) n at the start. Rounds of
    communication are counted in `Cost.communications`: one per visit, even to the shard of the visit before,
    and one per shard for the approximations. Gradients of all rows at the start (the search of a mode, and of
    a step size) are counted as gradients and not as rounds.

    Parameters
    ----------
    shards : S.
    dealt : rows as they come (``"contiguous"``), or ``"shuffled"``, by ``shuffle_seed``.
    members : the rows of every shard, each row in exactly one, instead of ``shards`` that are dealt; any
        nesting of sequences, kept as tuples.
    local_steps : T, steps in a round.
    conducive : False leaves the conducive gradients out: `DistributedSGLD`.
    probabilities : of visits, f_s: ``"uniform"``, or ``"sizes"``, proportional to N_s.
    full_batches : every step takes all rows of the shard, once each, in place of ``gradients.batch``; shards
        must then be of one size, so that the cost of a step is known.
    """

    gradients: Gradients = field(default_factory=Gradients)
    shards: int = 10
    dealt: Literal["contiguous", "shuffled"] = "contiguous"
    shuffle_seed: int = 0
    members: tuple[tuple[int, ...], ...] | None = None
    local_steps: int = 10
    conducive: bool = True
    probabilities: Literal["uniform", "sizes"] = "uniform"
    full_batches: bool = False

    def __post_init__(self) -> None:
        if self.members is not None:
            object.__setattr__(self, "members", _as_tuples(self.members))
        if self.shards < 1:
            raise ValueError(f"shards={self.shards}: give at least one")
        if self.local_steps < 1:
            raise ValueError(f"local_steps={self.local_steps}: give at least one")
        if self.dealt not in DEALT:
            raise ValueError(f"dealt={self.dealt!r}: give one of {', '.join(DEALT)}")
        if self.probabilities not in PROBABILITIES:
            raise ValueError(f"probabilities={self.probabilities!r}: give one of {', '.join(PROBABILITIES)}")
        if self.gradients.estimator != "minibatch":
            raise ValueError(
                f"estimator={self.gradients.estimator!r} needs all rows in one place; give 'minibatch'"
            )

    def estimator(self, problem: Problem, positions: Array) -> tuple[Estimator, Cost]:
        division = Division(self.shards, self.dealt, self.shuffle_seed, self.members)
        sizes = {len(rows) for rows in division.of(problem.n)}
        if self.full_batches and len(sizes) > 1:
            raise ValueError(
                f"full_batches needs shards of one size, these have {min(sizes)} to {max(sizes)} rows: give "
                f"a number of shards that divides {problem.n}, or a batch"
            )
        batch = None if self.full_batches else self.gradients.batch
        dim = positions.shape[-1]
        estimator = ShardGradients(division, self.probabilities, self.local_steps, self.conducive, batch, dim)
        return estimator, Cost()


@dataclass(frozen=True)
class DistributedSGLD(FederatedSGLD):
    """FSGLD without its conducive gradients (Ahn, Shahbaba & Welling 2014): the baseline."""

    conducive: bool = False


def _as_tuples(members: Iterable[Iterable[int]]) -> tuple[tuple[int, ...], ...]:
    try:
        found = tuple(tuple(index(row) for row in shard) for shard in members)
    except (TypeError, ValueError):
        found = ()
    if not found or not all(found):
        raise ValueError(
            "members: give the row numbers of every shard, as ((0, 1), (2, 3)); none may be empty"
        )
    return found
