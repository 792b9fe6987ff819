"""How the chains of a run are executed together, and which way a run takes.

``"lockstep"``
    One program, vmapped over the chains. Every lane evaluates the density whenever one does: right
    where all steps cost the same, and the only sensible way on an accelerator.
``"masked"``
    The same, except that a lane whose result is not wanted is left out by the density. Kernels say
    so with every evaluation (``active``, see `Density.value_and_grad`); the density has to listen.
``"independent"``
    One program per chain, called from Python threads.

In the first two the chains are one group and adapt together; in the last each adapts on its own. On a
CPU many chains make several groups of one size, each called from a thread of its own, so that all cores
are used whatever the density is.
The choice follows from the configuration, the target and the platform, never from a clock, so that
the same cell gives the same draws. docs/performance.md has the measurements behind it.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any, Literal

import jax
import numpy as np
from jax import Array

from ..models.target import Density, Target
from .programs import KernelSampler, trace_step

Layout = Literal["lockstep", "masked", "independent"]
Execution = Literal["auto", "lockstep", "masked", "independent"]
"""What a user can ask for; ``"auto"`` leaves it to `choose_layout`."""

EXECUTIONS = ("auto", "lockstep", "masked", "independent")
GROUP = 64
"""Chains that move together on a CPU, at most: enough to fill its vectors, few enough to share its cores."""
IDLE = 1.01
"""Evaluations per gradient reported beyond which lockstep chains are said to have idled."""


def choose_layout(sampler: KernelSampler, target: Target) -> Layout:
    """The layout of a run: what the configuration asks for, or else by the rule.

    On an accelerator chains run in lockstep, and so they do on a CPU where all steps cost the same.
    Other chains run as a masked batch where kernel and density allow it, else independently.

    Raises
    ------
    ValueError
        If ``execution`` is no layout, or asks for a mask that the kernel or the density does not know.
    """
    execution = sampler.execution
    if execution not in EXECUTIONS:
        raise ValueError(f"execution={execution!r}: give one of {', '.join(EXECUTIONS)}")
    if execution == "auto":
        if sampler.equal_steps or jax.default_backend() != "cpu":
            return "lockstep"
        return "independent" if _why_not_masked(sampler, target) else "masked"
    if execution == "masked" and (reason := _why_not_masked(sampler, target)):
        raise ValueError(f"execution='masked' is not possible: {reason}; give 'independent' or 'lockstep'")
    return execution


def _why_not_masked(sampler: KernelSampler, target: Target) -> str:
    """``""`` where chains can run as a masked batch."""
    if target.density.masked is None:
        return f"the density of {target.name} ({target.backend}) cannot leave out evaluations"
    if not masks_its_steps(sampler, target.dim):
        return f"a step of {type(sampler).__name__} does not say of every evaluation whether it is wanted"
    return ""


@functools.lru_cache(maxsize=128)
def masks_its_steps(sampler: KernelSampler, dim: int) -> bool:
    """Whether every evaluation in a step of the kernel comes with its ``active``; found by tracing."""
    without: list[None] = []

    def masked(_: Any, x: Array, __: Array) -> tuple[Array, Array]:
        return x.sum(), x

    def fused(_: Any, x: Array) -> tuple[Array, Array]:
        without.append(None)
        return x.sum(), x

    trace_step(sampler, Density(fused, lambda _, x: x.sum(), (), masked), dim, without.clear)
    return not without


def group_sizes(layout: Layout, chains: int) -> list[int]:
    """How many chains each group has, whatever the number of cores; sizes differ by one at most."""
    if layout == "independent":
        return [1] * chains
    groups = -(-chains // GROUP) if jax.default_backend() == "cpu" else 1
    return [chains // groups + (i < chains % groups) for i in range(groups)]


def density_for(layout: Layout, density: Density) -> Density:
    """The density as a layout uses it: in lockstep every lane is active."""
    return replace(density, masked=None) if layout == "lockstep" else density


def idle_lanes(layout: Layout, evaluations: np.ndarray) -> tuple[str, ...]:
    """A sentence on what lockstep chains computed in vain, where they did.

    Parameters
    ----------
    evaluations : of every draw, ``i[chain, draw]``; a step computes in all chains at least as often as
        in its costliest one, and oftener where the kernel has several loops
    """
    if layout != "lockstep" or not evaluations.sum():
        return ()
    groups = np.split(evaluations, np.cumsum(group_sizes(layout, len(evaluations)))[:-1])
    executed = sum(len(group) * group.max(axis=0).sum() for group in groups) / evaluations.sum()
    if executed <= IDLE:
        return ()
    return (
        f"chains of unequal steps ran in lockstep and executed at least {executed:.2f} evaluations per "
        "one reported",
    )
