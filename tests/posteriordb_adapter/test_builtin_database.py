"""The built-in database: complete, consistent, and simulated as the script says."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from essper.posteriordb_adapter import PosteriorDatabase
from essper.posteriordb_adapter.builtin import DATABASE, simulate

NAMES = sorted(path.stem for path in (DATABASE / "posteriors").glob("*.json"))


def builtin_posterior(name):
    return PosteriorDatabase(DATABASE, builtin=False).posterior(name)


def test_every_program_has_a_posterior():
    served = {builtin_posterior(name).model.name for name in NAMES}
    assert served == {path.stem for path in (DATABASE / "models/stan").glob("*.stan")}
    assert len(served) >= 16


@pytest.mark.parametrize("name", NAMES)
def test_posterior_is_complete_and_evaluates(name):
    posterior = builtin_posterior(name)
    assert all(posterior.sources()[part] for part in ("posterior", "model", "program", "data"))
    assert posterior.model.title
    assert posterior.data_info.title
    target = posterior.target()
    value, gradient = target.value_and_grad(jnp.full(target.dim, 0.1))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert np.any(np.asarray(gradient) != 0)
    sizes = {v: sum(re.split(r"\[", n)[0] == v for n in target.param_names) for v in posterior.dimensions}
    assert sizes == posterior.dimensions


@pytest.mark.parametrize("simulator", simulate.SIMULATORS, ids=lambda simulator: simulator.__name__)
def test_simulated_data_are_those_of_the_script(simulator):
    committed = DATABASE / "data/data" / f"{simulator.__name__}.json"
    assert committed.read_text() == simulate.simulate(simulator)


def test_the_script_writes_what_it_simulates(tmp_path):
    simulate.main(tmp_path)
    written = {path.name: path.read_bytes() for path in (tmp_path / "data/data").iterdir()}
    committed = (DATABASE / "data/data").glob("simulated_*.json")
    assert written == {path.name: path.read_bytes() for path in committed}


def test_data_are_eight_schools_or_simulated():
    names = {path.stem for path in (DATABASE / "data/data").iterdir()}
    assert {name for name in names if not name.startswith("simulated_")} == {"eight_schools"}
    schools = builtin_posterior("eight_schools").data()
    assert schools["y"] == [28, 8, -3, 7, -1, 1, 18, 12]
    assert schools["sigma"] == [15, 10, 16, 11, 9, 11, 10, 18]


def test_nothing_built_in_shadows_posteriordb(posteriordb):
    """Our names are new, but for the eight schools, whose data are the same."""
    above = posteriordb.layers.roots[:-1]
    shared = [
        name for name in NAMES if any((root / "posteriors" / f"{name}.json").exists() for root in above)
    ]
    assert shared == ["eight_schools-eight_schools_centered", "eight_schools-eight_schools_noncentered"]
    published = posteriordb.posterior("eight_schools").data()
    assert builtin_posterior("eight_schools").data() == published
