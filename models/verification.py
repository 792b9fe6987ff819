"""A lowered density is compared with Stan's before anybody uses it, once for each program with its data.

Points → the comparison (`agreement`) → an error, a warning or nothing; what passed is remembered in the
cache, so that the processes of a comparison do not all repeat it.
"""

from __future__ import annotations

import functools
import json
import os
import re
import uuid
import warnings
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .agreement import Agreement, ValueAndGrad, compare_densities, is_finite, stan_value_and_grad
from .cache import cache_dir
from .stan_source import Program, StanProgramError
from .target import Target, digest_of

POINTS = 8
"""At which a density is compared when its target is made."""
TRIES = 20
"""Directions in which such a point is looked for."""
HALVINGS = 30
TOLERANCE = 1e-8
ODE_TOLERANCE = 0.1
"""Of programs that solve an ODE. Stan's solver and this one's differ by their own errors, and the gradient's
error at Stan's default tolerances (1e-6, steps controlled on the states alone or with the sensitivities)
is orders of magnitude larger far from the posterior. With tolerances of 1e-10 in the program they agree
to about 1e-8."""
FLOAT32_TOLERANCE = 1e-3
"""Most programs lose one of float32's seven digits, a sum of terms that cancel loses more."""
FOLDER = "lowering"
"""In the cache: one file a verified density."""


class LoweringMismatch(StanProgramError):
    """A lowered density that is not Stan's. It is never used."""


def tolerance_for(program: Program, precision: str = "float64") -> float:
    """The relative error, in value and in gradient, up to which a lowered density counts as Stan's."""
    solves_ode = re.search(r"\b(integrate_ode\w*|ode_\w+)\s*\(", _without_comments(program.complete or ""))
    base = TOLERANCE if precision == "float64" else FLOAT32_TOLERANCE
    return max(base, ODE_TOLERANCE) if solves_ode else base


def _without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def as_given(points: np.ndarray, precision: str) -> np.ndarray:
    """Points as a density of that precision gets them, so that both sides are evaluated at the same."""
    return points.astype(precision).astype(float)


def finite_points(
    model: Any, n: int, precision: str = "float64", *, tries: int = TRIES, seed: int = 0
) -> np.ndarray:
    """Points at which Stan's log density and gradient are finite: ``f[k, dim]``, k ≤ n.

    Each is drawn from N(0, 1) and halved until it is one; k < n where ``tries`` draws did not give n.
    """
    random, found = np.random.default_rng(seed), []
    for _ in range(tries):
        direction = random.standard_normal(model.param_unc_num())
        for x in as_given(direction * 0.5 ** np.arange(HALVINGS)[:, None], precision):
            if is_finite(*stan_value_and_grad(model, x)[:2]):
                found.append(x)
                break
        if len(found) == n:
            break
    return np.array(found).reshape(len(found), model.param_unc_num())


def verify(value_and_grad: ValueAndGrad, stan: Target, program: Program, precision: str) -> Agreement:
    """Compare a lowered density with Stan's, unless that was done before; what is found is returned.

    Parameters
    ----------
    stan : the same program and data, evaluated by Stan

    Raises
    ------
    LoweringMismatch
        If the two differ by more than `tolerance_for` the program.
    """
    tolerance = tolerance_for(program, precision)
    file = _file(stan, precision, tolerance)
    known = _read(file)
    if known is not None:
        return known
    points = finite_points(stan.model, POINTS, precision)
    found = compare_densities(jax.jit(value_and_grad), stan.model, points, precision=precision)
    require_agreement(found, tolerance, program.name, precision)
    if found.compared < POINTS:  # no success to remember: the next process has to hear of it too
        warnings.warn(
            f"the lowered density of {program.name!r} was compared with Stan's at {found.compared} points"
            f" only: in {TRIES} directions no more were found where Stan's log density is finite"
            if found.compared
            else f"the lowered density of {program.name!r} has NOT been compared with Stan's: in {TRIES}"
            " directions no point was found where Stan's log density is finite",
            stacklevel=4,
        )
    else:
        _write(file, found)
    return found


def require_agreement(found: Agreement, tolerance: float, name: str, precision: str = "float64") -> None:
    """Raise `LoweringMismatch` where two densities differ by more than the tolerance."""
    if found.within(tolerance):
        return
    remedy = (
        "one of the two is wrong: hold both against bridgestan='build', use the one that agrees, and report"
        " the program"
    )
    if precision != "float64":
        remedy = f"{precision} may be too coarse for it: use precision='float64'"
    raise LoweringMismatch(
        f"the lowered density of {name!r} is not Stan's: {difference(found)}, and {tolerance:.0e} is"
        f" allowed; {remedy}"
    )


def difference(found: Agreement) -> str:
    """What is wrong about an agreement, in words: the largest errors and where."""
    if found.disputed:
        total = found.compared + found.rejected + found.disputed
        why = f" (Stan: {found.reason})" if found.reason else ""
        return f"only one of the two is finite at {found.disputed} of {total} points{why}"
    return (
        f"relative errors are up to {found.gradient_error:.1e} in the gradient and {found.value_error:.1e} in"
        f" the value over {found.compared} points (of Stan's own rounding: {found.largest_rounding:.1e})"
    )


# -- what is remembered ---------------------------------------------------------------------------


@functools.cache
def lowering_version() -> str:
    """Digest of the source files that decide what a lowered density computes, and of JAX's version."""
    here = Path(__file__).parent
    own = ("agreement.py", "chunks.py", "lowered.py", "target.py", "verification.py")
    files = [here / name for name in own]
    files += sorted(p for p in (here / "stan_to_jax").rglob("*") if p.suffix in (".py", ".lark"))
    return digest_of(jax.__version__, *(part for p in files for part in (p.name, p.read_bytes())))


def _file(stan: Target, precision: str, tolerance: float) -> Path | None:
    parts = (stan.digest, stan.backend, precision, str(tolerance), jax.default_backend(), lowering_version())
    name = digest_of(*parts)
    try:
        return cache_dir() / FOLDER / f"{name}.json"
    except OSError:
        return None


def _read(file: Path | None) -> Agreement | None:
    if file is None:
        return None
    with suppress(OSError, ValueError, TypeError):
        found = json.loads(file.read_text(encoding="utf-8"))
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
        return Agreement(**fields)
    return None


def _write(file: Path | None, found: Agreement) -> None:
    if file is None:
        return
    with suppress(OSError):
        file.parent.mkdir(exist_ok=True)
        part = file.with_suffix(f".{uuid.uuid4().hex[:8]}")
        part.write_text(json.dumps(asdict(found)), encoding="utf-8")
        os.replace(part, file)
