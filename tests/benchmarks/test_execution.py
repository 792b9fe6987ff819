"""Cells in processes: crashes, kills, interruption and resumption."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import essper.models
import numpy as np
import pytest
import xarray
from essper.benchmarks.cells import Cell, plan
from essper.benchmarks.execution import missing_cells, run_cells
from essper.benchmarks.specs import SAMPLERS, SamplerSpec, parse_spec
from essper.benchmarks.store import cell_folder, has_cell, load_records
from essper.benchmarks.worker import Task, run_task
from essper.models.factorization import FactorizationError
from essper.posteriordb_adapter import PosteriorDatabase

NAME = "eight_schools-eight_schools_noncentered"
SCRIPT = """
import sys
from pathlib import Path
from test_execution import cells
from essper.benchmarks.execution import missing_cells, run_cells

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    run_cells(missing_cells(cells(), directory), directory, (), jobs=2,
              listener=lambda cell, message: print(message.kind, message.digest, flush=True))
"""


def cells(budget: int = 4000) -> list[Cell]:
    """A small plan: four cells that take about a second each."""
    posterior = PosteriorDatabase().posterior(NAME)
    return plan([posterior], [parse_spec("hmc"), parse_spec("nuts")], seeds=2, budget=budget, chains=2)


def draws(directory: Path, digest: str) -> np.ndarray:
    with xarray.open_dataset(
        cell_folder(directory, digest) / "draws.nc", group="unconstrained", engine="h5netcdf"
    ) as data:
        return data["x"].to_numpy()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("undisturbed")
    run_cells(cells(), directory, (), jobs=2)
    return directory


def test_every_cell_leaves_its_record_and_draws(undisturbed: Path) -> None:
    records = load_records(undisturbed)
    assert {r["digest"] for r in records} == {c.digest for c in cells()}
    for record in records:
        assert record["status"] != "failed", record["error"]
        cost = record["cost"]
        assert cost["executed"]["gradients"] == cost["warmup"]["gradients"] + cost["sampling"]["gradients"]
        assert draws(undisturbed, record["digest"]).shape == (2, record["draws"], record["dim"])
    assert missing_cells(cells(), undisturbed) == []


def test_a_finished_cell_is_not_run_again(undisturbed: Path) -> None:
    paths = sorted(undisturbed.glob("cells/*/record.json"))
    before = [path.stat().st_mtime_ns for path in paths]
    run_cells(missing_cells(cells(), undisturbed), undisturbed, (), jobs=2)
    assert [path.stat().st_mtime_ns for path in paths] == before


def start(directory: Path) -> subprocess.Popen:
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": str(here)}
    script = directory.parent / f"run_{directory.name}.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, str(script), str(directory)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def workers_of(pid: int) -> list[int]:
    """The children of a process, read from /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and b"spawn_main" in (path.parent / "cmdline").read_bytes():
            found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes to kill in /proc")
def test_killed_at_any_moment_and_started_again_it_gives_the_same_draws(
    undisturbed: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "killed"
    process = start(directory)
    assert process.stdout is not None
    for line in process.stdout:  # kill it between its first and its last cell
        if line.startswith("done"):
            break
    workers = workers_of(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers):  # they must not outlive their parent
        assert time.monotonic() < deadline, "the workers of a killed run live on"
        time.sleep(0.05)

    finished = [c for c in cells() if has_cell(directory, c.digest)]
    assert 0 < len(finished) < len(cells())
    run_cells(missing_cells(cells(), directory), directory, (), jobs=2)
    for cell in cells():
        assert np.array_equal(draws(directory, cell.digest), draws(undisturbed, cell.digest))
        mine, theirs = (
            (cell_folder(d, cell.digest) / "draws.nc").read_bytes() for d in (directory, undisturbed)
        )
        assert mine == theirs
    assert not list(directory.glob("cells/.*"))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes to kill in /proc")
def test_a_killed_worker_costs_its_cell_and_nothing_else(tmp_path: Path) -> None:
    plan = cells()
    killed: list[str] = []

    def kill_once(cell: Cell, message) -> None:
        if message.kind == "progress" and not killed:
            killed.append(cell.digest)
            for pid in workers_of(os.getpid()):
                os.kill(pid, signal.SIGKILL)

    # A budget that takes long enough for a message to arrive on the way.
    plan = cells(budget=200_000)[:2]
    run_cells(plan, tmp_path, (), jobs=1, listener=kill_once)
    assert killed
    records = {r["digest"]: r for r in load_records(tmp_path)}
    assert records[killed[0]]["status"] == "failed"
    assert records[killed[0]]["error"]["type"] == "ProcessDied"
    assert "signal 9" in records[killed[0]]["error"]["message"]
    assert all(r["status"] != "failed" for d, r in records.items() if d != killed[0])
    assert [c.digest for c in missing_cells(plan, tmp_path)] == killed


def test_an_error_becomes_a_failed_record_with_its_traceback(tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    (layer / "posteriors").mkdir(parents=True)
    (layer / "models/stan").mkdir(parents=True)
    (layer / "models/info").mkdir(parents=True)
    (layer / "data/data").mkdir(parents=True)
    (layer / "data/info").mkdir(parents=True)
    (layer / "models/stan/bad.stan").write_text('parameters { real x; } model { reject("never"); }')
    info = {"name": "bad", "model_implementations": {"stan": {"model_code": "models/stan/bad.stan"}}}
    (layer / "models/info/bad.info.json").write_text(json.dumps(info))
    (layer / "data/data/none.json").write_text("{}")
    (layer / "data/info/none.info.json").write_text(
        json.dumps({"name": "none", "data_file": "data/data/none.json"})
    )
    (layer / "posteriors/none-bad.json").write_text(
        json.dumps({"name": "none-bad", "model_name": "bad", "data_name": "none", "dimensions": {"x": 1}})
    )
    posterior = PosteriorDatabase(layer).posterior("none-bad")
    (cell,) = plan([posterior], [parse_spec("hmc")], seeds=1, budget=1000, chains=2)
    out = tmp_path / "out"
    run_cells([cell], out, (str(layer),), jobs=1)
    (record,) = load_records(out)
    assert record["status"] == "failed"
    assert "no initial position" in record["error"]["message"]
    assert "never" in record["error"]["message"]  # what Stan said
    assert "Traceback" in record["error"]["traceback"]


@dataclasses.dataclass(frozen=True)
class Batched:
    """A sampler that takes minibatches, of which no more than that is asked."""

    rows: str | None = None

    needs_rows: ClassVar[bool] = True


@pytest.mark.parametrize(("rows", "asked"), [(None, "auto"), ("N", "N")])
def test_minibatches_are_of_rows_that_the_sampler_names(rows, asked, tmp_path, monkeypatch):
    def refuse(*arguments: Any, **options: Any) -> None:
        raise FactorizationError(f"no sum over {options['rows']} by {arguments[2]}")

    monkeypatch.setitem(SAMPLERS, "batched", Batched)
    monkeypatch.setattr(essper.models, "from_stan", refuse)
    posterior = PosteriorDatabase().posterior("simulated_kidiq-kidscore_momiq")
    spec = SamplerSpec("batched", Batched(rows))
    (cell,) = plan([posterior], [spec], seeds=1, budget=10, chains=1)
    assert run_task(Task(cell, (), tmp_path)).status == "failed"
    (record,) = load_records(tmp_path)
    assert record["error"]["type"] == "FactorizationError"
    assert record["error"]["message"] == f"no sum over {asked} by jax"


def test_gibbs_draws_from_the_conditionals_of_the_posterior(tmp_path):
    posterior = PosteriorDatabase().posterior("simulated_kidiq-kidscore_momiq")
    (cell,) = plan([posterior], [parse_spec("gibbs")], seeds=1, budget=4000, chains=4)
    assert run_task(Task(cell, (), tmp_path)).status == "ok"
    (record,) = load_records(tmp_path)
    cost = record["cost"]
    assert record["efficiency"]["axis"] == "conditional draw"
    assert record["efficiency"]["ess_bulk_per_gradient"]["min"] is None
    assert record["efficiency"]["ess_bulk_per_evaluation_with_warmup"]["min"] > 0.1
    assert cost["sampling"]["conditional_draws"] == 4 * 2 * record["draws"]
    for kind in ("gradients", "densities"):
        assert cost["executed"][kind] == cost["warmup"][kind] + cost["sampling"][kind]
        assert cost["sampling"][kind] == 0


@dataclasses.dataclass(frozen=True)
class Amortized:
    """A sampler that treats local parameters apart, of which no more than that is asked."""

    hierarchy: str | None = None

    needs_hierarchy: ClassVar[bool] = True


@pytest.mark.parametrize(("hierarchy", "asked"), [(None, "auto"), ("J", "J")])
def test_local_parameters_are_by_the_size_that_the_sampler_names(hierarchy, asked, tmp_path, monkeypatch):
    def refuse(*arguments: Any, **options: Any) -> None:
        raise ValueError(f"{options['hierarchy']}, {options['rows']} by {arguments[2]}")

    monkeypatch.setitem(SAMPLERS, "amortized", Amortized)
    monkeypatch.setattr(essper.models, "from_stan", refuse)
    spec = SamplerSpec("amortized", Amortized(hierarchy))
    (cell,) = plan([PosteriorDatabase().posterior("eight_schools")], [spec], seeds=1, budget=10, chains=1)
    assert run_task(Task(cell, (), tmp_path)).status == "failed"
    (record,) = load_records(tmp_path)
    assert record["error"]["message"] == f"{asked}, None by bridgestan"
