"""Whether a posterior's program, lowered to JAX, is Stan's density, and what lowering it costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .errors import one_line
from .lowering_facts import SetUp, loop_modes, loops_of, lowered_in_time

if TYPE_CHECKING:
    import numpy as np

    from ...models.agreement import Agreement, ValueAndGrad
    from ...models.lowered import LoweredTarget
    from ...models.stan_source import Program
    from ...models.target import Target
    from ...posteriordb_adapter import Posterior, PosteriorDatabase

PASSED = "passed"
"""The lowered density is Stan's."""
MISMATCH = "MISMATCH"
FAILED = "FAILED"
"""The lowered density agrees with Stan's, and the reference draws are not its draws."""
UNSUPPORTED = "unsupported"
CANNOT_BUILD = "cannot build"
"""Stan itself does not accept program or data, or something of them is missing."""
NOT_COMPARED = "not compared"
"""No point of finite density was found."""
BROKEN = "BROKEN"
"""The lowering failed in a way that it should not."""
VERDICTS = (PASSED, UNSUPPORTED, CANNOT_BUILD, NOT_COMPARED, FAILED, BROKEN, MISMATCH)
"""From best to worst: a program is as good as its worst posterior."""

POINTS = 20
"""Random points, and as many reference draws."""
TRIES = 60


@dataclass(frozen=True)
class Covered:
    """The outcome for one posterior; what is None was not found out."""

    name: str
    program: str
    """Of the model in the database; posteriors share them."""
    verdict: str = BROKEN
    reason: str = ""
    dim: int | None = None
    loops: str | None = None
    equations: int | None = None
    set_up: SetUp | None = None
    tolerance: float | None = None
    """Up to which errors count as agreement."""
    random: Agreement | None = None
    """With Stan at points drawn from N(0, 1), and halved where Stan's density is 0 there."""
    reference: Agreement | None = None
    """With Stan at reference draws."""
    max_abs_z: float | None = None
    """Of the score identity, through the lowered density."""
    threshold: float | None = None
    draws: int | None = None
    no_draws: str = ""
    """Why the posterior was held against no reference draws, empty where it was."""

    @property
    def agreement(self) -> Agreement | None:
        """With Stan at all points."""
        from ...models.agreement import joined

        found = [it for it in (self.random, self.reference) if it]
        return joined(found) if found else None


def check_lowering(database: PosteriorDatabase, name: str, bridgestan: str, precision: str) -> Covered:
    """Lower a posterior's program and hold it against Stan's and against the reference draws.

    Never raises: whatever goes wrong is the outcome.
    """
    from ...models import StanDataError, StanProgramError
    from ...models.lowered import LoweringMismatch, stan_side
    from ...models.stan_source import read_data, read_program
    from ...models.stan_to_jax import UnsupportedStanError
    from ...posteriordb_adapter import DatabaseError

    found = Covered(name, "")
    try:
        posterior = database.posterior(name)
        found = replace(found, program=posterior.model.name)
        program = read_program(posterior.program_path(), posterior.name)
        data = read_data(posterior.data_text(), posterior.name)
        stan = stan_side(program, data, bridgestan)
    except (DatabaseError, StanDataError, StanProgramError) as error:
        return replace(found, verdict=CANNOT_BUILD, reason=one_line(str(error)))
    found = replace(found, dim=stan.dim)
    try:
        return _compared(found, posterior, program, data, stan, precision)
    except UnsupportedStanError as error:
        return replace(found, verdict=UNSUPPORTED, reason=one_line(str(error)))
    except LoweringMismatch as error:
        return replace(found, verdict=MISMATCH, reason=one_line(str(error)))
    except Exception as error:  # one broken program must not end a survey of a hundred
        return replace(found, verdict=BROKEN, reason=f"{type(error).__name__}: {one_line(str(error))}")


def _compared(
    found: Covered, posterior: Posterior, program: Program, data: dict[str, Any], stan: Target, precision: str
) -> Covered:
    from ...models.agreement import compare_densities
    from ...models.verification import tolerance_for

    target, compiled, set_up = lowered_in_time(program, data, stan, precision)
    explained = target.lowered.explain()
    found = replace(
        found,
        set_up=set_up,
        loops=loop_modes(loops_of(explained.loops)),
        equations=explained.equations,
        tolerance=tolerance_for(program, precision),
        random=compare_densities(
            compiled, target.model, random_points(target.model, precision), precision=precision
        ),
    )
    found = _against_draws(found, posterior, target, compiled)
    return replace(found, **_verdict(found))


def _against_draws(
    found: Covered, posterior: Posterior, target: LoweredTarget, compiled: ValueAndGrad
) -> Covered:
    from ...models.agreement import compare_densities
    from ...models.verification import as_given
    from ...posteriordb_adapter import DatabaseError
    from ...posteriordb_adapter.identity import check_draws
    from ...posteriordb_adapter.unconstrain import to_unconstrained

    try:
        draws, mapped, reason = to_unconstrained(target, posterior.reference())
    except DatabaseError as error:
        return replace(found, no_draws=one_line(str(error)))
    precision = target.lowered.precision
    some = as_given(_spread(draws[mapped], POINTS), precision)
    identity = check_draws(
        target,
        draws,
        mapped=mapped,
        reason=reason,
        coordinates=tuple(target.model.param_unc_names()),
    )
    return replace(
        found,
        reference=compare_densities(compiled, target.model, some, precision=precision),
        max_abs_z=identity.max_abs_z,
        threshold=identity.threshold,
        draws=identity.n_draws,
        reason="" if identity.passed else identity.summary(),
    )


def random_points(model: Any, precision: str) -> np.ndarray:
    """`POINTS` from N(0, 1), and as many of finite density, which are the same where they have it."""
    import numpy as np

    from ...models.verification import as_given, finite_points

    drawn = np.random.default_rng(0).standard_normal((POINTS, model.param_unc_num()))
    found = finite_points(model, POINTS, precision, tries=TRIES)
    return np.unique(np.concatenate([as_given(drawn, precision), found]), axis=0)


def _spread(draws: np.ndarray, n: int) -> np.ndarray:
    """n of ``f[m, dim]``, spread over all, or all where they are fewer."""
    import numpy as np

    return draws[np.unique(np.linspace(0, len(draws) - 1, min(n, len(draws))).astype(int))]


def _verdict(found: Covered) -> dict[str, str]:
    from ...models.verification import difference

    assert found.tolerance is not None
    for where, agreement in (("random points", found.random), ("reference draws", found.reference)):
        if agreement is not None and not agreement.within(found.tolerance):
            return {"verdict": MISMATCH, "reason": f"at {where}, {difference(agreement)}"}
    if not sum(it.compared for it in (found.random, found.reference) if it):
        return {
            "verdict": NOT_COMPARED,
            "reason": f"Stan's density is finite at none of the points that were tried in {TRIES} directions",
        }
    return {"verdict": FAILED if found.reason else PASSED, "reason": found.reason}


def verdicts_of_programs(covered: Iterable[Covered]) -> dict[str, str]:
    """Program → the worst verdict among its posteriors."""
    worst: dict[str, str] = {}
    for it in covered:
        if it.program:
            known = worst.get(it.program, VERDICTS[0])
            worst[it.program] = max(known, it.verdict, key=VERDICTS.index)
    return worst
