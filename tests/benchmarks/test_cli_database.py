"""list, show and check on databases written for the purpose, and the rules that hold for all commands."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from essper.benchmarks.cli.app import app
from essper.benchmarks.cli.errors import InputError, one_line
from essper.benchmarks.cli.facts import Listed, data_variables
from essper.benchmarks.cli.filters import parse_condition, select
from essper.benchmarks.cli.output import Column, fitted_table, jsonable
from typer.testing import CliRunner

PROGRAM = """
data { int<lower=1> N; vector[N] location; }
parameters { vector[N] theta; simplex[3] p; }
transformed parameters { real total = sum(theta); }
model { theta ~ normal(location, 1); p ~ dirichlet(rep_vector(2, 3)); }
"""
DATA = {"N": 2, "location": [1.0, -0.5]}
NAMES = ("theta[1]", "theta[2]", "p[1]", "p[2]", "p[3]")
REFERENCE = "reference_posteriors/draws/draws/toy-good.json"
SCRIPT = Path(sysconfig.get_path("scripts")) / "essper"


def exact_draws(shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(3)
    theta = rng.standard_normal((4, 500, 2)) + DATA["location"] + shift
    return np.concatenate([theta, rng.dirichlet([2, 2, 2], (4, 500))], -1)


def write_layer(root: Path, *, shift: float = 0.0, program: str = PROGRAM) -> Path:
    """A layer with ``toy-good`` (with reference draws) and ``toy-bare`` (without)."""
    contents = {"models/stan/good.stan": program, "models/stan/bare.stan": program}
    contents["data/data/toy.json"] = json.dumps(DATA)
    contents["models/info/good.info.json"] = json.dumps({"title": "A toy", "keywords": ["gaussian"]})
    for model, reference in (("good", "toy-good"), ("bare", None)):
        record = {"model_name": model, "data_name": "toy", "reference_posterior_name": reference}
        contents[f"posteriors/toy-{model}.json"] = json.dumps(record)
    for relative, content in contents.items():
        path = root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    write_draws(root, NAMES, exact_draws(shift))
    return root


def write_draws(root: Path, names, draws) -> None:
    """The reference draws of ``toy-good``, unrounded."""
    chains = [dict(zip(names, chain.T.tolist(), strict=True)) for chain in draws]
    path = root / REFERENCE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(chains))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Neither the developer's databases nor a cache of dimensions decide what the tests see."""
    monkeypatch.delenv("POSTERIORDB_PATH", raising=False)
    monkeypatch.setenv("ESSPER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def toy(tmp_path) -> Path:
    return write_layer(tmp_path / "toys")


def essper(*arguments, code: int = 0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="essper")
    assert result.exit_code == code, result.output
    return result


def as_json(*arguments, code: int = 0):
    return json.loads(essper(*arguments, "--json", code=code).stdout)


# -- list -----------------------------------------------------------------------------------------


def test_list_gives_model_data_dimension_reference_and_layers(toy):
    facts = as_json("list", "--database", toy, "--where", "toy")
    good = next(row for row in facts["posteriors"] if row["name"] == "toy-good")
    assert (good["model"], good["data"], good["dim"], good["reference"]) == ("good", "toy", 4, True)
    assert good["sources"]["program"] == "toys"
    assert [layer["label"] for layer in facts["layers"]] == ["toys", "built-in"]


def test_list_has_the_built_in_posteriors_with_their_dimensions():
    dims = {row["name"]: row["dim"] for row in as_json("list", "--where", "eight_schools")["posteriors"]}
    assert dims["eight_schools-eight_schools_noncentered"] == 10
    assert None not in dims.values()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["toy"], ["toy-bare", "toy-good"]),
        (["GAUSSIAN", "toy"], ["toy-good"]),
        (["keyword=a toy"], ["toy-good"]),
        (["toy", "no-reference"], ["toy-bare"]),
        (["toy", "dim = 4", "has-reference"], ["toy-good"]),
        (["toy", "dim>=5"], []),
    ],
)
def test_where_conditions_must_all_hold(toy, where, expected):
    options = [part for condition in where for part in ("--where", condition)]
    facts = as_json("list", "--database", toy, *options)
    assert [row["name"] for row in facts["posteriors"]] == expected


@pytest.mark.parametrize("text", ["dim<x", "model=good", "", "keyword=", "has-refrence", "dim<-1"])
def test_conditions_without_meaning_are_refused(text):
    with pytest.raises(InputError, match="--where"):
        parse_condition(text)


def test_an_unknown_dimension_satisfies_no_condition_on_it():
    row = Listed("a-b", "", (), "b", "a", None, "broken", False, {})
    assert select([row], [parse_condition("dim<5")]) == select([row], [parse_condition("dim>=5")]) == []


def test_a_posterior_that_cannot_be_built_or_read_is_listed_with_the_reason(toy):
    (toy / "models/stan/bare.stan").unlink()
    (toy / "posteriors/toy-torn.json").write_text("{")
    rows = {row["name"]: row for row in as_json("list", "--database", toy, "--where", "toy-")["posteriors"]}
    assert rows["toy-bare"]["dim"] is None
    assert "bare.stan" in rows["toy-bare"]["reason"]
    assert rows["toy-bare"]["sources"]["program"] is None
    assert "not JSON" in rows["toy-torn"]["reason"]
    assert rows["toy-good"]["dim"] == 4
    line = next(x for x in essper("list", "--database", toy).stdout.splitlines() if "toy-bare" in x)
    assert "?" in line
    assert "program: no layer" in line


def test_dimensions_are_kept_and_follow_program_and_data(toy, monkeypatch):
    import essper.benchmarks.cli.dimensions as dimensions

    def dim():
        rows = as_json("list", "--database", toy, "--where", "toy-good")["posteriors"]
        return rows[0]["dim"]

    assert dim() == 4
    built = []
    build = dimensions.stan_model
    monkeypatch.setattr(dimensions, "stan_model", lambda *a: built.append(a) or build(*a))
    assert dim() == 4
    assert not built
    (toy / "data/data/toy.json").write_text(json.dumps({"N": 3, "location": [0, 0, 0]}))
    assert dim() == 5
    assert len(built) == 1


def test_the_database_given_comes_before_the_environments(toy, tmp_path, monkeypatch):
    other = write_layer(
        tmp_path / "others", program=PROGRAM.replace("simplex[3] p;", "simplex[3] p; real z;")
    )
    monkeypatch.setenv("POSTERIORDB_PATH", str(other))
    assert as_json("show", "toy-good")["dim"] == 5
    assert as_json("show", "toy-good", "--database", toy)["dim"] == 4


# -- show -----------------------------------------------------------------------------------------


def test_show_sums_up_data_parameters_and_reference(toy):
    facts = as_json("show", "toy-good", "--database", toy)
    assert [(v["name"], v["type"], v["shape"], v["value"]) for v in facts["variables"]] == [
        ("N", "int", [], 2),
        ("location", "real", [2], None),
    ]
    parameters = {p["name"]: p for p in facts["parameters"]}
    assert (parameters["p"]["elements"], parameters["p"]["unconstrained"]) == (3, 2)
    assert (parameters["p"]["in_reference"], parameters["total"]["in_reference"]) == (3, 0)
    assert parameters["total"]["kind"] == "transformed"
    summary = facts["reference"]["parameters"][0]
    column = exact_draws()[..., 0]
    assert summary["mean"] == pytest.approx(column.mean(), abs=1e-3)
    assert summary["q95"] == pytest.approx(np.quantile(column, 0.95), abs=0.01)
    assert 1500 < summary["ess_bulk"] < 2500
    assert summary["in_model"] is True


def test_show_names_what_gibbs_samplers_draw_exactly(toy):
    assert as_json("show", "simulated_kidiq-kidscore_momiq")["conditionals"] == ["beta", "sigma"]
    assert as_json("show", "toy-good", "--database", toy)["conditionals"] == []


def test_show_says_what_of_the_reference_the_model_lacks(toy):
    renamed = ("other", *NAMES[1:])
    write_draws(toy, renamed, exact_draws())
    facts = as_json("show", "toy-good", "--database", toy)
    assert [p["in_model"] for p in facts["reference"]["parameters"]] == [False, True, True, True, True]
    assert next(p for p in facts["parameters"] if p["name"] == "theta")["in_reference"] == 1
    shown = essper("show", "toy-good", "--database", toy).stdout
    assert "1 of 2" in shown
    assert "not in model" in shown


def test_show_works_where_the_model_cannot_be_built(toy):
    (toy / "models/stan/good.stan").write_text("parameters { real x; } model { x ~ nothing(1); }")
    facts = as_json("show", "toy-good", "--database", toy)
    assert facts["dim"] is None
    assert "nothing" in facts["reason"]
    assert facts["reference"]["parameters"][0]["in_model"] is None
    assert "cannot be built" in essper("show", "toy-good", "--database", toy).stdout


def test_show_program_prints_the_program_and_nothing_else(toy):
    assert essper("show", "toy-good", "--program", "--database", toy).stdout == PROGRAM
    assert as_json("show", "toy-good", "--program", "--database", toy)["code"] == PROGRAM


def test_data_variables_of_odd_shapes():
    data = {"x": [[1, 2], [3, 4]], "inf": ["Infinity", 1.0], "ragged": [[1], [2, 3]], "empty": []}
    kinds = {v.name: (v.type, v.shape) for v in data_variables(data)}
    assert kinds["x"] == ("int", (2, 2))
    assert kinds["inf"] == ("real", (2,))
    assert kinds["ragged"][0] == "ragged or mixed"
    assert kinds["empty"][1] == (0,)


# -- check ----------------------------------------------------------------------------------------


def test_check_passes_exact_draws_and_lists_posteriors_without_reference(toy):
    facts = as_json("check", "toy-good", "toy-bare", "--database", toy)
    good, bare = facts["checks"]
    assert (good["verdict"], bare["verdict"], facts["passed"]) == ("passed", "no reference", True)
    assert (good["dim"], good["draws"], good["comparisons"]) == (4, 2000, 8)
    assert 0 < good["max_abs_z"] <= good["threshold"]


def test_check_fails_draws_of_something_else(tmp_path):
    shifted = write_layer(tmp_path / "shifted", shift=0.5)
    facts = as_json("check", "toy-good", "--database", shifted, code=1)
    assert facts["checks"][0]["verdict"] == "FAILED"
    assert facts["checks"][0]["where"].startswith("theta[")
    result = essper("check", "toy-good", "--database", shifted, code=1)
    assert "DOES NOT HOLD" in result.stdout


def test_check_fails_where_the_model_cannot_be_built(toy):
    (toy / "models/stan/bare.stan").write_text("model {")
    checks = as_json("check", "toy-bare", "toy-good", "--database", toy, code=1)["checks"]
    assert [check["verdict"] for check in checks] == ["cannot build", "passed"]
    assert "Stan rejects" in checks[0]["reason"]


def test_check_fails_a_reference_that_is_broken(toy):
    (toy / REFERENCE).write_text("[{}]")
    (check,) = as_json("check", "toy-good", "--database", toy, code=1)["checks"]
    assert (check["verdict"], check["dim"]) == ("FAILED", 4)
    assert "toy-good.json" in check["reason"]


def test_check_wants_posteriors_or_all_of_them():
    for arguments in (["check"], ["check", "--all", "eight_schools"]):
        assert "--all" in essper(*arguments, code=2).stderr


# -- what holds for every command -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "eigth_schools"], ["no posterior 'eigth_schools'", "did you mean eight_schools"]),
        (["check", "eigth_schools"], ["did you mean eight_schools"]),
        (["list", "--database", "/no/such/layer"], ["/no/such/layer is not a directory"]),
        (["list", "--where", "dim<x"], ["'dim<x' has no meaning"]),
        (["list", "--nonsense"], ["--nonsense", "essper list --help"]),
        (["show"], ["POSTERIOR", "essper show --help"]),
        (["shwo"], ["'shwo'", "'show'"]),
    ],
)
def test_wrong_input_is_one_line_on_stderr_and_exit_code_2(arguments, words):
    result = essper(*arguments, code=2)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("essper: ")
    for word in words:
        assert word in result.stderr


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    from essper.benchmarks.cli import database

    def broken(_):
        raise TypeError("a bug")

    monkeypatch.setattr(database, "open_database", broken)
    result = CliRunner().invoke(app, ["list"])
    assert isinstance(result.exception, TypeError)


def test_ctrl_c_is_one_line_and_exit_code_130(monkeypatch):
    from essper.benchmarks.cli import database

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(database, "open_database", interrupted)
    assert essper("list", code=130).stderr == "essper: interrupted\n"


def test_stans_message_becomes_one_line():
    message = "Stan rejects it:\nline 1:\n   -----\n   1: real x\n   -----\n\nIll-formed."
    assert one_line(message) == "Stan rejects it: line 1: Ill-formed."
    assert one_line("no end\nof this") == "no end; of this"


@pytest.mark.parametrize("command", ["list", "show", "check", "doctor"])
def test_help_has_examples(command):
    shown = essper(command, "--help").stdout
    assert f"essper {command}" in shown.partition("Examples")[2]
    assert "--json" in shown


def test_tables_leave_columns_out_before_they_cut_names():
    columns = (Column("Name"), Column("Rare", dispensable=2), Column("Useful", dispensable=1), Column("End"))
    rows = [["a_long_name", "rare", "useful", "end"]]
    widths = {40: [], 26: ["Rare"], 18: ["Rare", "Useful"], 5: ["Rare", "Useful"]}
    for width, expected in widths.items():
        assert fitted_table(columns, rows, width)[1] == expected


def test_json_has_no_nan():
    assert jsonable({"x": np.array([1.0, np.nan]), "n": np.int64(3), "p": Path("a")}) == {
        "x": [1.0, None],
        "n": 3,
        "p": "a",
    }


def run_script(*arguments, **environment):
    return subprocess.run(
        [SCRIPT, *arguments], capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )


def test_piped_output_is_plain_and_rows_are_whole(monkeypatch):
    monkeypatch.delenv("COLUMNS")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    done = run_script("list", "--where", "eight")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    row = next(line for line in done.stdout.splitlines() if "noncentered" in line)
    assert row.split()[:2] == ["eight_schools-eight_schools_noncentered", "10"]
    assert row.rstrip().endswith("built-in")


def test_no_color_means_no_escape_sequences_even_where_colour_is_forced():
    done = run_script("list", "--where", "eight", NO_COLOR="1", FORCE_COLOR="1")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout


def test_a_reader_that_leaves_is_no_error():
    command = f"'{SCRIPT}' list --where eight | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.stdout == "P"
    assert "Traceback" not in done.stderr


def test_the_script_starts_without_jax():
    code = (
        "import sys; from essper.benchmarks.cli.app import app;"
        " app(['list', '--help'], standalone_mode=False); print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
    assert run_script("--version").stdout.startswith("essper ")
