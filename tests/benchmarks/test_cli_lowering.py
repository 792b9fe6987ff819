"""check --backend jax, lower and compare --backend jax: what the lowering looks like from outside."""

import json
from pathlib import Path

import essper.benchmarks.cli.coverage as coverage
import essper.models.stan_to_jax
import numpy as np
import pytest
from essper.benchmarks.cli.app import app
from essper.benchmarks.cli.check import _excuse
from essper.benchmarks.cli.coverage import (
    BROKEN,
    MISMATCH,
    PASSED,
    UNSUPPORTED,
    Covered,
    verdicts_of_programs,
)
from essper.benchmarks.cli.lowering_facts import Loop, loop_modes
from essper.models.agreement import Agreement
from typer.testing import CliRunner

EIGHT_SCHOOLS = "eight_schools-eight_schools_noncentered"
LOOPS = """data { int N; vector[N] y; }
parameters { real mu; array[2] vector<lower=0, upper=9>[3] s; }
model {
  vector[N] level;
  level[1] = mu;
  for (t in 2:N)
    level[t] = 0.5 * level[t - 1] + sin(level[t - 1]);
  for (n in 1:N)
    y[n] ~ normal(level[n], s[1, 1]);
  mu ~ normal(0, 1);
}
"""
DATA = {"N": 60, "y": np.linspace(-1, 1, 60).tolist()}
UNLOWERED = """parameters { real x; }
model {
  int n = x > 0 ? 1 : 2;
  for (i in 1:n) target += -square(x);
}
"""


@pytest.fixture(autouse=True)
def only_builtin(monkeypatch):
    monkeypatch.delenv("POSTERIORDB_PATH", raising=False)
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def layer(tmp_path) -> Path:
    """A layer with ``toy-loops``, which is lowered, and ``toy-unlowered``, which is not."""
    root = tmp_path / "layer"
    contents = {
        "models/stan/loops.stan": LOOPS,
        "models/stan/unlowered.stan": UNLOWERED,
        "data/data/toy.json": json.dumps(DATA),
    }
    for model in ("loops", "unlowered"):
        contents[f"posteriors/toy-{model}.json"] = json.dumps({"model_name": model, "data_name": "toy"})
    for relative, content in contents.items():
        (root / relative).parent.mkdir(parents=True, exist_ok=True)
        (root / relative).write_text(content)
    return root


@pytest.fixture
def sabotaged(monkeypatch):
    """A lowering whose density is not Stan's."""
    honest = essper.models.stan_to_jax.lower

    def lower(*arguments, **options):
        result = honest(*arguments, **options)
        right = result.log_density
        object.__setattr__(result, "log_density", lambda x: right(x) + 1e-5 * (x**2).sum())
        return result

    monkeypatch.setattr(essper.models.stan_to_jax, "lower", lower)


def essper_(*arguments, code: int = 0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="essper")
    assert result.exit_code == code, result.output
    return result


def as_json(*arguments, code: int = 0):
    return json.loads(essper_(*arguments, "--json", code=code).stdout)


# -- check ----------------------------------------------------------------------------------------


def test_check_compares_at_random_points_and_at_reference_draws():
    facts = as_json("check", "8schools", "--backend", "jax")
    (found,) = facts["checks"]
    assert (found["name"], found["verdict"], facts["passed"]) == (EIGHT_SCHOOLS, "passed", True)
    for points in ("random", "reference"):
        assert len(found[points]["gradient_errors"]) >= 20
    assert found["gradient_error"] < 1e-12
    assert found["value_error"] < 1e-12
    assert (found["loops"], found["dim"], found["draws"]) == ("none", 10, 10_000)
    assert 0 < found["max_abs_z"] <= found["threshold"]
    assert min(found["set_up"].values()) > 0


def test_check_shows_loops_and_does_not_count_what_is_unsupported_in_a_survey(layer, monkeypatch):
    from essper.posteriordb_adapter import PosteriorDatabase

    names = ["toy-loops", "toy-unlowered"]
    named = essper_("check", *names, "--backend", "jax", "--database", layer, code=1)
    rows = {line.split()[0]: line for line in named.stdout.splitlines() if line.startswith("toy-")}
    assert "batch 1, scan 1" in rows["toy-loops"]
    assert "unlowered.stan:4:" in named.stdout
    assert "Programs: 1 passed, 1 unsupported" in named.stderr
    assert essper_("check", "toy-loops", "--backend", "jax", "--database", layer).exit_code == 0
    monkeypatch.setattr(PosteriorDatabase, "names", lambda self: names)
    survey = as_json("check", "--all", "--backend", "jax", "--database", layer)
    assert [it["verdict"] for it in survey["checks"]] == ["passed", "unsupported"]
    assert survey["passed"] is True
    assert survey["programs"] == {"loops": "passed", "unlowered": "unsupported"}


def test_check_finds_another_density(layer, sabotaged):
    result = essper_("check", "toy-loops", "--backend", "jax", "--database", layer, code=1)
    assert "MISMATCH" in result.stdout
    assert "relative errors are up to" in result.stdout


def test_check_survives_a_lowering_that_breaks(layer, monkeypatch):
    def broken(*_, **__):
        raise TypeError("a bug")

    monkeypatch.setattr(coverage, "lowered_in_time", broken)
    facts = as_json("check", "toy-loops", "toy-unlowered", "--backend", "jax", "--database", layer, code=1)
    assert [it["verdict"] for it in facts["checks"]] == ["BROKEN", "BROKEN"]
    assert facts["checks"][0]["reason"] == "TypeError: a bug"


def test_a_program_is_as_good_as_its_worst_posterior():
    rows = [("a", PASSED), ("a", MISMATCH), ("b", UNSUPPORTED), ("b", PASSED), ("c", PASSED), ("", BROKEN)]
    covered = [Covered(str(i), program, verdict) for i, (program, verdict) in enumerate(rows)]
    assert verdicts_of_programs(covered) == {"a": MISMATCH, "b": UNSUPPORTED, "c": PASSED}


@pytest.mark.parametrize(
    ("error", "rounding", "tolerance", "words"),
    [
        (1e-9, 0.0, 1e-8, ""),
        (5e-8, 2e-8, 1e-8, "5.0e-08 is within Stan's own rounding there, up to 2.0e-08"),
        (5e-2, 0.0, 0.1, "up to 0.1 is allowed, not 1e-08"),
    ],
)
def test_a_large_error_that_passes_is_explained(error, rounding, tolerance, words):
    found = Agreement((error,), (0.0,), (rounding,))
    covered = Covered("p", "m", PASSED, tolerance=tolerance, random=found)
    assert found.within(tolerance)
    assert _excuse(covered).startswith(words)
    assert bool(_excuse(covered)) == bool(words)


def test_random_points_are_also_those_where_the_density_is_zero():
    class HalfLine:
        def param_unc_num(self):
            return 1

        def log_density_gradient(self, x):
            if x[0] > 0.1:
                raise RuntimeError("too large")
            return -(x[0] ** 2), -2 * x

    points = coverage.random_points(HalfLine(), "float64")
    assert (points <= 0.1).sum() >= coverage.POINTS
    assert (points > 0.1).any()
    assert len(np.unique(points)) == len(points)


# -- lower ----------------------------------------------------------------------------------------


def test_lower_says_what_was_parsed_and_how_loops_were_compiled(tmp_path):
    program, data = tmp_path / "loops.stan", tmp_path / "toy.json"
    program.write_text(LOOPS)
    data.write_text(json.dumps(DATA))
    facts = as_json("lower", program, "--data", data)
    assert [(it["name"], it["type"], it["unconstrained"]) for it in facts["parameters"]] == [
        ("mu", "real", 1),
        ("s", "array[2] vector<lower, upper>[3]", 6),
    ]
    assert (facts["dim"], facts["agrees"]) == (7, True)
    assert len(facts["agreement"]["gradient_errors"]) == 20
    assert [(loop["line"], loop["mode"], loop["iterations"]) for loop in facts["loops"]] == [
        (6, "scan", 59),
        (8, "batch", 60),
    ]
    assert facts["equations"] > 0
    shown = essper_("lower", program, "--data", data, "--explain").stdout
    for words in ("batch 1, scan 1", "the same density at 20 points", "array[2] vector<lower, upper>[3]"):
        assert words in shown
    line = next(line for line in shown.splitlines() if "scan" in line and line.split()[0] == "6")
    assert "level" in line  # the reason names what an iteration needs of the one before


def test_lower_takes_posteriors_and_says_what_it_does_not_take(tmp_path, layer):
    assert "10 unconstrained" in essper_("lower", "8schools").stdout
    wrong = [
        (("lower", "8schools", "--data", "x.json"), "--data belongs to a .stan file"),
        (("lower", tmp_path / "none.stan"), "there is no Stan program at"),
        (("lower", "no_such"), "no posterior 'no_such'"),
        (("lower", "8schools", "--precision", "float16"), "--precision"),
        (("lower", "toy-unlowered", "--database", layer), "unlowered.stan:4:"),
    ]
    for arguments, words in wrong:
        result = essper_(*arguments, code=2)
        assert words in result.stderr
        assert result.stderr.count("\n") == 1


def test_lower_finds_another_density(sabotaged):
    assert "NOT THE SAME DENSITY" in essper_("lower", "8schools", code=1).stdout


def test_loop_modes_in_words():
    loops = [Loop("f", 1, "i", 2, mode, "") for mode in ("scan", "batch", "batch")]
    assert loop_modes(loops) == "batch 2, scan 1"
    assert loop_modes([]) == "none"


@pytest.mark.parametrize("command", ["check", "lower", "compare"])
def test_help_has_the_options_and_examples(command):
    shown = essper_(command, "--help").stdout
    assert f"essper {command}" in shown.partition("Examples")[2]
    assert "--precision" in shown


# -- compare --------------------------------------------------------------------------------------


def test_compare_runs_lowered_densities_and_records_it(tmp_path):
    arguments = ["compare", "8schools", "--sampler", "hmc", "--budget", "4000", "--out", tmp_path]
    arguments += ["--chains", "2", "--backend", "jax"]
    (planned,) = as_json(*arguments, "--dry-run")["cells"]
    assert (planned["backend"], planned["platform"], planned["precision"]) == ("jax", "cpu", "float64")
    CliRunner().invoke(app, [str(argument) for argument in arguments])  # may well not converge
    (path,) = tmp_path.glob("cells/*/record.json")
    record = json.loads(path.read_text())
    assert record["status"] != "failed", record["error"]
    assert record["digest"] == planned["digest"]
    assert record["backend"] == "jax (lowered, float64)"
    assert record["lowering"]["compared"] >= 3
    assert record["lowering"]["gradient_error"] < 1e-8
    assert record["cost"]["executed"] is None
