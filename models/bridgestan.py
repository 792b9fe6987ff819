"""Stan posteriors as targets, evaluated by BridgeStan from inside compiled JAX programs.

A model becomes an integer id, passed to a C++ custom call as an operand (`ffi`). Where there is
no C++ compiler a Python callback does the same, some hundred times slower for small models.
"""

from __future__ import annotations

import functools
import os
import warnings
from dataclasses import dataclass
from typing import Any, Literal

from .ffi.build import HandlerBuildError
from .ffi.callback import CallbackOracle
from .ffi.native import NativeOracle, load
from .ffi.oracle import require_x64
from .names import from_dots
from .stan_source import Program, StanProgramError, load_model, program_digest
from .target import Density, Target

Ffi = Literal["auto", "ffi", "callback"]


def bridgestan_target(
    program: Program,
    data: dict[str, Any],
    *,
    bridgestan: str | os.PathLike[str] = "auto",
    ffi: Ffi = "auto",
    parallel: bool = True,
    quiet: bool = False,
) -> Target:
    """The posterior of a Stan program given data, its density evaluated by Stan itself.

    Parameters as in `essper.models.from_stan`; program and data have been read already. ``quiet`` leaves
    out the warning that Stan is called through Python, for targets whose density is not.

    Raises
    ------
    StanProgramError, StanDataError, HandlerBuildError, RuntimeError
        As `essper.models.from_stan`.
    """
    require_x64()
    loaded = load_model(program, data, bridgestan)
    model = loaded.model
    if model.param_unc_num() == 0:
        raise StanProgramError(f"the program {program.name!r} has no parameters: there is nothing to sample")
    oracle = _oracle(model, ffi, parallel, quiet)
    return Target(
        name=program.name,
        dim=oracle.dim,
        density=Density(oracle.value_and_grad, oracle.value, oracle.operand, oracle.masked),
        param_names=tuple(from_dots(n) for n in model.param_names(include_tp=True)),
        constrain=oracle.constrain,
        digest=program_digest(program, data),
        backend=f"bridgestan ({loaded.origin}, {'ffi' if isinstance(oracle, NativeOracle) else 'callback'})",
        counter=oracle,
        model=model,
    )


def _oracle(model: Any, ffi: Ffi, parallel: bool, quiet: bool) -> NativeOracle | CallbackOracle:
    # stanli spells this as BridgeStan does. Without it one autodiff stack serves all threads.
    thread_safe = "STAN_THREADS=true" in model.model_info()
    if ffi not in ("auto", "ffi", "callback"):
        raise ValueError(f"ffi={ffi!r} is not supported: use 'auto', 'ffi' or 'callback'")
    if ffi != "callback":
        try:
            return NativeOracle(model, thread_safe=thread_safe, parallel=parallel)
        except HandlerBuildError as error:
            if ffi == "ffi":
                raise
            if not quiet:
                _notice_callback(str(error))
    return CallbackOracle(model, thread_safe=thread_safe)


@functools.cache
def _notice_callback(reason: str) -> None:
    # Cached, so that a process says it once.
    warnings.warn(
        f"Stan models are called through Python, which is slow for small models: {reason}", stacklevel=5
    )


def last_error(target: Target) -> str:
    """What Stan said about the target's last evaluation that failed; ``""`` if none has."""
    if not isinstance(target.counter, (NativeOracle, CallbackOracle)):
        raise ValueError(f"{target!r} is not evaluated by Stan")
    return target.counter.last_error


@dataclass(frozen=True)
class FfiStatus:
    """How Stan models are called in this process, and why."""

    available: bool
    reason: str
    """Why not, ``""`` if available."""
    compiler: str
    library: str
    """The handler's path."""


def ffi_status() -> FfiStatus:
    """Whether the C++ handler is available; compiles it if need be."""
    try:
        found = load().handler
    except HandlerBuildError as error:
        return FfiStatus(False, str(error), "", "")
    return FfiStatus(True, "", found.compiler, str(found.path))
