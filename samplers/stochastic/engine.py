"""Runs stochastic-gradient samplers: start, burn-in, draws, all of it counted.

Chains run by ``vmap`` in groups (`layouts.group_sizes`), each called from a thread; where JAX has several
devices, chains are sharded over them. A step's key follows from the chain's key and the step's number, so
that draws do not depend on how the work was cut into calls. The draws of all chains together are the
sample: a chain of SG-MCMC may well stay in one mode (a mixture over chains).

What a run costs is known beforehand but for the search of a mode, so that the number of steps is what the
budget leaves. Where a step comes out as not finite, the chain goes back to where it was a step before, which
is counted as divergent. The density is never evaluated: what it forbids by its value alone is not seen.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ...models.target import Target
from ..base import Budget, Cost, Info, Progress, Run, Timing, chain_keys
from ..layouts import group_sizes
from ..mode_search import Started
from ..timing import Clock, Program, worker_threads
from .accounting import affordable, after, equivalents, info_of
from .estimators import Estimator
from .plans import Plan
from .problem import Problem, problem_of
from .settings import Gradients, Schedule
from .start import started_chains

CALLS = 64
"""About as many calls does a run consist of, so that it can report and be interrupted."""
BUFFER = 64
"""Draws that one call can keep."""


class Step(NamedTuple):
    """What an integrator is told of one step."""

    size: Array
    """h, ``f[]``"""
    noise: Array
    """1 where noise is injected, 0 where the step only follows the gradient, ``f[]``"""
    temperature: Array
    """T of the whole density, ``f[]``"""


class Dynamics(Protocol):
    """One chain's integrator: pure functions, under ``jit`` and ``vmap`` too; equal if they do the same."""

    def start(self, key: Array, position: Array) -> Any:
        """Its own state at the start: a momentum, a preconditioner, or nothing."""
        ...

    def step(
        self, key: Array, state: Any, position: Array, gradient: Callable[[Array], Array], step: Step
    ) -> tuple[Any, Array]:
        """The next state and position; ``gradient(position)`` is the step's one estimate of ∇ log p."""
        ...


class StochasticSampler(Protocol):
    """What the engine needs of a sampler: a frozen configuration."""

    @property
    def gradients(self) -> Gradients: ...
    @property
    def schedule(self) -> Schedule: ...
    @property
    def temperature(self) -> float:
        """T of the whole density: samples p^(1/T)."""
        ...

    @property
    def dynamics(self) -> Dynamics: ...
    def estimator(self, problem: Problem, positions: Array) -> tuple[Estimator, Cost]:
        """What estimates the gradient, and what it cost each chain to make; ``positions: f[chain, dim]``."""
        ...

    def plan(self, steps: int) -> Plan: ...
    def first_step_size(self, size: Array) -> Array:
        """This integrator's h where SGLD's is ``size``."""
        ...


class Chains(NamedTuple):
    """Where a group of chains stands; leaves have a leading chain axis."""

    keys: Array
    position: Array
    before: Array
    """The position one step earlier: where a chain goes back to from where its gradient is not finite."""
    estimator: Any
    dynamics: Any
    divergent: Array
    """Steps not taken since the last draw, ``i[chain]``."""


def run_stochastic(
    sampler: StochasticSampler,
    key: Array,
    target: Target,
    budget: Budget,
    *,
    chains: int = 4,
    progress: Progress | None = None,
) -> Run:
    """Start, find a step size, burn in and draw until the budget is spent.

    Parameters
    ----------
    budget : gradients per chain; n datum-gradients are one. The mode, the step size and the burn-in are
        paid from it.

    Raises
    ------
    ValueError
        If the target is no sum over rows, no start is found, there is no step size, or the budget leaves
        no draw.
    """
    if chains < 1:
        raise ValueError(f"chains={chains}: at least one chain is needed")
    problem, clock = problem_of(target, sampler.gradients.likelihood_temperature), Clock()
    report = progress or (lambda phase, gradients, draws: None)
    keys = chain_keys(key, chains)
    started, step_size, spent = started_chains(sampler, problem, target, keys, clock)
    estimator, made = sampler.estimator(problem, started.position)
    spent = Cost(*(a + np.asarray(b) for a, b in zip(spent, made, strict=True)))
    steps = affordable(estimator, problem, budget, spent)
    plan = sampler.plan(steps)
    if not len(plan.kept):
        raise ValueError(
            f"a budget of {budget.gradients} gradients leaves no draw on {target.name}: the start spent "
            f"{equivalents(spent, problem.n).max():.0f} and {steps} steps remain; give a larger budget"
        )

    def costafter(number: int) -> Cost:
        return after(spent, estimator, problem, number)

    def told(phase: str, number: int, draws: int) -> None:
        report(phase, int(equivalents(costafter(number), problem.n).sum()), draws)

    draws, divergent = [], []
    with ThreadPoolExecutor(min(len(group_sizes("lockstep", chains)), worker_threads())) as pool:
        settings = step_size, jnp.asarray(sampler.temperature, float)
        programs = _programs(estimator, sampler.dynamics, plan.sizes)
        together = _Together(programs, problem, settings, clock, pool, keys, started.position)
        for first, every in _burn_in(plan.burn_in):
            together.advance(first, every, 1)
            told("warmup", first + every, 0)
        together.forget_divergences()
        warmup_seconds = clock.lap()
        for first, every, count in _stretches(plan):
            some, stayed = together.advance(first, every, count)
            draws.append(some)
            divergent.append(stayed)
            told("sampling", first + every * count, sum(map(len, draws)))
    warmup, total = costafter(plan.burn_in), costafter(int(plan.kept[-1]))
    info = info_of(estimator, problem, plan, np.concatenate(divergent).T)
    return Run(
        target=target,
        sampler=sampler,
        draws=np.swapaxes(np.concatenate(draws), 0, 1),
        info=info,
        warmup=warmup,
        sampling=Cost(*(a - b for a, b in zip(total, warmup, strict=True))),
        executed=None,
        timing=Timing(clock.compile_seconds, warmup_seconds, clock.lap()),
        layout="lockstep",
        tuning={"step_size": np.asarray(step_size)},
        warnings=_warnings(sampler, started, info),
        rows=problem.n,
    )


class _Together:
    """All groups of chains of a run."""

    def __init__(
        self,
        programs: Programs,
        problem: Problem,
        settings: tuple[Array, Array],
        clock: Clock,
        pool: ThreadPoolExecutor,
        keys: Array,
        positions: Array,
    ) -> None:
        self._map = pool.map
        self._run = functools.partial(programs.run, clock, problem)
        self._settings = settings
        ends = np.cumsum(group_sizes("lockstep", len(keys)))[:-1]
        parts = zip(jnp.split(keys, ends), jnp.split(positions, ends), strict=True)
        begun = (programs.begin(clock, problem, *map(_sharded, part)) for part in parts)
        self._groups: list[Chains] = [jax.tree.map(_sharded, group) for group in begun]

    def advance(self, first: int, every: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """``count`` draws, each after ``every`` steps: ``f[draw, chain, dim]``, and the steps not taken."""
        numbers = np.int64(first), np.int64(every), np.int64(count)
        results = list(self._map(lambda group: self._run(group, self._settings, *numbers), self._groups))
        # Compiled programs take what is sharded as it was when they were compiled: all leaves alike.
        self._groups = [jax.tree.map(_sharded, group) for group, _, _ in results]
        draws = np.concatenate([np.asarray(x)[:count] for _, x, _ in results], axis=1)
        return draws, np.concatenate([np.asarray(x)[:count] for _, _, x in results], axis=1)

    def forget_divergences(self) -> None:
        self._groups = [g._replace(divergent=jnp.zeros_like(g.divergent)) for g in self._groups]


# -- the loops ------------------------------------------------------------------------------------


class Programs(NamedTuple):
    begin: Program
    """``(problem, keys, positions) -> Chains``"""
    run: Program
    """``(problem, chains, (h, T), number, every, count) -> (Chains, f[draw, chain, dim], i[draw, chain])``"""


@functools.lru_cache(maxsize=128)
def _programs(estimator: Estimator, dynamics: Dynamics, sizes: Callable) -> Programs:
    return Programs(
        Program(functools.partial(_begin, estimator, dynamics)),
        Program(functools.partial(_run, estimator, dynamics, sizes)),
    )


def _begin(
    estimator: Estimator, dynamics: Dynamics, problem: Problem, keys: Array, positions: Array
) -> Chains:
    def one(key: Array, position: Array) -> Chains:
        first, second = jax.random.split(jax.random.fold_in(key, 1))
        own = estimator.start(problem, first, position), dynamics.start(second, position)
        return Chains(key, position, position, *own, jnp.int32(0))

    return jax.vmap(one)(keys, positions)


def _run(
    estimator: Estimator,
    dynamics: Dynamics,
    sizes: Callable[[Array, Array], tuple[Array, Array]],
    problem: Problem,
    chains: Chains,
    settings: tuple[Array, Array],
    first: Array,
    every: Array,
    count: Array,
) -> tuple[Chains, Array, Array]:
    """``count`` draws, one after ``every`` steps, beginning with step number ``first``."""
    first_size, temperature = settings

    def step(number: Array, chains: Chains) -> Chains:
        size, noise = sizes(number, first_size)

        def one(chain: Chains) -> Chains:
            key = jax.random.fold_in(jax.random.fold_in(chain.keys, 2), number)
            rows, moves = jax.random.split(key)
            states: list[Any] = []

            def gradient(position: Array) -> Array:
                found, state = estimator.estimate(problem, rows, chain.estimator, position, number)
                states.append(state)
                return found

            how = Step(size, noise, temperature)
            dynamics_state, position = dynamics.step(moves, chain.dynamics, chain.position, gradient, how)
            (estimator_state,) = states
            good = jnp.all(jnp.isfinite(position))
            moved = chain._replace(
                position=position,
                before=chain.position,
                estimator=estimator_state,
                dynamics=dynamics_state,
            )
            back = chain._replace(position=chain.before, divergent=chain.divergent + 1)
            return jax.tree.map(lambda new, old: jnp.where(good, new, old), moved, back)

        return jax.vmap(one)(chains)

    def draw(index: Array, carry: tuple[Chains, Array, Array]) -> tuple[Chains, Array, Array]:
        chains, draws, divergent = carry
        start = first + index * every
        chains = lax.fori_loop(start, start + every, step, chains)
        kept = draws.at[index].set(chains.position), divergent.at[index].set(chains.divergent)
        return chains._replace(divergent=jnp.zeros_like(chains.divergent)), *kept

    buffer = jnp.zeros((BUFFER, *chains.position.shape), chains.position.dtype)
    nothing = jnp.zeros((BUFFER, len(chains.divergent)), chains.divergent.dtype)
    return lax.fori_loop(0, count, draw, (chains, buffer, nothing))


def _burn_in(steps: int) -> list[tuple[int, int]]:
    """Calls of the loop: ``(number of the first step, steps)``."""
    every = max(1, steps // CALLS)
    return [(first, min(every, steps - first)) for first in range(0, steps, every)]


def _stretches(plan: Plan) -> list[tuple[int, int, int]]:
    """Calls of the loop: ``(number of the first step, steps a draw, draws)``."""
    kept = plan.kept
    gaps = np.diff(kept, prepend=plan.burn_in)
    longest = max(1, min(BUFFER, -(-len(kept) // CALLS)))
    out, start = [], 0
    while start < len(kept):
        end = start
        while end < min(len(kept), start + longest) and gaps[end] == gaps[start]:
            end += 1
        out.append((int(kept[start] - gaps[start]), int(gaps[start]), end - start))
        start = end
    return out


def _sharded(leaf: Array) -> Array:
    """The chains' axis spread over all devices, where they divide it."""
    devices = jax.local_devices()
    if len(devices) == 1 or len(leaf) % len(devices):
        return leaf
    # Left to the compiler: explicit axes do not mix with what programs make themselves.
    automatic = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((len(devices),), ("chains",), automatic, devices=devices)
    return jax.device_put(leaf, jax.NamedSharding(mesh, jax.P("chains")))


def _warnings(sampler: StochasticSampler, started: Started, info: Info) -> tuple[str, ...]:
    found = []
    if sampler.schedule.start == "mode" and not np.all(started.found):
        found.append("the search of a mode did not converge in some chains; they start where it ended")
    if stayed := int(np.sum(info.extra["steps_not_taken"])):
        found.append(f"{stayed} steps were not finite and not taken; a smaller step_size may help")
    return tuple(found)
