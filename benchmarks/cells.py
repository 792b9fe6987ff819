"""A cell: one sampler on one posterior with one seed. Its digest names its folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from ..models.factorization import FactorizationError
from ..models.hierarchy import HierarchyError
from ..models.lowered import Precision
from ..models.stan import Backend, Resolved, resolve_backend
from ..models.target import digest_of
from ..posteriordb_adapter import Posterior
from .specs import SamplerSpec

SCHEMA = 1
"""Version of the record; a change of meaning makes new cells."""


@dataclass(frozen=True)
class Cell:
    """What determines a run's draws, on one machine, byte for byte, and the verdict on them."""

    posterior: str
    target_digest: str
    """Of the program and the data."""
    reference_digest: str | None
    """Of the reference draws that it is held against; with other draws it is another cell."""
    spec: SamplerSpec
    seed: int
    budget: int
    """Evaluations per chain, warmup included: gradients, and a Gibbs sampler's densities and draws."""
    chains: int
    bridgestan: str
    """Where the Stan model comes from: ``auto``, ``stanli``, ``build`` or a path."""
    precision: Precision = "float64"
    """Of the density's arithmetic."""
    platform: str = "cpu"
    backend: Resolved = "bridgestan"
    """What evaluates the density: ``bridgestan`` or ``jax``; never ``auto``, which depends on the machine."""

    @property
    def digest(self) -> str:
        parts = {
            "schema": SCHEMA,
            "posterior": self.posterior,
            "target": self.target_digest,
            "reference": self.reference_digest,
            "sampler": self.spec.name,
            "config": self.spec.config,
            "seed": self.seed,
            "budget": self.budget,
            "chains": self.chains,
            "bridgestan": self.bridgestan,
            "precision": self.precision,
            "platform": self.platform,
        }
        if self.backend != "bridgestan":  # cells from before there was a choice keep their digests
            parts["backend"] = self.backend
        return digest_of(json.dumps(parts, sort_keys=True))

    @property
    def gradients(self) -> int:
        """An upper bound of its cost, up to one step a chain."""
        return self.budget * self.chains

    def description(self) -> dict[str, Any]:
        """The part of the record that is known before the cell runs."""
        return {
            "schema": SCHEMA,
            "digest": self.digest,
            "posterior": self.posterior,
            "sampler": {
                "name": self.spec.name,
                "label": self.spec.label,
                "config": self.spec.config,
            },
            "approximate": self.spec.approximate,
            "seed": self.seed,
            "chains": self.chains,
            "budget": self.budget,
            "bridgestan": self.bridgestan,
            "backend": self.backend,
            "precision": self.precision,
            "platform": self.platform,
            "digests": {"target": self.target_digest},
        }


def plan(
    posteriors: Iterable[Posterior],
    specs: Sequence[SamplerSpec],
    *,
    seeds: int,
    budget: int,
    chains: int,
    bridgestan: str = "auto",
    backend: Backend = "auto",
    precision: Precision = "float64",
) -> list[Cell]:
    """All cells of a comparison, seed by seed, every sampler with the same seeds, none twice.

    Cells next to each other differ in sampler or posterior, so that processes working side by side do
    not compile the same program at the same time; the next seed finds it compiled.

    Parameters
    ----------
    backend : what evaluates the densities; ``"auto"`` is settled here, for this machine. Stan's own
        density runs on the CPU, a lowered one on JAX's default device. Where it is settled as Stan's own,
        samplers that take minibatches still get the lowered density: only that one has rows.

    Raises
    ------
    DatabaseError
        If a posterior lacks its program or its data.
    ValueError
        If there is no such backend, it has no such precision, or it has no rows for a sampler that takes
        minibatches.
    FactorizationError
        If data of a posterior cannot be divided into the rows that such a sampler needs, as far as the
        declarations of its program tell; a ValueError.
    HierarchyError
        If a posterior has no parameters that belong to one datum each, or not by the size that is named, and
        a sampler needs them; a ValueError.
    """
    posteriors = list(posteriors)
    resolved = resolve_backend(backend, precision)
    batched = [spec for spec in specs if spec.needs_rows]
    if batched and backend == "bridgestan":
        raise ValueError(
            f"{batched[0].label} takes minibatches of data rows, and the backend 'bridgestan' evaluates a "
            "program on all of its data only: use --backend jax, or auto (which lowers the program for the "
            "samplers that need rows)"
        )
    for posterior in posteriors:
        for rows in dict.fromkeys(spec.rows for spec in batched if spec.rows):
            _check_rows(posterior, rows)
        for spec in specs:
            if spec.hierarchy:
                _check_hierarchy(posterior, spec.label, spec.hierarchy)
    digests = {posterior.name: _digests(posterior) for posterior in posteriors}

    def cell(name: str, spec: SamplerSpec, seed: int) -> Cell:
        target, reference = digests[name]
        density: Resolved = "jax" if spec.needs_rows else resolved
        platform = "cpu" if density == "bridgestan" else jax.default_backend()
        return Cell(
            name, target, reference, spec, seed, budget, chains, bridgestan, precision, platform, density
        )

    cells = (cell(name, spec, seed) for seed in range(seeds) for name in digests for spec in specs)
    return list({cell.digest: cell for cell in cells}.values())


def _check_rows(posterior: Posterior, rows: str) -> None:
    """Refuse a program in which nothing can count rows; that its density is a sum over them is tested later.

    Parameters
    ----------
    rows : the size that is to count them, or ``"auto"``
    """
    from ..models.stan_source import read_program
    from ..models.stan_to_jax.minibatch import (
        row_candidates,
        why_no_rows,
    )  # grammar and tables: not at start-up
    from ..models.stan_to_jax.parser import parse_program

    program = parse_program(read_program(posterior.program_path(), posterior.name))
    candidates = [candidate.size for candidate in row_candidates(program)]
    if rows == "auto":
        reason = (
            "" if candidates else "no int among the data is the leading size of data and sizes no parameter"
        )
    else:
        reason = why_no_rows(program, rows)
    if reason:
        choice = f"give rows={' or rows='.join(candidates)}" if candidates else "leave the posterior out"
        raise FactorizationError(
            f"{posterior.name} has no rows of data to make minibatches of: {reason}; {choice}"
        )


def _check_hierarchy(posterior: Posterior, sampler: str, hierarchy: str) -> None:
    """Refuse a posterior whose program and data have no such hierarchy: ``"auto"``, or by a size."""
    from ..models.stan_source import read_data, read_program
    from ..models.stan_to_jax import find_hierarchy  # grammar and tables: not at start-up

    program = read_program(posterior.program_path(), posterior.name)
    data = read_data(posterior.data_text(), posterior.name)
    try:
        find_hierarchy(program, data, None if hierarchy == "auto" else hierarchy)
    except HierarchyError as error:
        raise HierarchyError(
            f"{sampler} needs local parameters: {error}; otherwise leave the sampler or the posterior out"
        ) from error


def _digests(posterior: Posterior) -> tuple[str, str | None]:
    reference = posterior.reference().digest if posterior.has_reference else None
    return digest_of(posterior.program(), posterior.data_text()), reference
