"""Stan posteriors as targets, evaluated by BridgeStan from inside compiled JAX programs.

A model becomes an integer id, passed to a C++ custom call as an operand (`ffi`). Where there is
no C++ compiler a Python callback does the same, some hundred times slower for small models.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .ffi.build import HandlerBuildError
from .ffi.callback import CallbackOracle
from .ffi.native import NativeOracle, load
from .ffi.oracle import require_x64
from .names import from_dots
from .stan_source import StanDataError as StanDataError
from .stan_source import StanProgramError as StanProgramError
from .stan_source import load_model, program_digest, read_data, read_program
from .target import Density, Target

Ffi = Literal["auto", "ffi", "callback"]


def from_stan(
    program: str | os.PathLike[str],
    data: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    backend: str = "auto",
    *,
    bridgestan: str | os.PathLike[str] = "auto",
    name: str | None = None,
    ffi: Ffi = "auto",
    parallel: bool = True,
) -> Target:
    """The posterior of a Stan program given data, on its unconstrained space.

    The log density includes the Jacobian of Stan's transforms and drops constants. An evaluation
    that fails (Stan throws, or the value or any element of the gradient is not finite) is (−inf, 0).
    The density lives as long as the target: keep the target while it is used.

    Parameters
    ----------
    program : the path of a ``.stan`` file, the program's text, or a library that BridgeStan compiled
        (``*_model.so``)
    data : a mapping, JSON text, or the path of a JSON file
    backend : ``"bridgestan"``, which is what ``"auto"`` chooses
    bridgestan : ``"auto"`` (BridgeStan's own build where ``$BRIDGESTAN`` names its sources, else
        stanli), ``"stanli"``, ``"build"`` (which may download BridgeStan), or the path of BridgeStan's
        sources or of the program's compiled library
    name : of the target; by default the file's
    ffi : ``"ffi"`` (compiles a C++ handler on first use), ``"callback"`` (through Python), or ``"auto"``
        (the first where it is available)
    parallel : whether a large batch may be split over XLA's threads, where the model allows it; the
        results are the same

    Raises
    ------
    StanProgramError, StanDataError
        If the program or the data are not accepted, with Stan's message.
    HandlerBuildError
        If ``ffi="ffi"`` and the handler is not available.
    RuntimeError
        If JAX's float64 mode is off.
    """
    if backend not in ("auto", "bridgestan"):
        raise ValueError(f"backend={backend!r} is not supported: use 'bridgestan' or 'auto'")
    require_x64()
    source = read_program(program, name)
    values = read_data(data, source.name)
    loaded = load_model(source, values, bridgestan)
    model = loaded.model
    if model.param_unc_num() == 0:
        raise StanProgramError(f"the program {source.name!r} has no parameters: there is nothing to sample")
    oracle = _oracle(model, ffi, parallel)
    return Target(
        name=source.name,
        dim=oracle.dim,
        density=Density(oracle.value_and_grad, oracle.value, oracle.operand, oracle.masked),
        param_names=tuple(from_dots(n) for n in model.param_names(include_tp=True)),
        constrain=oracle.constrain,
        digest=program_digest(source, values),
        backend=f"bridgestan ({loaded.origin}, {'ffi' if isinstance(oracle, NativeOracle) else 'callback'})",
        counter=oracle,
        model=model,
    )


def _oracle(model: Any, ffi: Ffi, parallel: bool) -> NativeOracle | CallbackOracle:
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
            _notice_callback(str(error))
    return CallbackOracle(model, thread_safe=thread_safe)


@functools.cache
def _notice_callback(reason: str) -> None:
    # Cached, so that a process says it once.
    warnings.warn(
        f"Stan models are called through Python, which is slow for small models: {reason}", stacklevel=4
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
