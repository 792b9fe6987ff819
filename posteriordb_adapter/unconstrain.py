"""Reference draws brought to a Stan model's unconstrained scale.

References hold constrained parameters, some of them transformed ones in place of the model's own:
the eight schools' ``theta`` and not the standardized effects that ``theta`` is made from. What is
missing is solved for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..models.names import from_dots, split_name
from ..models.target import Target
from .draws import ReferenceDraws, comparable
from .errors import UnmappedReference

MAX_ITERATIONS = 20
TOLERANCE = 1e-6
"""Largest accepted misfit of a transformed parameter, in its standard deviations."""
_DIFFERENCE = 1e-6


class Unconstrained(NamedTuple):
    """Draws on the unconstrained scale, and those that are not in the model's support."""

    draws: np.ndarray
    """``f[chain, draw, dim]``; NaN where a draw could not be mapped."""
    mapped: np.ndarray
    """``bool[chain, draw]``"""
    reason: str
    """Stan's message about the first draw that could not be mapped, empty if all could."""


class _Layout(NamedTuple):
    """How the reference's columns, the model's parameters and its coordinates correspond."""

    given: np.ndarray
    """``i[n_base]``: the reference's column of each of the model's own parameters, −1 if missing."""
    unknown: np.ndarray
    """``i[m]``: unconstrained coordinates of the variables that the reference does not hold in full."""
    matched: np.ndarray
    """``i[k]``: columns of ``target.constrain`` that must come out as the reference's."""
    wanted: np.ndarray
    """``i[k]``: the reference's columns for them."""
    missing: tuple[str, ...]
    """The variables solved for."""


def to_unconstrained(target: Target, reference: ReferenceDraws) -> Unconstrained:
    """Reference draws on the unconstrained scale of the target's Stan model.

    Where the reference holds every parameter of the model, each draw goes through Stan's own
    transform. Otherwise the missing variables are the solution of "the transformed parameters come
    out as in the reference", by Gauss–Newton steps with differences over the missing coordinates:
    one step where the map is affine in them.

    Raises
    ------
    UnmappedReference
        If the target has no Stan model, or the missing variables are not determined by what the
        reference holds; the message names them.
    """
    model = _stan_model(target)
    layout = _layout(target, model, reference)
    flat = reference.draws.reshape(-1, reference.draws.shape[-1])
    filler = target.constrain(np.zeros(target.dim))[: len(layout.given)]
    base = np.ascontiguousarray(np.where(layout.given < 0, filler, flat[:, layout.given]))
    x, reason = _unconstrain_each(model.param_unconstrain, base, target.dim)
    mapped = np.isfinite(x).all(-1)
    if layout.unknown.size and mapped.any():
        scale = flat.std(0)[layout.wanted]
        x[mapped] = _solve(target, reference, layout, x[mapped], flat[mapped][:, layout.wanted], scale)
    shape = reference.draws.shape[:2]
    return Unconstrained(x.reshape(*shape, target.dim), mapped.reshape(shape), reason)


def in_support(target: Target, names: Sequence[str]) -> Callable[[np.ndarray], np.ndarray]:
    """``f[n, parameter] -> bool[n]``: which constrained draws the target's Stan model accepts."""

    def accepts(draws: np.ndarray) -> np.ndarray:
        return to_unconstrained(target, ReferenceDraws("draws", tuple(names), draws[None])).mapped[0]

    return accepts


def names_to_keep(target: Target, dimensions: Mapping[str, int]) -> tuple[str, ...]:
    """The parameters that a reference of a Stan target should hold, in the target's order.

    The model's own, from which all else follows, and those that the posterior's ``dimensions`` speak
    of. Rounded draws of transformed parameters alone would not give the model's own back.
    """
    own = {from_dots(name) for name in _stan_model(target).param_names()}
    return tuple(n for n in target.param_names if n in own or split_name(n)[0] in dimensions)


def _stan_model(target: Target) -> Any:
    if not hasattr(target.model, "param_unconstrain"):
        raise UnmappedReference(
            f"target {target.name!r} has no Stan model to unconstrain reference draws with; make it with"
            " essper.models.from_stan"
        )
    return target.model


def _layout(target: Target, model: Any, reference: ReferenceDraws) -> _Layout:
    shared = comparable(target.param_names, reference).names
    base = [from_dots(name) for name in model.param_names()]
    coordinates = [split_name(from_dots(name))[0] for name in model.param_unc_names()]
    of_reference = {name: column for column, name in enumerate(reference.names)}
    missing = {split_name(name)[0] for name in base if name not in of_reference}
    known = {name for name in base if split_name(name)[0] not in missing}
    matched = [name for name in shared if name not in known]
    unknown = [i for i, variable in enumerate(coordinates) if variable in missing]
    if len(matched) < len(unknown):
        raise _undetermined(
            target, reference, missing, f"{len(matched)} values in it for {len(unknown)} unknown coordinates"
        )
    of_target = {name: column for column, name in enumerate(target.param_names)}
    return _Layout(
        given=np.array([of_reference[name] if name in known else -1 for name in base], dtype=int),
        unknown=np.array(unknown, dtype=int),
        matched=np.array([of_target[name] for name in matched], dtype=int),
        wanted=np.array([of_reference[name] for name in matched], dtype=int),
        missing=tuple(sorted(missing)),
    )


def _undetermined(
    target: Target, reference: ReferenceDraws, missing: Iterable[str], why: str
) -> UnmappedReference:
    return UnmappedReference(
        f"reference {reference.name!r} does not determine {', '.join(sorted(missing))} of {target.name!r}:"
        f" {why}; use a reference that holds these variables"
    )


def _unconstrain_each(
    unconstrain: Callable[[np.ndarray], np.ndarray], base: np.ndarray, dim: int
) -> tuple[np.ndarray, str]:
    x, reason = np.full((len(base), dim), np.nan), ""
    for i, draw in enumerate(base):
        try:
            x[i] = unconstrain(draw)
        except RuntimeError as error:
            reason = reason or str(error).strip()
        else:
            if not (reason or np.isfinite(x[i]).all()):
                reason = f"draw {i} is on the boundary of the support"
    return x, reason


def _solve(
    target: Target,
    reference: ReferenceDraws,
    layout: _Layout,
    x: np.ndarray,
    wanted: np.ndarray,
    scale: np.ndarray,
) -> np.ndarray:
    """``x`` with the unknown coordinates such that ``constrain(x)`` is ``wanted`` in the matched columns."""

    def value(x):
        return target.constrain(x)[..., layout.matched]

    x, m = x.copy(), layout.unknown.size
    tolerance = TOLERANCE * np.where(scale > 0, scale, 1.0)
    off = np.ones(len(x), dtype=bool)  # at least one step for all: only the Jacobian tells what is determined
    difference = 1.0  # exact for affine maps, and without their rounding error
    for _ in range(MAX_ITERATIONS):
        here = value(x[off])
        jacobian = _differences(value, x[off], here, layout.unknown, difference)
        if not np.isfinite(jacobian).all():
            break
        if (np.linalg.matrix_rank(jacobian) < m).any():
            raise _undetermined(target, reference, layout.missing, "what it holds does not depend on them")
        step = np.linalg.pinv(jacobian) @ (wanted[off] - here)[..., None]
        x[np.ix_(off, layout.unknown)] += step[..., 0]
        misfit = np.abs(wanted - value(x)) / tolerance
        off = ~(misfit <= 1.0).all(-1)
        if not off.any():
            return x
        difference = _DIFFERENCE
    raise _undetermined(
        target,
        reference,
        layout.missing,
        f"no values of them give its draws ({off.sum()} of {off.size} fail)",
    )


def _differences(
    value: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    here: np.ndarray,
    coordinates: np.ndarray,
    step: float,
) -> np.ndarray:
    """``f[n, k, m]``: derivatives of ``value(x[n, dim])[n, k]``, now ``here``, by the m coordinates."""
    columns = []
    for i in coordinates:
        moved = x.copy()
        moved[:, i] += step
        columns.append((value(moved) - here) / step)
    return np.stack(columns, -1)
