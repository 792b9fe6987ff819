"""Whether data, program and reference draws belong together, posterior by posterior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import one_line

if TYPE_CHECKING:
    from ...posteriordb_adapter import PosteriorDatabase

PASSED = "passed"
FAILED = "FAILED"
NO_REFERENCE = "no reference"
CANNOT_BUILD = "cannot build"


@dataclass(frozen=True)
class Checked:
    """The outcome for one posterior; figures are None where the check did not get that far."""

    name: str
    verdict: str
    reason: str = ""
    dim: int | None = None
    draws: int | None = None
    comparisons: int | None = None
    max_abs_z: float | None = None
    where: str | None = None
    """The unconstrained coordinate with the largest |z|."""
    threshold: float | None = None
    failed_draws: int | None = None

    @property
    def good(self) -> bool:
        """Whether nothing is wrong: no reference is no failure, for there is nothing to hold it against."""
        return self.verdict in (PASSED, NO_REFERENCE)


def require_posteriors(database: PosteriorDatabase, names: Sequence[str]) -> list[str]:
    """The posteriors that names or aliases stand for, each once.

    Raises
    ------
    PosteriorNotFound
        If one does not exist, before any work is done.
    """
    from ...posteriordb_adapter import DatabaseError, PosteriorNotFound

    found: list[str] = []
    for name in names:
        try:
            found.append(database.posterior(name).name)
        except PosteriorNotFound:
            raise
        except DatabaseError:  # it is there and broken: for the check to say
            found.append(name)
    return list(dict.fromkeys(found))


def check_posterior(database: PosteriorDatabase, name: str, bridgestan: str) -> Checked:
    """Build Stan's density and hold the reference draws against it by the score identity."""
    import jax

    from ...models import StanDataError, StanProgramError
    from ...posteriordb_adapter import DatabaseError, MissingReference, check_reference

    dim: int | None = None
    try:
        posterior = database.posterior(name)
        target = posterior.target("bridgestan", bridgestan)
        dim = target.dim
        reference = posterior.reference()
        with jax.default_device(jax.local_devices(backend="cpu")[0]):  # Stan runs on no other
            check = check_reference(target, reference)
    except MissingReference as error:
        return Checked(name, NO_REFERENCE, one_line(str(error)), dim)
    except (DatabaseError, StanDataError, StanProgramError) as error:
        return Checked(name, CANNOT_BUILD if dim is None else FAILED, one_line(str(error)), dim)
    return Checked(
        name=name,
        verdict=PASSED if check.passed else FAILED,
        reason="" if check.passed else check.summary(),
        dim=dim,
        draws=check.n_draws,
        comparisons=check.comparisons,
        max_abs_z=check.max_abs_z,
        where=_spelled(check.worst),
        threshold=check.threshold,
        failed_draws=len(check.failed),
    )


def _spelled(coordinate: str) -> str:
    from ...models.names import from_dots

    return from_dots(coordinate)
