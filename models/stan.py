"""Stan posteriors as targets: one function, and what evaluates the density behind it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import jax

from .bridgestan import Ffi, bridgestan_target
from .hierarchy import HierarchyError
from .lowered import Chunk, Precision, lowered_target
from .stan_source import Program, read_data, read_program
from .target import Target
from .verification import LoweringMismatch

Backend = Literal["auto", "bridgestan", "jax"]
Resolved = Literal["bridgestan", "jax"]
BACKENDS = ("auto", "bridgestan", "jax")
PRECISIONS = ("float64", "float32")


def from_stan(
    program: str | os.PathLike[str],
    data: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    backend: Backend = "auto",
    *,
    bridgestan: str | os.PathLike[str] = "auto",
    name: str | None = None,
    ffi: Ffi = "auto",
    parallel: bool = True,
    precision: Precision = "float64",
    chunk: Chunk = "auto",
    rows: str | None = None,
    verify: bool = True,
    hierarchy: str | None = None,
) -> Target:
    """The posterior of a Stan program given data, on its unconstrained space.

    The log density includes the Jacobian of Stan's transforms and drops constants. An evaluation
    that fails (Stan throws, or the value or any element of the gradient is not finite) is (−inf, 0).
    The density lives as long as the target: keep the target while it is used.

    Whatever the backend, space, names, ``constrain`` and digest are the same, and Stan decides which
    programs and data are valid.

    Parameters
    ----------
    program : the path of a ``.stan`` file, the program's text, or a library that BridgeStan compiled
        (``*_model.so``)
    data : a mapping, JSON text, or the path of a JSON file
    backend : ``"bridgestan"`` evaluates Stan's own density, on a CPU; ``"jax"`` the program lowered to
        JAX, on any device; ``"auto"`` takes the first where JAX's default device is a CPU, else the second
    bridgestan : ``"auto"`` (BridgeStan's own build where ``$BRIDGESTAN`` names its sources, else
        stanli), ``"stanli"``, ``"build"`` (which may download BridgeStan), or the path of BridgeStan's
        sources or of the program's compiled library
    name : of the target; by default the file's
    ffi : only with Stan's density: ``"ffi"`` (compiles a C++ handler on first use), ``"callback"``
        (through Python), or ``"auto"`` (the first where it is available)
    parallel : only with Stan's density: whether a large batch may be split over XLA's threads, where the
        model allows it; the results are the same
    precision : ``"float32"``, only of a lowered density: it is evaluated in single precision, at points
        rounded to it. Points, values and gradients keep the caller's type
    chunk : only of a lowered density: points of a batch that are evaluated together: a number, None for all,
        ``"auto"`` (follows from the program, `essper.models.chunks.default_chunk`), or ``"tuned"`` (measured
        once on this machine). The last bits of results depend on it
    rows : only of a lowered density: the size that counts its data, as ``"N"``, or ``"auto"`` for the one
        that does. ``likelihood`` is then the log density as a prior and a sum over those rows, for
        minibatches, after a test that it is: that takes a few compilations
    verify : whether a lowered density is compared with Stan's, value and gradient, at a few points. What
        passed is remembered in the cache, for this version of the lowering
    hierarchy : the size that counts the data with parameters of their own, as ``"J"``, or ``"auto"`` for the
        one that does: parameters whose leading size it is are local, all others global, and datum k shows
        the k-th row of all data of that leading size, or a summary of the rows that belong to it
        (`essper.models.stan_to_jax.find_hierarchy`). The density and the digest do not depend on it. For
        anything else: ``dataclasses.replace(target, hierarchy=Hierarchy(…))``

    Returns
    -------
    a `Target`; a `LoweredTarget` if its density was lowered

    Raises
    ------
    StanProgramError, StanDataError
        If the program or the data are not accepted, with Stan's message.
    UnsupportedStanError
        If a construct of the program is not lowered; a StanProgramError.
    LoweringMismatch
        If the lowered density is not Stan's; a StanProgramError.
    FactorizationError
        If the log density is not a sum over ``rows``, with the reason and the choices there are.
    HierarchyError
        If no parameters belong to a datum each by that size, with the reason and the choices there are.
    HandlerBuildError
        If ``ffi="ffi"`` and the handler is not available.
    ValueError
        If an option is given that the backend does not have.
    RuntimeError
        If JAX's float64 mode is off, and ``precision`` is float64.
    """
    resolved = resolve_backend(backend, precision)
    foreign: dict[str, tuple[Any, Any]] = {"chunk": (chunk, "auto"), "rows": (rows, None)}
    if resolved == "jax":
        foreign = {"ffi": (ffi, "auto"), "parallel": (parallel, True)}
    for option, (given, default) in foreign.items():
        if given != default:
            raise ValueError(f"{_chosen(backend, resolved)} has no {option}={given!r}: leave it out")
    source = read_program(program, name)
    values = read_data(data, source.name)
    if resolved == "jax":
        target: Target = lowered_target(
            source,
            values,
            bridgestan=bridgestan,
            precision=precision,
            chunk=chunk,
            rows=rows,
            verified=verify,
        )
    else:
        target = bridgestan_target(source, values, bridgestan=bridgestan, ffi=ffi, parallel=parallel)
    return target if hierarchy is None else _with_hierarchy(target, source, values, hierarchy)


def _with_hierarchy(target: Target, program: Program, data: dict[str, Any], hierarchy: str) -> Target:
    from .stan_to_jax import find_hierarchy  # its grammar and tables: only where they are used

    try:
        found = find_hierarchy(program, data, None if hierarchy == "auto" else hierarchy)
    except HierarchyError as error:
        raise HierarchyError(
            f"{error}. To give one: dataclasses.replace(target, hierarchy=essper.models.Hierarchy(…))"
        ) from error
    if found.dim != target.dim:
        raise LoweringMismatch(
            f"{target.name!r} has dimension {target.dim}, its declarations were read as {found.dim}: leave"
            " hierarchy out, and report the program: this is a bug"
        )
    return replace(target, hierarchy=found)


def resolve_backend(backend: str = "auto", precision: str = "float64") -> Resolved:
    """What a backend stands for here: ``"auto"`` is Stan's own density on a CPU, else the lowered one.

    Raises
    ------
    ValueError
        If there is no such backend, or it does not compute in that precision.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is not supported: use 'auto', 'bridgestan' or 'jax'")
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r} is not supported: use 'float64' or 'float32'")
    on_cpu = backend == "auto" and jax.default_backend() == "cpu"
    resolved: Resolved = "bridgestan" if backend == "bridgestan" or on_cpu else "jax"
    if resolved == "bridgestan" and precision != "float64":
        raise ValueError(
            f"{_chosen(backend, resolved)} computes in float64: {precision} needs the backend 'jax'"
        )
    return resolved


def _chosen(backend: str, resolved: str) -> str:
    return f"the backend {backend!r}" + ("" if backend == resolved else f" (here {resolved!r})")
