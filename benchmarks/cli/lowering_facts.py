"""What lowering a Stan program to JAX gives, as plain values; how it is shown is not known here."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...models.agreement import ValueAndGrad
    from ...models.lowered import LoweredTarget
    from ...models.stan_source import Program
    from ...models.stan_to_jax import LoopReport, Lowered
    from ...models.target import Target

MODES = ("batch", "scan", "unroll")
"""In the order in which they are tried."""


@dataclass(frozen=True)
class SetUp:
    """Seconds that it takes until a density can be evaluated, Stan's own part left out."""

    parse: float
    """Reading the program, transformed data included."""
    trace: float
    """From the program to a jaxpr, value and gradient."""
    compile: float

    @property
    def total(self) -> float:
        return self.parse + self.trace + self.compile


@dataclass(frozen=True)
class Parameter:
    """A declared parameter."""

    name: str
    type: str
    """With its sizes: ``array[2] vector<lower>[3]``."""
    unconstrained: int
    """Coordinates that it has."""


@dataclass(frozen=True)
class Loop:
    """How one loop was compiled."""

    file: str
    line: int
    variable: str
    iterations: int
    mode: str
    reason: str


def lowered_in_time(
    program: Program, data: dict[str, Any], stan: Target, precision: str
) -> tuple[LoweredTarget, ValueAndGrad, SetUp]:
    """A program lowered, its value and gradient compiled for one point, and the time that both took.

    Raises
    ------
    StanProgramError, StanDataError
        As `essper.models.lowered.lowered_target`.
    """
    import jax
    import jax.numpy as jnp

    from ...models.lowered import target_of
    from ...models.stan_to_jax import lower

    moments = [time.perf_counter()]
    lowered = lower(program, data, precision=precision)  # pyright: ignore[reportArgumentType]
    moments.append(time.perf_counter())
    target = target_of(lowered, stan)
    traced = jax.jit(target.value_and_grad).trace(jnp.zeros(target.dim))
    moments.append(time.perf_counter())
    compiled = traced.lower().compile()
    moments.append(time.perf_counter())
    parse, trace, compile = (b - a for a, b in itertools.pairwise(moments))
    return target, compiled, SetUp(parse, trace, compile)


def parameters_of(lowered: Lowered) -> tuple[Parameter, ...]:
    """The parameters as declared, sizes evaluated."""
    from ...models.stan_to_jax.syntax import Declaration

    bounds = {
        node.name: [name for name, _ in node.type.constraints]
        for node in lowered.program.parameters
        if isinstance(node, Declaration)
    }
    return tuple(
        Parameter(
            block.name,
            _spelled(block.declared.base, block.declared.arrays, block.declared.dims, bounds[block.name]),
            block.size,
        )
        for block in lowered.parameters
    )


def _spelled(base: str, arrays: Sequence[int], dims: Sequence[int], bounds: Sequence[str]) -> str:
    array = f"array[{', '.join(map(str, arrays))}] " if arrays else ""
    sizes = f"[{', '.join(map(str, dims))}]" if dims else ""
    return f"{array}{base}{f'<{", ".join(bounds)}>' if bounds else ''}{sizes}"


def loops_of(reports: Iterable[LoopReport]) -> tuple[Loop, ...]:
    """The loops in the order of execution."""
    return tuple(
        Loop(
            report.position.file,
            report.position.line,
            report.variable,
            report.iterations,
            report.mode,
            report.reason,
        )
        for report in reports
    )


def loop_modes(loops: Iterable[Loop]) -> str:
    """``"batch 3, scan 1"``; ``"none"`` without loops."""
    counts = Counter(loop.mode for loop in loops)
    order = (*MODES, *sorted(counts.keys() - set(MODES)))
    return ", ".join(f"{mode} {counts[mode]}" for mode in order if counts[mode]) or "none"
