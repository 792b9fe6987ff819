"""Reference draws are built, accepted by posteriordb's rules, found again, and change what is compared."""

import json
from pathlib import Path

import numpy as np
import pytest
from essper.benchmarks import reference
from essper.benchmarks.cells import plan
from essper.benchmarks.reference import NotAccepted, build_reference
from essper.benchmarks.specs import parse_spec
from essper.posteriordb_adapter import PosteriorDatabase, check_reference

NAME = "none-normal"


def layer_with_a_posterior(folder: Path) -> Path:
    """A layer of one posterior whose description names no reference, as a new one would."""
    parts = {
        "models/stan/normal.stan": "parameters { vector[2] x; } model { x ~ normal(1, [0.5, 20]'); }",
        "models/info/normal.info.json": json.dumps(
            {"name": "normal", "model_implementations": {"stan": {"model_code": "models/stan/normal.stan"}}}
        ),
        "data/data/none.json": "{}",
        "data/info/none.info.json": json.dumps({"name": "none", "data_file": "data/data/none.json"}),
        f"posteriors/{NAME}.json": json.dumps(
            {
                "name": NAME,
                "model_name": "normal",
                "data_name": "none",
                "reference_posterior_name": None,
                "dimensions": {"x": 2},
            }
        ),
    }
    for name, text in parts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_built_reference_is_used_from_then_on(tmp_path: Path) -> None:
    layer = layer_with_a_posterior(tmp_path / "posterior_database")
    before = PosteriorDatabase(layer).posterior(NAME)
    assert not before.has_reference
    path = build_reference(before, layer)
    assert path.is_file()

    posterior = PosteriorDatabase(layer).posterior(NAME)
    draws = posterior.reference()
    assert draws.draws.shape == (10, 1000, 2)
    assert check_reference(posterior.target(), draws).passed
    error = np.array([0.5, 20]) / 100
    assert np.all(np.abs(draws.draws.mean((0, 1)) - 1) < 4.5 * error)
    assert all(draws.info["checks_made"].values())
    # Cells judged without it, or by other draws, are not these cells.
    (old,), (new,) = (
        plan([p], [parse_spec("hmc")] * 2, seeds=1, budget=1000, chains=2) for p in (before, posterior)
    )
    assert old.target_digest == new.target_digest
    assert old.digest != new.digest


def test_what_is_not_accepted_is_not_written(tmp_path: Path) -> None:
    layer = layer_with_a_posterior(tmp_path / "posterior_database")
    attempts: list[reference.Attempt] = []
    with pytest.raises(NotAccepted, match="ndraws_is_10k"):
        build_reference(
            PosteriorDatabase(layer).posterior(NAME), layer, max_budget=3000, report=attempts.append
        )
    assert attempts
    assert not any(a.accepted for a in attempts)
    assert not (layer / "reference_posteriors").exists()
    assert json.loads((layer / f"posteriors/{NAME}.json").read_text())["reference_posterior_name"] is None
