"""The hierarchy of a numpyro model: the latent sites of a plate, and what is observed in it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from numpyro.primitives import Messenger

from .hierarchy import Hierarchy, HierarchyError, columns
from .numpyro_model import NumpyroModel

Observed = Mapping[str, np.ndarray]
"""What is observed, by site."""


def plate_hierarchy(model: NumpyroModel, plate: str | None = None) -> Hierarchy | None:
    """The hierarchy by a plate: the latent sites in it are local, all others global.

    What datum k shows are the elements that belong to it of what is observed in the plate, and of those
    arrays among the model's arguments whose leading size is the plate's and that are not observed themselves.

    Parameters
    ----------
    plate : its name; ``"auto"`` for the only one with latent and observed sites; None for the same one if
        there is exactly one and it will do, else None is returned

    Raises
    ------
    HierarchyError
        If the plate will not do, with the reason.
    """
    if plate is not None and plate != "auto":
        return _by_plate(model, plate)
    candidates = [name for name, found in model.plates.items() if found.latent and found.observed]
    if len(candidates) == 1:
        try:
            return _by_plate(model, candidates[0])
        except HierarchyError:
            if plate is not None:
                raise
    elif plate is not None:
        choices = f": set hierarchy to {' or '.join(map(repr, candidates))}" if candidates else ""
        raise HierarchyError(f"{len(candidates)} plates have latent and observed sites{choices}")
    return None


def _by_plate(model: NumpyroModel, plate: str) -> Hierarchy:
    if plate not in model.plates:
        known = ", ".join(map(repr, model.plates)) or "none"
        raise HierarchyError(f"hierarchy={plate!r}: the model has no such plate; it has {known}")
    found = model.plates[plate]
    if not found.latent:
        raise HierarchyError(f"no latent site stands in the plate {plate!r}")
    if found.size < 2:
        raise HierarchyError(f"the plate {plate!r} has the size {found.size}")
    local, start = [], 0
    for latent in model.latents:
        places = start + np.arange(np.prod(latent.free, dtype=int)).reshape(latent.free)
        start += places.size
        if plate not in latent.plates:
            continue
        if len(latent.plates) > 1:
            raise HierarchyError(
                f"the latent site {latent.name!r} stands in several plates, {', '.join(latent.plates)}: whose"
                " it is cannot be told; write one of them as dimensions of the site, with to_event"
            )
        axis = latent.batch + latent.plates[plate]
        if latent.free[axis : axis + 1] != (found.size,):
            raise HierarchyError(
                f"the latent site {latent.name!r} in the plate {plate!r} has the unconstrained shape"
                f" {latent.free}, with no dimension of {found.size} for the plate"
            )
        local.append(np.moveaxis(places, axis, 0).reshape(found.size, -1))
    observed = model.observed_values()
    inputs = columns(_observations(model, plate, observed) | _arguments(model, found.size, observed))
    if not inputs:
        raise HierarchyError(
            f"nothing is observed in the plate {plate!r}, and no argument has the leading size {found.size}:"
            " its latent sites have no data of their own"
        )
    return Hierarchy(
        model.dim,
        np.concatenate(local, axis=1),
        np.stack(list(inputs.values()), axis=1),
        tuple(inputs),
        plate,
    )


def _observations(model: NumpyroModel, plate: str, observed: Observed) -> dict[str, np.ndarray]:
    """``f[n, …]`` by site; other dimensions of size 1 are left out."""
    found = {}
    for site in model.observed:
        if plate in site.plates:
            value = observed[site.name]
            value = np.broadcast_to(value, np.broadcast_shapes(value.shape, site.shape))
            rows = np.moveaxis(value, site.plates[plate] - site.event, 0)
            found[site.name] = rows.reshape(len(rows), *(size for size in rows.shape[1:] if size != 1))
    return found


def _arguments(model: NumpyroModel, n: int, observed: Observed) -> dict[str, np.ndarray]:
    """Arrays of numbers with the leading size ``n`` among the model's arguments, observed ones left out."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(_by_name(model))
    found: dict[str, np.ndarray] = {}
    for path, leaf in leaves:
        if not isinstance(leaf, np.ndarray | jax.Array) or leaf.shape[:1] != (n,):
            continue
        if not isinstance(leaf.dtype, np.dtype) or leaf.dtype.kind not in "biuf":
            continue  # keys of random numbers
        array = np.asarray(leaf)
        if not any(np.array_equal(array, other) for other in observed.values()):
            found[jax.tree_util.keystr(path, simple=True, separator=".")] = array
    return found


def _by_name(model: NumpyroModel) -> Mapping[str, Any]:
    fn: Any = model.model
    while isinstance(fn, Messenger):
        fn = fn.fn
    return dict(inspect.signature(fn).bind(*model.args, **model.kwargs).arguments)
