"""Records: what a real run's holds, what the documentation says, and what other tests take for one."""

import dataclasses
import fnmatch
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import pytest
import records as factory
from essper.benchmarks import distances, metrics
from essper.benchmarks.cells import Cell
from essper.benchmarks.records import Reference, failed_record, finite, make_record
from essper.benchmarks.specs import SAMPLERS, SamplerSpec, parse_spec
from essper.models import from_stan
from essper.samplers import Budget, Cost

DOCUMENT = Path(__file__).parents[2] / "docs" / "records.md"
FREE = ("sampler.config", "versions")
"""What these hold depends on the sampler and on what is installed."""
PROGRAM = "parameters { vector[3] x; } model { x ~ normal(0, [1, 2, 4]'); }"
CELL = Cell("gaussian", "a" * 16, None, parse_spec("hmc[num_warmup=200]"), 3, 6000, 2, "auto")


@pytest.fixture(scope="module")
def run():
    target = from_stan(PROGRAM, name="gaussian")
    return CELL.spec.sampler.run(jax.random.key(CELL.seed), target, Budget(CELL.budget), chains=CELL.chains)


@pytest.fixture(scope="module")
def reference(run):
    draws = np.random.default_rng(0).normal(0, [1, 2, 4], (4, 1000, 3))
    names, columns = list(run.target.param_names), np.arange(3)
    moments, some = metrics.moments(draws), distances.thinned(draws)
    return Reference("gaussian", "exact", "0" * 16, names, columns, [], draws, moments, some)


@pytest.fixture(scope="module")
def record(run, reference):
    return make_record(CELL, run, reference)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a record that holds no dictionary, dotted."""
    if not isinstance(value, dict) or path in FREE:
        yield path, value
        return
    for key, item in value.items():
        yield from leaves(item, f"{path}.{key}" if path else key)


def documented() -> list[str]:
    """The keys of the tables; a free one is documented as a whole."""
    keys = re.findall(r"^\| `([^`]+)` \|", DOCUMENT.read_text(encoding="utf-8"), re.M)
    return [key.removesuffix(".*") if key.removesuffix(".*") in FREE else key for key in keys]


def kind(value: Any) -> str:
    if isinstance(value, list):
        return f"list of {kind(next((item for item in value if item is not None), None))}"
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return "number" if number else type(value).__name__


def test_a_record_is_json_and_says_what_was_run(record, run):
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["digest"] == CELL.digest
    assert (record["dim"], record["draws"], record["chains"]) == (3, run.draws.shape[1], 2)
    assert record["parameters"]["name"] == ["x[1]", "x[2]", "x[3]"]
    assert record["status"] in ("ok", "not converged")


def test_costs_and_efficiencies_follow_from_the_run(record, run):
    cost, efficiency = record["cost"], record["efficiency"]
    assert cost["per_chain"]["sampling"] == run.sampling.gradients.tolist()
    assert cost["sampling"]["gradients"] == run.info.cost.gradients.sum()
    assert cost["warmup"]["gradients"] == run.warmup.gradients.sum() > 0
    assert cost["executed"] == run.executed._asdict()
    ess = np.array(record["parameters"]["ess_bulk"])
    total = cost["warmup"]["gradients"] + cost["sampling"]["gradients"]
    assert efficiency["ess_bulk"] == {"min": ess.min(), "median": np.median(ess)}
    assert efficiency["ess_bulk_per_gradient_with_warmup"]["min"] == pytest.approx(ess.min() / total)
    sampling = cost["sampling"]["gradients"]
    assert efficiency["ess_bulk_per_gradient"]["min"] == pytest.approx(ess.min() / sampling)
    assert efficiency["ess_bulk_per_second"]["min"] == pytest.approx(ess.min() / record["timing"]["sampling"])
    assert efficiency["ess_bulk_per_density"] == {"min": None, "median": None}


def test_errors_are_held_against_the_reference(record, run, reference):
    draws = run.constrained()
    difference = draws.mean((0, 1)) - reference.draws.mean((0, 1))
    b2 = difference**2 / reference.draws.var((0, 1))
    curve, reached = record["error_curve"], record["gradients_to_b2"]
    assert curve["b2_mean"]["average"][-1] == pytest.approx(b2.mean())
    assert curve["b2_mean"]["maximum"][-1] == pytest.approx(b2.max())
    spent = np.mean(record["cost"]["per_chain"]["warmup"]) + np.mean(record["cost"]["per_chain"]["sampling"])
    assert curve["gradients"][-1] == pytest.approx(spent)
    pairs = zip(curve["gradients"], curve["b2_mean"]["maximum"], strict=True)
    if reached["mean"] is not None:
        assert all(error < 0.01 for gradients, error in pairs if gradients >= reached["mean"])


@dataclasses.dataclass(frozen=True)
class Approximate:
    """Of which nothing is asked but what it says of itself."""

    approximate: ClassVar[bool] = True


@pytest.mark.parametrize(
    ("kinds", "axis"),
    [
        ({"gradients": 3}, "gradient"),
        ({"densities": 5}, "density"),
        ({"conditional_draws": 2}, "conditional draw"),
        ({"densities": 5, "conditional_draws": 2}, "evaluation"),
        ({"gradients": 3, "conditional_draws": 2}, "evaluation"),
    ],
)
def test_a_row_stands_on_what_its_sampling_costs(run, reference, kinds, axis):
    """Warmup takes gradients in every case, and nothing per gradient may become infinite."""
    each = np.ones_like(run.sampling.gradients)
    sampling = run.sampling._replace(gradients=0 * each) if "gradients" not in kinds else run.sampling
    sampling = sampling._replace(**{kind: n * each for kind, n in kinds.items()})
    draws = run.draws.shape[1]
    every = {kind: np.full(run.draws.shape[:2], kinds.get(kind, 0)) for kind in run.info.cost._fields}
    info = run.info._replace(cost=Cost(**every))
    found = make_record(CELL, dataclasses.replace(run, sampling=sampling, info=info), reference)
    efficiency, ess = found["efficiency"], found["efficiency"]["ess_bulk"]["min"]
    assert efficiency["axis"] == axis
    for metric in ("ess_bulk_per_gradient", "ess_bulk_per_gradient_with_warmup", "ess_tail_per_gradient"):
        assert (efficiency[metric]["min"] is not None) == (axis == "gradient")
    per_density = pytest.approx(ess / (5 * each.sum())) if axis == "density" else None
    assert efficiency["ess_bulk_per_density"]["min"] == per_density
    counted = sum(kinds.values()) * each.sum()
    assert efficiency["ess_bulk_per_evaluation"]["min"] == pytest.approx(ess / counted)
    warmup = np.sum(run.warmup.gradients)
    assert efficiency["ess_bulk_per_evaluation_with_warmup"]["min"] == pytest.approx(ess / (counted + warmup))
    assert found["cost"]["spent"] == {"warmup": warmup, "sampling": counted}
    curve = found["error_curve"]["gradients"]
    assert curve[-1] == run.warmup.gradients.mean() + draws * sum(kinds.values())


def test_gradients_of_rows_count_for_their_share(run, record, reference, monkeypatch):
    """The same run, had it evaluated 8 rows of 100 wherever it evaluated a gradient."""

    def of_rows(cost: Cost) -> Cost:
        return cost._replace(gradients=0 * cost.gradients, datum_gradients=8 * cost.gradients)

    monkeypatch.setitem(SAMPLERS, "approximate", Approximate)
    cell = dataclasses.replace(CELL, spec=SamplerSpec("approximate", Approximate()))
    batched = dataclasses.replace(
        run,
        rows=100,
        info=run.info._replace(cost=of_rows(run.info.cost)),
        warmup=of_rows(run.warmup),
        sampling=of_rows(run.sampling),
    )
    found, share = make_record(cell, batched, reference), 0.08
    assert (record["approximate"], found["approximate"]) == (False, True)
    assert type(record["cost"]["sampling"]["gradients"]) is int
    for phase in ("warmup", "sampling"):
        gradients = record["cost"][phase]["gradients"]
        assert found["cost"][phase]["gradients"] == pytest.approx(share * gradients)
        assert found["cost"][phase]["datum_gradients"] == 8 * gradients
        assert found["cost"][phase]["communications"] == 0
        assert found["cost"]["per_chain"][phase] == pytest.approx(
            share * np.array(record["cost"]["per_chain"][phase])
        )
    gradients = np.array(record["error_curve"]["gradients"])
    assert found["error_curve"]["gradients"] == pytest.approx(share * gradients)
    assert found["error_curve"]["b2_mean"] == record["error_curve"]["b2_mean"]
    rates = {name: values for name, values in found["efficiency"].items() if "_per_" in name}
    assert len(rates) == 8
    assert all(set(values.values()) == {None} for values in rates.values())
    assert found["efficiency"]["ess_bulk"] == record["efficiency"]["ess_bulk"]
    for same in ("status", "diagnostics", "bias", "distances", "parameters"):
        assert found[same] == record[same]
    approximate = dataclasses.replace(batched, rows=None)
    assert make_record(cell, approximate, reference)["cost"]["sampling"]["gradients"] == 0


def test_distances_tell_a_shift_and_a_spread_from_noise(run, record, reference):
    noise, before = record["distances"], run.target.counter.read()
    assert noise["w1"]["maximum"] < 4 * noise["w1"]["floor"]["maximum"]
    assert noise["sliced_w1"]["value"] < 4 * noise["sliced_w1"]["floor"]
    assert abs(noise["ksd"]["squared"]) < 6 * noise["ksd"]["squared_error"]  # the draws are not independent
    assert noise["ksd"]["draws"] == 1000
    assert noise["ksd"]["reason"] is None
    wide = dataclasses.replace(run, draws=run.draws * [1.0, 1.5, 1.0])
    found = make_record(CELL, wide, reference)
    assert found["distances"]["w1"]["worst"] == "x[2]"
    # W₁ of two centred normal distributions is the difference of their sds times E|z|.
    assert found["distances"]["w1"]["maximum"] == pytest.approx(0.5 * np.sqrt(2 / np.pi), rel=0.2)
    assert found["distances"]["ksd"]["value"] > 3 * found["distances"]["ksd"]["floor"]
    assert found["error_curve"]["b2_mean"]["average"][-1] < 0.01  # which sees nothing
    assert found["cost"] == record["cost"]
    assert run.target.counter.read().gradients > before.gradients  # of which the cost says nothing


def test_without_an_unconstrained_reference_there_is_no_stein_discrepancy(run, reference):
    found = make_record(CELL, run, reference._replace(unconstrained=None, unmapped="no way"))
    assert found["distances"]["ksd"]["reason"] == "no way"
    assert found["distances"]["ksd"]["value"] is found["distances"]["ksd"]["floor"] is None
    assert found["distances"]["w1"]["maximum"] > 0


def test_every_key_is_documented_and_every_documented_key_exists(record):
    keys = [path for path, _ in leaves(record)]
    keys += [path for path, _ in leaves({"variational": factory.make_fits()})]  # null of what is not fitted
    keys += [
        f"cost.executed.{name}" for name in ("gradients", "densities", "failed")
    ]  # null for a JAX target
    keys += [
        f"lowering.{name}" for name in ("chunk", "compared", "gradient_error", "value_error")
    ]  # null for Stan's own density
    patterns = documented()
    undocumented = [key for key in keys if not any(fnmatch.fnmatchcase(key, one) for one in patterns)]
    assert undocumented == []
    assert [pattern for pattern in patterns if not fnmatch.filter(keys, pattern)] == []
    assert len(patterns) == len(set(patterns))


def assert_alike(made: dict[str, Any], real: dict[str, Any]) -> None:
    """The same keys, and values of the same kind where both have one."""
    made_leaves, real_leaves = dict(leaves(made)), dict(leaves(real))
    empty = [path for path, value in real_leaves.items() if value is None]
    for path in empty:  # what is a dictionary in one record may be null in another
        made_leaves = {p: v for p, v in made_leaves.items() if not p.startswith(f"{path}.")} | {path: None}
    assert set(made_leaves) == set(real_leaves)
    for path, value in real_leaves.items():
        other = made_leaves[path]
        if None not in (value, other) and [] not in (value, other):
            assert kind(other) == kind(value), path


def test_the_factory_makes_what_a_run_makes(record):
    assert_alike(factory.make_record(), record)


def test_the_factory_makes_what_a_run_without_reference_makes(run):
    real = make_record(CELL, run, None)
    assert real["status"] in ("unverified", "not converged")
    assert_alike(factory.make_record(status="unverified"), real)


def test_the_factory_makes_what_a_failure_makes(record):
    real = failed_record(CELL, "ValueError", "no", "Traceback …")
    assert_alike(factory.make_failure(), real)
    assert set(real) < set(record)
    assert json.loads(json.dumps(real, allow_nan=False)) == real


def test_what_json_lacks_becomes_none():
    given = {
        "a": (np.float64("nan"), 1.5),
        "b": np.array([[np.inf, 2.0]]),
        "c": np.int64(3),
        "d": np.bool_(True),
    }
    assert finite(given) == {"a": [None, 1.5], "b": [[None, 2.0]], "c": 3, "d": True}
    assert type(finite(np.int64(3))) is int


@pytest.mark.parametrize("chains", [1, 2])
def test_chains_that_never_move_are_reported(run, chains):
    draws = np.repeat(run.draws[:chains, :1], run.draws.shape[1], axis=1)
    still = dataclasses.replace(run, draws=draws)
    record = make_record(CELL, still, None)
    assert record["status"] == "not converged"
    assert record["diagnostics"]["stuck_chains"] == chains
    assert record["diagnostics"]["ess_bulk_min"] == 0
    assert record["parameters"]["name"] == list(run.target.param_names)
