"""The score identity holds for the right distribution and breaks for a wrong one."""

from pathlib import Path

import numpy as np
import pytest
from conftest import DATA, NAMES, PROGRAM, exact_draws
from essper.models import from_log_density, from_stan
from essper.posteriordb_adapter import PosteriorDatabase, ReferenceDraws, check_draws, check_reference
from essper.posteriordb_adapter.builtin import DATABASE
from essper.posteriordb_adapter.identity import evaluate
from scipy import stats


def toy_reference(names=NAMES) -> ReferenceDraws:
    return ReferenceDraws("toy-prior", NAMES, exact_draws()).select(names)


def toy_target(program: str = PROGRAM, **data):
    return from_stan(program, DATA | data, name="toy")


@pytest.mark.parametrize("names", [NAMES[:4], ("mu", "tau", "theta[1]", "theta[2]")])
def test_identity_holds_for_exact_draws(names):
    check = check_reference(toy_target(), toy_reference(names))
    assert check.passed
    assert check.coordinates == ("mu", "tau", "z.1", "z.2")
    assert (check.n_draws, check.comparisons) == (4000, 8)
    assert "holds" in check.summary()


@pytest.mark.parametrize(
    ("wrong", "worst"),
    [
        ({"program": PROGRAM.replace("normal(location, 2)", "normal(location, 2.3)")}, "mu"),
        ({"program": PROGRAM.replace("gamma(shape, 2)", "gamma(shape, 2.3)")}, "tau"),
        (
            {"program": PROGRAM.replace("z ~ std_normal()", "z[2] ~ normal(0, 1.2); z[1] ~ std_normal()")},
            "z.2",
        ),
        ({"location": 1.3}, "mu"),
    ],
)
def test_a_wrong_prior_or_other_data_break_it(wrong, worst):
    check = check_reference(toy_target(**wrong), toy_reference())
    assert not check.passed
    assert check.worst == worst
    assert "DOES NOT HOLD" in check.summary()


def test_a_failed_evaluation_is_a_failure_of_the_check():
    draws = exact_draws()
    draws[2, 5, 1] = -1.0
    check = check_reference(toy_target(), ReferenceDraws("toy", NAMES, draws).select(NAMES[:4]))
    assert check.failed.tolist() == [[2, 5]]
    assert check.max_abs_z < check.threshold  # the other draws are as they should be
    assert not check.passed
    assert "1 draws failed" in check.summary()


def test_draws_none_of_which_can_be_used_do_not_pass():
    draws = -np.abs(exact_draws(2, 20))
    check = check_reference(toy_target(), ReferenceDraws("toy", NAMES, draws).select(NAMES[:4]))
    assert not check.passed
    assert len(check.failed) == 40


def gaussian(dim: int):
    return from_log_density(f"gaussian {dim}", dim, lambda x: -0.5 * x @ x)


def test_chains_are_respected():
    """Slow chains have large Monte Carlo errors: their scatter is no error of the target."""
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((4, 2000, 2))
    for t in range(1, draws.shape[1]):
        draws[:, t] = 0.95 * draws[:, t - 1] + np.sqrt(1 - 0.95**2) * draws[:, t]
    naive = draws.reshape(-1, 2).mean(0) / (draws.reshape(-1, 2).std(0) / np.sqrt(8000))
    check = check_draws(gaussian(2), draws)
    assert check.passed
    assert np.abs(naive).max() > 2 * np.abs(check.z_score).max()


def test_shift_and_scale_are_seen_where_they_are():
    draws = np.random.default_rng(1).standard_normal((4, 1000, 3))
    draws[..., 1] += 0.2
    draws[..., 2] *= 1.1
    check = check_draws(gaussian(3), draws)
    assert np.abs(check.z_score).argmax() == 1
    assert np.abs(check.z_product).argmax() == 2
    assert not check.passed


def test_threshold_controls_the_familywise_error():
    for dim in (1, 10, 100):
        check = check_draws(gaussian(dim), np.random.default_rng(dim).standard_normal((4, 100, dim)))
        each = 2 * stats.norm.sf(check.threshold)
        assert 1 - (1 - each) ** (2 * dim) == pytest.approx(1e-3, rel=1e-6)


def test_z_scores_are_calibrated():
    z = np.concatenate(
        [
            np.ravel([check.z_score, check.z_product])
            for check in (
                check_draws(gaussian(20), np.random.default_rng(seed).standard_normal((4, 500, 20)))
                for seed in range(5)
            )
        ]
    )
    assert 0.8 < z.std() < 1.2
    assert abs(z.mean()) < 0.4


def test_constant_draws_do_not_pass():
    assert not check_draws(gaussian(1), np.zeros((4, 100, 1))).passed


@pytest.mark.parametrize("chunk", [1, 7, 20, 21, 1000])
def test_chunks_do_not_change_the_result(chunk):
    x = np.random.default_rng(5).standard_normal((20, 2))
    values, gradients = evaluate(gaussian(2).density, x, chunk=chunk)
    np.testing.assert_allclose(values, -0.5 * (x**2).sum(-1))
    np.testing.assert_allclose(gradients, -x)


def served_by_builtin(database: PosteriorDatabase) -> dict[str, Path]:
    """Posteriors with data and reference draws for which there is a program of our own, and that program."""
    programs = {path.stem: path for path in (DATABASE / "models/stan").glob("*.stan")}
    posteriors = ((name, database.posterior(name)) for name in database.names())
    return {
        name: programs[posterior.model.name]
        for name, posterior in posteriors
        if posterior.model.name in programs and posterior.has_reference
    }


def failures(database: PosteriorDatabase, programs: dict[str, Path]) -> list[str]:
    """Summaries of the checks that fail, of our programs on a database's data and draws."""
    checks = []
    for name, program in programs.items():
        posterior = database.posterior(name)
        target = from_stan(program, posterior.data_text(), name=name)
        checks.append(check_reference(target, posterior.reference()))
    return [check.summary() for check in checks if not check.passed]


def test_identity_holds_on_posteriordb(posteriordb):
    """Our programs are posteriordb's models: their scores vanish over posteriordb's draws."""
    programs = served_by_builtin(posteriordb)
    assert {path.stem for path in programs.values()} == {
        path.stem for path in (DATABASE / "models/stan").glob("*.stan")
    }
    assert len(programs) >= 23
    assert failures(posteriordb, programs) == []


def test_a_planted_wrong_prior_is_found_on_posteriordb(posteriordb):
    posterior = posteriordb.posterior("eight_schools-eight_schools_noncentered")
    right = (DATABASE / "models/stan/eight_schools_noncentered.stan").read_text()
    wrong = right.replace("cauchy(0, 5)", "cauchy(0, 6)")
    assert wrong != right
    check = check_reference(from_stan(wrong, posterior.data_text(), name="wrong"), posterior.reference())
    assert not check.passed
    assert check.worst == "tau"


def test_identity_holds_on_the_builtin_references():
    database = PosteriorDatabase(DATABASE, builtin=False)
    programs = served_by_builtin(database)
    assert len(programs) >= 15
    assert failures(database, programs) == []
