"""posteriordb's acceptance rules: independent draws pass, each defect breaks its own rule."""

import json

import numpy as np
import pytest
from essper.posteriordb_adapter import acceptance_checks

NAMES = ("mu", "tau")


def independent(chains=4, n=2500) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((chains, n, 2))


def failed(draws, divergences=(0, 0, 0, 0)) -> set[str]:
    return {
        rule for rule, ok in acceptance_checks(draws, NAMES, divergences)["checks_made"].items() if not ok
    }


def test_independent_draws_are_accepted():
    result = acceptance_checks(independent(), NAMES, np.zeros((4, 2500), bool))
    assert all(result["checks_made"].values())
    diagnostics = result["diagnostics"]
    assert diagnostics["diagnostic_information"] == {"names": ["mu", "tau"]}
    assert (diagnostics["ndraws"], diagnostics["nchains"]) == (10_000, 4)
    assert diagnostics["divergent_transitions"] == [0, 0, 0, 0]
    for key in ("effective_sample_size_bulk", "effective_sample_size_tail", "r_hat", "mean_lag1_ac"):
        assert len(diagnostics[key]) == 2
    json.dumps(result)


def autocorrelated(coefficient: float) -> np.ndarray:
    draws = independent()
    for t in range(1, draws.shape[1]):
        draws[:, t] = coefficient * draws[:, t - 1] + np.sqrt(1 - coefficient**2) * draws[:, t]
    return draws


def test_each_rule_sees_its_own_defect():
    assert failed(independent(4, 2000)) >= {"ndraws_is_10k"}
    assert failed(independent(2, 5000), (0, 0)) == {"nchains_is_gte_4"}
    assert failed(independent(), (0, 1, 0, 0)) == {"no_divergent_transitions"}
    assert failed(autocorrelated(0.3)) == {"ess_within_bounds", "abs_mean_lag1_ac_below_0_05"}
    assert failed(autocorrelated(-0.3)) == {"ess_within_bounds", "abs_mean_lag1_ac_below_0_05"}
    apart = independent()
    apart[0] += 1.0
    assert failed(apart) >= {"r_hat_below_1_01", "ess_within_bounds"}


def test_divergences_are_counted_by_chain():
    divergent = np.zeros((4, 2500), bool)
    divergent[2, :3] = True
    result = acceptance_checks(independent(), NAMES, divergent)
    assert result["diagnostics"]["divergent_transitions"] == [0, 0, 3, 0]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_constant_is_not_accepted():
    draws = independent()
    draws[..., 1] = 2.0
    assert failed(draws)
