"""The main job: compare runs, gates, records, and the commands around it."""

import dataclasses
import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from essper.benchmarks.cells import Cell
from essper.benchmarks.cli.app import app
from essper.benchmarks.defaults import DEFAULT_BUDGET, DEFAULT_POSTERIORS
from essper.benchmarks.records import Reference, make_record, reference_of
from essper.benchmarks.specs import parse_spec
from essper.posteriordb_adapter import PosteriorDatabase
from essper.samplers import NUTS, Budget, Run
from typer.testing import CliRunner

NAME = "eight_schools-eight_schools_noncentered"
SHARED = Path(__file__).parents[3] / "shared/posteriordb"


@pytest.fixture(autouse=True)
def only_builtin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTERIORDB_PATH", raising=False)


def layers() -> list[str]:
    """posteriordb's own reference draws where they are at hand, else the built-in ones."""
    path = os.environ.get("POSTERIORDB_PATH") or (str(SHARED) if SHARED.is_dir() else "")
    return [path] if path else []


@pytest.fixture(scope="module")
def nuts() -> tuple[Run, Reference]:
    posterior = PosteriorDatabase(*layers()).posterior(NAME)
    target = posterior.target()
    reference = reference_of(posterior, target.param_names)
    assert reference is not None
    return NUTS().run(jax.random.key(0), target, Budget(DEFAULT_BUDGET)), reference


def cell() -> Cell:
    return Cell(NAME, "target", None, parse_spec("nuts"), 0, DEFAULT_BUDGET, 4, "auto")


def test_nuts_at_the_default_budget_is_ok(nuts: tuple[Run, Reference]) -> None:
    record = make_record(cell(), *nuts)
    assert record["status"] == "ok", record["bias"]
    assert record["bias"]["comparisons"] == 5 * len(record["reference"]["compared"])
    assert {"mu", "tau", "theta[1]"} <= set(record["reference"]["compared"])


def test_a_sampler_biased_by_a_fifth_of_an_sd_is_biased(nuts: tuple[Run, Reference]) -> None:
    run, reference = nuts
    sd = reference.moments.estimate[1]
    honest = run.target.constrain

    def shifted(x: np.ndarray) -> np.ndarray:
        out = honest(x).copy()
        out[..., reference.columns] += 0.2 * sd
        return out

    liar = dataclasses.replace(run, target=dataclasses.replace(run.target, constrain=shifted))
    record = make_record(cell(), liar, reference)
    assert record["status"] == "biased"
    assert record["bias"]["max_abs_z"] > record["bias"]["threshold"]


def test_without_a_reference_a_converged_run_is_unverified(nuts: tuple[Run, Reference]) -> None:
    record = make_record(cell(), nuts[0], None)
    assert record["status"] == "unverified"
    assert record["bias"] is record["error_curve"] is record["reference"] is None


def test_a_record_is_json_and_accounts_for_every_gradient(nuts: tuple[Run, Reference]) -> None:
    record = json.loads(json.dumps(make_record(cell(), *nuts), allow_nan=False))
    cost = record["cost"]
    assert sum(cost["per_chain"]["warmup"]) == cost["warmup"]["gradients"] > 0
    assert sum(cost["per_chain"]["sampling"]) == cost["sampling"]["gradients"] > 0
    assert cost["executed"]["gradients"] == cost["warmup"]["gradients"] + cost["sampling"]["gradients"]
    figures = record["efficiency"]
    assert figures["ess_bulk_per_gradient"]["min"] == pytest.approx(
        figures["ess_bulk"]["min"] / cost["sampling"]["gradients"]
    )
    assert figures["ess_bulk_per_gradient_with_warmup"]["min"] == pytest.approx(
        figures["ess_bulk"]["min"] / cost["executed"]["gradients"]
    )
    assert figures["ess_bulk_per_density"] == {"min": None, "median": None}
    assert record["error_curve"]["gradients"][-1] == pytest.approx(cost["executed"]["gradients"] / 4)


def invoke(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_compare_plans_runs_reports_and_does_not_run_twice(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["compare", "8schools", "--sampler", "hmc", "--seeds", "2", "--budget", "20000"]
    arguments += ["--out", str(out)]
    planned = invoke(*arguments, "--dry-run", "--json")
    assert planned.exit_code == 0
    facts = json.loads(planned.stdout)
    assert (len(facts["cells"]), facts["to_run"], facts["gradients"]) == (2, 2, 2 * 4 * 20_000)
    assert not out.exists()

    ran = invoke(*arguments)
    assert ran.exit_code == 0, ran.output
    assert "hmc" in ran.stdout
    assert str(out / "report.html") in ran.stdout
    records = [json.loads(path.read_text()) for path in out.glob("cells/*/record.json")]
    assert {r["seed"] for r in records} == {0, 1}
    assert {r["status"] for r in records} == {"ok"}

    again = invoke(*arguments, "--json")
    assert again.exit_code == 0
    assert {r["created"] for r in records} == {
        json.loads(path.read_text())["created"] for path in out.glob("cells/*/record.json")
    }
    assert json.loads(again.stdout)["report"]["html"] == str(out / "report.html")

    written = invoke("report", str(out), "--format", "md,csv")
    assert written.exit_code == 0
    assert (out / "report.md").is_file()
    assert (out / "report.csv").is_file()


def test_a_cell_that_fails_its_gate_gives_exit_code_1(tmp_path: Path) -> None:
    result = invoke(
        "compare", NAME, "--sampler", "nuts", "--budget", "800", "--chains", "2", "--out", str(tmp_path)
    )
    assert result.exit_code == 1, result.output
    assert "not converged" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "no_such"), "no posterior 'no_such'"),
        (("compare", NAME, "--sampler", "nutz"), "no sampler is called 'nutz'; there are nuts, hmc, drhmc"),
        (("compare", NAME, "--sampler", "hmc[metric=round]"), "give one of diagonal, dense, identity"),
        (("compare", NAME, "--sampler", "hmc[step_size=-1]"), "give a positive value"),
        (("compare", NAME, "--budget", "0"), "--budget"),
        (("compare", "--database", "no/such/folder"), "no/such/folder"),
        (("report", "no/such/folder"), "is no directory"),
        (("report", ".", "--format", ","), "names no format"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments: tuple[str, ...], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.output


def test_the_default_set_is_built_in_and_has_references() -> None:
    database = PosteriorDatabase()
    assert len(DEFAULT_POSTERIORS) >= 8
    for name in DEFAULT_POSTERIORS:
        assert database.posterior(name).has_reference, name
