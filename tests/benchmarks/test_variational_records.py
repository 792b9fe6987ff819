"""Records of variational fits: bounds, weights and what they repair, from draws of known distributions."""

import dataclasses
import json
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import pytest
import records as factory
from essper.benchmarks import metrics, variational
from essper.benchmarks.cells import Cell
from essper.benchmarks.records import Reference, make_record
from essper.benchmarks.specs import SAMPLERS, SamplerSpec
from essper.models import Target, from_stan
from essper.samplers import Cost, Run
from essper.samplers.base import Info, Timing
from scipy import stats
from test_records import assert_alike

PROGRAM = "parameters { vector[2] x; } model { x ~ normal(0, [1, 2]'); }"
SD = np.array([1.0, 2.0])
CHAINS, DRAWS = 4, 1000


@dataclasses.dataclass(frozen=True)
class Fits:
    """Of which nothing is asked but what it says of itself."""

    approximate: ClassVar[bool] = True


@pytest.fixture(scope="module")
def target() -> Target:
    return from_stan(PROGRAM, name="gaussian")


@pytest.fixture(scope="module")
def reference(target) -> Reference:
    draws = np.random.default_rng(0).normal(0, SD, (4, 1000, 2))
    names, columns = list(target.param_names), np.arange(2)
    return Reference("gaussian", "exact", "0" * 16, names, columns, [], draws, metrics.moments(draws))


def fitted_run(target: Target, location: Any, scale: Any, seed: int = 1, **changes: Any) -> Run:
    """Draws of normal distributions as a variational run hands them over: 500 gradients a chain are paid."""
    draws = np.random.default_rng(seed).normal(location, scale, (CHAINS, DRAWS, 2))
    log_p = stats.norm.logpdf(draws, 0, SD).sum(axis=-1)
    log_weight = log_p - stats.norm.logpdf(draws, location, scale).sum(axis=-1)
    zeros = np.zeros((CHAINS, DRAWS), int)
    each = Cost(*(zeros for _ in Cost._fields))._replace(densities=zeros + 1)
    none, acceptance = np.zeros(CHAINS, int), np.full((CHAINS, DRAWS), np.nan)
    extra = {"log_weight": jnp.asarray(changes.get("log_weight", log_weight))}
    tuning = {
        "converged": np.array([True, True, True, False]),
        "learning_rate": np.array([0.1, 0.01, 0.1, 0.1]),
        "learning_rates": np.array([0.01, 0.1]),
        "grid_elbo": np.array([[-1.0, -0.5], [-0.6, -0.7], [-np.inf, -0.5], [-1.0, -0.5]]),
        "elbo": log_weight.mean(axis=1),
        "elbo_error": log_weight.std(axis=1),
        "steps": np.array([[10, 50]] * CHAINS),
    }
    return Run(
        target=target,
        sampler=Fits(),
        draws=draws,
        info=Info(each, jnp.asarray(acceptance), jnp.asarray(zeros > 0), extra),
        warmup=Cost(*(none for _ in Cost._fields))._replace(gradients=none + 500),
        sampling=Cost(*(leaf.sum(axis=1) for leaf in each)),
        executed=None,
        timing=Timing(0.1, 0.2, 0.3),
        layout="independent",
        tuning=tuning,
    )


@pytest.fixture(scope="module")
def cell():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SAMPLERS, "fits", Fits)
        yield Cell("gaussian", "a" * 16, None, SamplerSpec("fits", Fits()), 3, 500, CHAINS, "auto")


@pytest.fixture(scope="module")
def narrow(target) -> Run:
    return fitted_run(target, 0.0, [0.8, 1.7])


@pytest.fixture(scope="module")
def record(cell, narrow, reference) -> dict[str, Any]:
    return make_record(cell, narrow, reference)


def test_the_record_is_json_and_what_the_factory_makes(record):
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    made = factory.make_record(sampler="fits", approximate=True, variational=factory.make_fits())
    assert_alike({"variational": made["variational"]}, {"variational": record["variational"]})
    assert record["variational"]["grid_elbo"][2] == [None, -0.5]


def test_what_a_fit_does_not_have_is_null(record, narrow):
    assert record["diagnostics"]["step_size"] is record["diagnostics"]["acceptance"] is None
    assert record["cost"]["sampling"] | {"densities": 0} == dict.fromkeys(record["cost"]["sampling"], 0)
    rates = [values for name, values in record["efficiency"].items() if "_per_" in name]
    assert all(set(values.values()) == {None} for values in rates)
    assert record["efficiency"]["ess_bulk"]["min"] > 0.8 * CHAINS * DRAWS  # draws are independent


def test_bounds_and_khats_are_those_of_every_chain(record, narrow):
    found, log_weight = record["variational"], narrow.info.extra["log_weight"]
    assert found["elbo"] == pytest.approx(log_weight.mean(axis=1))
    assert found["elbo_error"] == pytest.approx(log_weight.std(axis=1, ddof=1) / np.sqrt(DRAWS))
    assert found["khat"]["maximum"] == max(found["khat"]["values"])
    assert found["khat"]["threshold"] == pytest.approx(1 - 1 / np.log10(DRAWS))
    assert (found["khat"]["usable"], found["khat"]["reason"]) == (True, None)
    assert all(DRAWS / 4 < ess < DRAWS for ess in found["weight_ess"])
    for same in ("converged", "learning_rate", "learning_rates", "steps"):
        assert found[same] == narrow.tuning[same].tolist()


def test_weights_repair_a_fit_that_is_too_narrow(record):
    found, apart = record["variational"]["resampled"], record["distances"]["w1"]
    accuracy = record["accuracy"]
    assert accuracy["sd"]["ratio"] == pytest.approx(np.sqrt(0.8 * 0.85), rel=0.02)
    assert accuracy["sd"]["worst"] == "x[1]"
    assert accuracy["coverage"]["90"]["minimum"] == pytest.approx(
        2 * stats.norm.cdf(0.8 * 1.645) - 1, abs=0.02
    )
    assert found["sd"] == pytest.approx(SD, rel=0.05)
    assert found["mean"] == pytest.approx([0, 0], abs=0.1)
    assert found["q95"] == pytest.approx(1.645 * SD, rel=0.08)
    assert found["accuracy"]["coverage"]["90"]["average"] == pytest.approx(0.9, abs=0.02)
    assert found["accuracy"]["sd"]["maximum"] < 0.3 * accuracy["sd"]["maximum"]
    # W₁ of two centred normal distributions is the difference of their sds times E|z|.
    assert apart["maximum"] == pytest.approx(0.2 * np.sqrt(2 / np.pi), rel=0.15)
    assert found["w1"]["maximum"] < apart["maximum"] / 2
    assert record["variational"]["note"].startswith("importance resampling would ")


def test_a_curve_of_one_point_has_the_error_of_all_draws(record, narrow, reference):
    curve = record["error_curve"]
    assert curve["gradients"] == [500]
    bias = narrow.draws.mean((0, 1)) - reference.draws.mean((0, 1))
    assert curve["b2_mean"]["maximum"] == pytest.approx([np.max(bias**2 / reference.draws.var((0, 1)))])
    assert record["gradients_to_b2"]["mean"] == 500


def test_fits_that_differ_have_not_converged(cell, target, reference):
    apart = make_record(
        cell, fitted_run(target, np.array([-1.0, 0.0, 0.0, 1.0])[:, None, None], SD), reference
    )
    assert apart["diagnostics"]["rhat_max"] > 1.1
    assert apart["status"] == "not converged"


def test_without_a_reference_there_are_still_weights(cell, narrow, record):
    found = make_record(cell, narrow, None)
    assert found["accuracy"] is None
    resampled = found["variational"]["resampled"]
    assert resampled["accuracy"] is resampled["w1"] is None
    assert resampled["sd"] == record["variational"]["resampled"]["sd"]
    assert found["variational"]["note"] is None


def test_a_fit_beyond_repair_says_so(cell, target, reference):
    found = make_record(cell, fitted_run(target, 0.0, 0.3 * SD), reference)["variational"]
    assert not found["khat"]["usable"]
    assert found["note"] == (f"k-hat {found['khat']['maximum']:.2f} is above 0.67: {factory.TRUST_NEITHER}")


def test_a_chain_without_weights_leaves_none_to_resample(cell, target, reference):
    log_weight = np.zeros((CHAINS, DRAWS))
    log_weight[1] = -np.inf
    run = fitted_run(target, 0.0, SD, log_weight=log_weight)
    record = make_record(cell, run, reference)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    found = record["variational"]
    assert found["resampled"] is None
    assert found["elbo"] == [0, None, 0, 0]
    assert found["khat"]["maximum"] is None
    assert not found["khat"]["usable"]
    reason = "chain 2: the density of the target is 0 at every draw"
    assert found["khat"]["reason"] == reason
    assert found["note"] == f"no importance weights to trust: {reason}"


@pytest.mark.parametrize(
    ("khat", "w1", "weighted", "said"),
    [
        (0.3, 0.30, 0.02, "would repair the marginals"),
        (0.3, 0.30, 0.15, "would reduce the error"),
        (0.3, 0.30, 0.16, None),
        (0.3, 0.03, 0.02, "would repair the marginals"),
        (0.3, 0.02, 0.01, None),  # there is nothing to repair
        (0.3, 0.30, None, None),
        (0.3, None, None, None),
        (-np.inf, 0.30, 0.30, None),
        (0.71, 0.30, 0.02, "neither the draws nor importance weights"),
        (0.71, None, None, "neither the draws nor importance weights"),
        (0.71, 0.01, 0.02, "importance weights cannot be trusted, though the marginals agree"),
    ],
)
def test_the_rule_of_the_note(khat, w1, weighted, said):
    found = variational.note(khat, 0.7, w1=w1, floor=None if w1 is None else 0.02, weighted=weighted)
    assert found is None if said is None else said in found
