"""Records: what a real run's holds, what the documentation says, and what other tests take for one."""

import dataclasses
import fnmatch
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import records as factory
from essper.benchmarks import metrics
from essper.benchmarks.cells import Cell
from essper.benchmarks.records import Reference, failed_record, finite, make_record
from essper.benchmarks.specs import parse_spec
from essper.models import from_stan
from essper.samplers import Budget

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
    return Reference("gaussian", "exact", "0" * 16, names, columns, [], draws, metrics.moments(draws))


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


def test_every_key_is_documented_and_every_documented_key_exists(record):
    keys = [path for path, _ in leaves(record)]
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
