"""doctor: what it finds on this machine, and what it says of machines where something is missing."""

import json

import pytest
from essper.benchmarks.cli import diagnosis
from essper.benchmarks.cli.app import app
from essper.benchmarks.cli.diagnosis import POSTERIOR, bridgestan_sources, database_layers, diagnose
from typer.testing import CliRunner


@pytest.fixture(autouse=True)
def no_other_databases(monkeypatch):
    monkeypatch.delenv("POSTERIORDB_PATH", raising=False)
    monkeypatch.setenv("COLUMNS", "80")


def doctor(*arguments, code: int = 0):
    result = CliRunner().invoke(app, ["doctor", *map(str, arguments)], prog_name="essper")
    assert result.exit_code == code, result.output
    return result


def test_doctor_evaluates_a_density_here():
    facts = json.loads(doctor("--json").stdout)
    assert facts["works"] is True
    found = facts["diagnosis"]
    assert found["gradient"]["posterior"] == POSTERIOR
    assert found["gradient"]["backend"].startswith("bridgestan")
    assert found["jax"]["x64"] is True
    assert found["jax"]["devices"]
    assert found["packages"]["jax"] == found["jax"]["version"]
    assert "pytest" not in found["packages"]
    assert {folder["name"] for folder in found["cache"]["folders"]} >= {"ffi"} or not found["ffi"][
        "available"
    ]
    layer = found["layers"][-1]
    assert (layer["label"], layer["posteriors"] >= 15, layer["programs"] >= 15) == ("built-in", True, True)


def test_doctor_in_words_fits_into_80_columns_except_for_paths():
    text = doctor().stdout
    for title in ("Python", "JAX", "Gradient", "BridgeStan", "Databases", "Caches", "Packages"):
        assert title in text
    assert "works: eight_schools" in text
    too_wide = [line for line in text.splitlines() if len(line.rstrip()) > 80]
    assert all("/" in line or POSTERIOR in line for line in too_wide)


def test_a_density_that_cannot_be_evaluated_is_exit_code_1(monkeypatch):
    def broken(_):
        raise OSError("libstan.so: cannot open shared object file")

    monkeypatch.setattr(diagnosis, "_gradient", broken)
    result = doctor(code=1)
    assert "DOES NOT WORK" in result.stdout
    assert "libstan.so" in result.stdout
    assert json.loads(doctor("--json", code=1).stdout)["diagnosis"]["problems"][-1]["fatal"] is True


def test_a_wrong_way_to_bridgestan_is_found_out():
    found = diagnose((), bridgestan="/no/such/place")
    assert not found.works
    assert "/no/such/place" in found.gradient["error"]


def test_a_wrong_bridgestan_variable_is_a_problem_with_a_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("BRIDGESTAN", str(tmp_path))
    source = next(source for source in bridgestan_sources() if source.name == "$BRIDGESTAN")
    assert not source.available
    problems = diagnose((), bridgestan="stanli").problems
    assert any("$BRIDGESTAN" in problem.what and "unset" in problem.remedy for problem in problems)
    (tmp_path / "Makefile").touch()
    assert next(s for s in bridgestan_sources() if s.name == "$BRIDGESTAN").available


def test_a_layer_that_is_not_there_is_a_finding_in_the_environment_and_a_mistake_in_an_option(monkeypatch):
    monkeypatch.setenv("POSTERIORDB_PATH", "/no/such/layer")
    layers, problems = database_layers(())
    assert [layer.label for layer in layers] == ["built-in"]
    assert "/no/such/layer" in problems[0].what
    assert problems[0].remedy.startswith("give a folder")
    monkeypatch.delenv("POSTERIORDB_PATH")
    assert "/no/such/layer is not a directory" in doctor("--database", "/no/such/layer", code=2).stderr


def test_layers_are_counted(tmp_path):
    for file in ("posteriors/a-b.json", "models/stan/b.stan", "models/stan/c.stan"):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    (own, _), problems = database_layers((tmp_path,))
    assert (own.label, own.posteriors, own.programs, own.references) == (tmp_path.name, 1, 2, 0)
    assert problems == []


def test_a_cache_that_cannot_be_made_is_a_problem(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ESSPER_CACHE", str(tmp_path / "file" / "cache"))
    problems = diagnose(()).problems
    assert any("ESSPER_CACHE" in problem.remedy for problem in problems)
