"""The wheel holds what the packages read at run time, and nothing that would shadow a user's modules."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOT_PART_OF_IT = (".git", ".venv", "build", "dist", "results", "*.egg-info", "__pycache__", ".*_cache")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    # From a copy: setuptools builds inside the tree, where another test process may be building too.
    out = tmp_path_factory.mktemp("wheel")
    tree = out / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_PART_OF_IT))
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(tree)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_has_one_top_level_name(names: list[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"essper"}


def test_the_wheel_has_every_module_and_data_file_of_the_tree(names: list[str]) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "models", "samplers", "posteriordb_adapter", "benchmarks"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    if not tracked:
        pytest.skip("not a git checkout: the list of the tree's files comes from git")
    assert {f"essper/{path}" for path in tracked} <= set(names)
