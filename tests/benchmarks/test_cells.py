"""A cell's digest: what determines the draws and nothing else, the same in every process."""

import dataclasses
import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import pytest
from essper.benchmarks.cells import Cell, plan
from essper.benchmarks.specs import parse_spec

CELL = Cell("some-posterior", "a" * 16, "b" * 16, parse_spec("hmc[jitter=0.1]"), 0, 1000, 4, "stanli")
CHANGES: dict[str, Any] = {
    "posterior": "another-posterior",
    "target_digest": "b" * 16,
    "reference_digest": None,
    "spec": parse_spec("hmc[jitter=0.2]"),
    "seed": 1,
    "budget": 2000,
    "chains": 2,
    "bridgestan": "build",
    "precision": "float32",
    "platform": "gpu",
    "backend": "jax",
}


class FakePosterior(NamedTuple):
    """A posterior of which only program and data are asked for."""

    name: str
    text: str = "parameters { real x; }"
    data: str = "{}"

    def program(self) -> str:
        return self.text

    def data_text(self) -> str:
        return self.data

    @property
    def has_reference(self) -> bool:
        return False


def test_every_field_is_in_the_digest():
    assert {field.name for field in dataclasses.fields(Cell)} == set(CHANGES)


@pytest.mark.parametrize("field", CHANGES)
def test_what_matters_changes_the_digest(field):
    assert dataclasses.replace(CELL, **{field: CHANGES[field]}).digest != CELL.digest


def test_two_changes_make_two_digests():
    digests = {dataclasses.replace(CELL, **{field: value}).digest for field, value in CHANGES.items()}
    assert len(digests) == len(CHANGES)
    assert (
        dataclasses.replace(CELL, seed=10, budget=0).digest
        != dataclasses.replace(CELL, seed=1, budget=0).digest
    )


def test_spellings_do_not_change_the_digest():
    for spelling in ("hmc[jitter=0.10]", "HMC[ jitter = 1e-1 ]", "hmc[metric=diagonal,jitter=0.1]"):
        assert dataclasses.replace(CELL, spec=parse_spec(spelling)).digest == CELL.digest


def test_samplers_with_equal_configurations_are_different_samplers():
    renamed = dataclasses.replace(CELL.spec, name="drhmc")
    assert renamed.config == CELL.spec.config
    assert dataclasses.replace(CELL, spec=renamed).digest != CELL.digest


def test_cells_from_before_there_were_backends_keep_their_digests():
    assert CELL.digest == "3346e32e84f50cdb"


def test_digest_is_the_same_in_every_process():
    code = (
        "from essper.benchmarks.cells import Cell\n"
        "from essper.benchmarks.specs import parse_spec\n"
        "spec = parse_spec('hmc[jitter=0.1]')\n"
        "print(Cell('some-posterior', 'a' * 16, 'b' * 16, spec, 0, 1000, 4, 'stanli').digest)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    assert [process.communicate()[0].strip() for process in processes] == [CELL.digest] * 2


def test_description_is_json_and_names_the_cell():
    description = CELL.description()
    assert json.loads(json.dumps(description, allow_nan=False)) == description
    assert description["digest"] == CELL.digest
    assert description["sampler"]["label"] == "hmc[jitter=0.1]"
    assert CELL.gradients == 4000


def test_plan_is_every_combination_with_the_same_seeds():
    specs = [parse_spec("nuts"), parse_spec("hmc")]
    posteriors: Any = [FakePosterior("p"), FakePosterior("q", data='{"N": 1}')]
    cells = plan(posteriors, specs, seeds=3, budget=500, chains=2, bridgestan="build")
    assert len(cells) == len({cell.digest for cell in cells}) == 12
    assert [cell.seed for cell in cells] == [0] * 4 + [1] * 4 + [2] * 4
    assert [(cell.posterior, cell.spec.name) for cell in cells[:4]] == [
        (p, s) for p in ("p", "q") for s in ("nuts", "hmc")
    ]
    assert {(cell.budget, cell.chains, cell.bridgestan) for cell in cells} == {(500, 2, "build")}


def test_a_plan_settles_backend_and_platform(monkeypatch: pytest.MonkeyPatch):
    posteriors: Any = [FakePosterior("p")]

    def settled(**options: Any) -> tuple[str, str, str]:
        (cell,) = plan(posteriors, [parse_spec("nuts")], seeds=1, budget=1, chains=1, **options)
        return cell.backend, cell.precision, cell.platform

    assert settled() == settled(backend="bridgestan") == ("bridgestan", "float64", "cpu")
    assert settled(backend="jax", precision="float32") == ("jax", "float32", "cpu")
    with pytest.raises(ValueError, match=r"'auto' \(here 'bridgestan'\) computes in float64"):
        settled(precision="float32")
    with pytest.raises(ValueError, match="precision='float16' is not supported"):
        settled(backend="jax", precision="float16")
    with pytest.raises(ValueError, match="backend='tensorflow' is not supported"):
        settled(backend="tensorflow")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert settled() == ("jax", "float64", "gpu")
    assert settled(backend="bridgestan") == ("bridgestan", "float64", "cpu")


def test_program_and_data_do_not_run_into_each_other():
    posteriors: Any = [FakePosterior("p", "ab", "c"), FakePosterior("q", "a", "bc")]
    first, second = plan(posteriors, [parse_spec("nuts")], seeds=1, budget=1, chains=1)
    assert first.target_digest != second.target_digest
