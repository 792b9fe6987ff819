"""Stan posteriors as targets whose density is the program itself, lowered to JAX (`stan_to_jax`).

Stan stays the authority: it says whether program and data are valid, which names and dimension there
are, and how points are constrained; and the lowered density is compared with Stan's (`verification`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp

from .agreement import Agreement
from .bridgestan import bridgestan_target
from .chunk_tuning import tuned_chunk
from .chunks import LogDensity, chunked, default_chunk
from .stan_source import Program, StanProgramError
from .target import Target, digest_of
from .verification import POINTS, LoweringMismatch, finite_points, verify

if TYPE_CHECKING:
    from .stan_to_jax import Lowered

Precision = Literal["float64", "float32"]
Chunk = int | Literal["auto", "tuned"] | None


@dataclass(frozen=True, eq=False, repr=False)
class LoweredTarget(Target):
    """A Stan posterior whose density is JAX's; ``model`` is Stan's model of the same program and data."""

    lowered: Lowered = None  # pyright: ignore[reportAssignmentType]  (fields with defaults come before)
    """The program as a JAX function; ``lowered.explain()`` says how its loops were compiled."""
    chunk: int | None = None
    """Points that are evaluated together of a batch; None: all of them (`chunks`)."""
    agreement: Agreement | None = None
    """With Stan's density, as found when the target was made (or before, on this machine); None where
    that was not asked for."""


def lowered_target(
    program: Program,
    data: dict[str, Any],
    *,
    bridgestan: str | os.PathLike[str] = "auto",
    precision: Precision = "float64",
    chunk: Chunk = "auto",
    rows: str | None = None,
    verified: bool = True,
) -> LoweredTarget:
    """The posterior of a Stan program given data, its density lowered to JAX.

    Parameters as in `essper.models.from_stan`; program and data have been read already.

    Raises
    ------
    UnsupportedStanError
        If the program has a construct that is not lowered, with its place.
    LoweringMismatch
        If the lowered density is not Stan's.
    FactorizationError
        If it is not a sum over ``rows``.
    StanProgramError, StanDataError
        If Stan accepts the program or the data not.
    RuntimeError
        If JAX's float64 mode is off and ``precision`` is float64.
    """
    from .stan_to_jax import factorize, lower  # its grammar and tables: only where they are used

    if precision == "float64" and not jax.config.read("jax_enable_x64"):
        raise RuntimeError(
            "precision='float64' needs JAX's float64 mode, which is off: remove "
            "jax.config.update(\"jax_enable_x64\", False), or ask for precision='float32'"
        )
    if program.text is None:
        raise StanProgramError(
            f"the program {program.name!r} is a compiled library, which cannot be lowered to JAX: give its"
            " .stan file, or use backend='bridgestan'"
        )
    stan = stan_side(program, data, bridgestan)
    lowered = lower(program, data, precision=precision)
    target = target_of(lowered, stan, chunk)
    if rows is not None:
        target = replace(target, likelihood=factorize(lowered, None if rows == "auto" else rows))
    if not verified:
        return target
    return replace(target, agreement=verify(target.value_and_grad, stan, program, precision))


def stan_side(program: Program, data: dict[str, Any], bridgestan: str | os.PathLike[str] = "auto") -> Target:
    """The same posterior with Stan's own density: what all but the density is taken from."""
    with jax.enable_x64(True):  # whatever the mode: it is called by this process only, not by programs
        return bridgestan_target(program, data, bridgestan=bridgestan, quiet=True)


def target_of(lowered: Lowered, stan: Target, chunk: Chunk = "auto") -> LoweredTarget:
    """The target of a lowered program, not compared with Stan's yet. Traces the density.

    Raises
    ------
    UnsupportedStanError
        If the program has a construct that is not lowered.
    LoweringMismatch
        If the dimensions differ.
    """
    if lowered.dim != stan.dim:
        raise LoweringMismatch(
            f"the lowered density of {stan.name!r} has dimension {lowered.dim}, Stan's {stan.dim}; use"
            " backend='bridgestan', and report the program: this is a bug"
        )
    log_density = jax.jit(lowered.log_density)  # interpreted once for all the programs that it is part of
    jax.eval_shape(jax.grad(log_density), jax.ShapeDtypeStruct((stan.dim,), jnp.zeros(0).dtype))
    found = _chunk(chunk, log_density, stan, lowered.precision)
    own = {
        "density": chunked(log_density, found),
        "backend": f"jax (lowered, {lowered.precision})",
        "counter": None,
    }
    inherited = {field.name: getattr(stan, field.name) for field in fields(Target)}
    return LoweredTarget(**inherited | own, lowered=lowered, chunk=found)


def _chunk(chunk: Chunk, log_density: LogDensity, stan: Target, precision: Precision) -> int | None:
    if chunk == "auto":
        return default_chunk(log_density, stan.dim)
    if chunk != "tuned":
        if chunk is not None and (not isinstance(chunk, int) or chunk < 1):
            raise ValueError(f"chunk={chunk!r}: give a number of points, None, 'auto' or 'tuned'")
        return chunk
    points = finite_points(stan.model, POINTS, precision)
    if not len(points):
        raise ValueError(
            f"chunk='tuned' cannot be measured for {stan.name!r}: no point of finite density was found; give"
            " 'auto' or a number"
        )
    return tuned_chunk(log_density, stan.dim, points, digest=digest_of(stan.digest, precision)).chunk
