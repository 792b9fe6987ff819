"""A cell's digest: what determines the draws and nothing else, the same in every process."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import pytest
from essper.benchmarks.cells import Cell, plan
from essper.benchmarks.specs import SAMPLERS, SamplerSpec, parse_spec
from essper.models.factorization import FactorizationError
from essper.models.hierarchy import HierarchyError
from essper.posteriordb_adapter import PosteriorDatabase

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


@dataclasses.dataclass(frozen=True)
class Batched:
    """A sampler that takes minibatches."""

    batch: int = 64
    rows: str | None = None

    approximate: ClassVar[bool] = True
    needs_rows: ClassVar[bool] = True


class Program(NamedTuple):
    """A posterior with a file for its program."""

    name: str
    path: Path
    has_reference: bool = False

    def program_path(self) -> Path:
        return self.path

    def program(self) -> str:
        return self.path.read_text()

    def data_text(self) -> str:
        return "{}"


@pytest.fixture
def batched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Plans of NUTS and a sampler that takes minibatches, on a posterior with two sizes or with none."""
    monkeypatch.setitem(SAMPLERS, "batched", Batched)
    sizes = "data { int N; int K; vector[N] y; vector[K] z; }"
    texts = {"rows": f"{sizes} parameters {{ real m; }} model {{ y ~ normal(m, 1); }}"}
    texts["none"] = "data { real y; } parameters { real m; } model { y ~ normal(m, 1); }"

    def planned(which: str, rows: str | None = None, **options: Any) -> list[Cell]:
        path = tmp_path / f"{which}.stan"
        path.write_text(texts[which])
        specs = [parse_spec("nuts"), SamplerSpec("batched", Batched(rows=rows))]
        posteriors: Any = [Program(which, path)]
        return plan(posteriors, specs, seeds=1, budget=1, chains=1, **options)

    return planned


def test_minibatches_get_the_lowered_program_and_the_others_what_was_asked_for(batched: Any):
    nuts, cell = batched("rows")
    assert [(c.spec.name, c.backend, c.platform) for c in (nuts, cell)] == [
        ("nuts", "bridgestan", "cpu"),
        ("batched", "jax", "cpu"),
    ]
    assert [c.description()["approximate"] for c in (nuts, cell)] == [False, True]
    assert [c.backend for c in batched("rows", backend="jax")] == ["jax", "jax"]
    with pytest.raises(ValueError, match=r"batched takes minibatches .* use --backend jax, or auto"):
        batched("rows", backend="bridgestan")


def test_a_posterior_without_rows_is_refused_before_anything_runs(batched: Any):
    assert len(batched("rows", rows="K")) == 2
    with pytest.raises(FactorizationError, match="M is no int among the data; give rows=N or rows=K"):
        batched("rows", rows="M")
    with pytest.raises(FactorizationError, match=r"none has no rows of data .* leave the posterior out"):
        batched("none")


@dataclasses.dataclass(frozen=True)
class Amortized:
    """A sampler that treats local parameters apart."""

    hierarchy: str | None = None

    needs_hierarchy: ClassVar[bool] = True


def test_a_posterior_without_local_parameters_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setitem(SAMPLERS, "amortized", Amortized)
    database = PosteriorDatabase()

    def planned(name: str, hierarchy: str | None = None) -> list[Cell]:
        specs = [parse_spec("nuts"), SamplerSpec("amortized", Amortized(hierarchy))]
        posteriors = [database.posterior("eight_schools"), database.posterior(name)]
        return plan(posteriors, specs, seeds=1, budget=1, chains=1)

    cells = planned("simulated_surgical-surgical_model")
    assert [(c.spec.hierarchy, c.backend) for c in cells] == [
        (None, "bridgestan"),
        ("auto", "bridgestan"),
    ] * 2
    assert planned("eight_schools", "J")[1].spec.hierarchy == "J"
    with pytest.raises(
        HierarchyError,
        match=r"^amortized needs local parameters: no parameters of 'simulated_nes-nes' belong to one datum"
        r" each \(N: the leading size of no parameter\); otherwise leave the sampler or the posterior out$",
    ):
        planned("simulated_nes-nes")
    with pytest.raises(
        HierarchyError,
        match=r"^amortized\[hierarchy=J\] needs .*: J is no int among the data of .*; set hierarchy to N;",
    ):
        planned("simulated_surgical-surgical_model", "J")


def test_program_and_data_do_not_run_into_each_other():
    posteriors: Any = [FakePosterior("p", "ab", "c"), FakePosterior("q", "a", "bc")]
    first, second = plan(posteriors, [parse_spec("nuts")], seeds=1, budget=1, chains=1)
    assert first.target_digest != second.target_digest
