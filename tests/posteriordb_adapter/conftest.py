"""A small database written into a temporary directory, and posteriordb where it is at hand."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from essper.posteriordb_adapter import PosteriorDatabase

REPOSITORY = Path(__file__).resolve().parents[2]

PROGRAM = """
data { real location; real<lower=0> shape; }
parameters { real mu; real<lower=0> tau; vector[2] z; }
transformed parameters { vector[2] theta = mu + tau * z; }
model { mu ~ normal(location, 2); tau ~ gamma(shape, 2); z ~ std_normal(); }
"""
"""A program whose posterior is its prior, so that exact draws are at hand (`exact_draws`)."""
DATA = {"location": 1.0, "shape": 3.0}
NAMES = ("mu", "tau", "z[1]", "z[2]", "theta[1]", "theta[2]")


def exact_draws(chains: int = 4, n: int = 1000, seed: int = 1) -> np.ndarray:
    """Draws of ``NAMES`` under ``PROGRAM`` and ``DATA``: f[chain, draw, 6]."""
    rng = np.random.default_rng(seed)
    shape = (chains, n, 1)
    mu, tau, z = rng.normal(1, 2, shape), rng.gamma(3, 0.5, shape), rng.standard_normal((chains, n, 2))
    return np.concatenate([mu, tau, z, mu + tau * z], -1)


def as_chains(names, draws) -> list[dict[str, list[float]]]:
    return [{n: chain[:, i].tolist() for i, n in enumerate(names)} for chain in draws]


class Layer:
    """Writes files of posteriordb's layout below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "posteriors").mkdir(parents=True, exist_ok=True)

    def text(self, relative: str, content: str) -> Path:
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def json(self, relative: str, value) -> Path:
        return self.text(relative, json.dumps(value))

    def zip(self, relative: str, members: dict[str, str], **options) -> Path:
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    def posterior(self, name: str = "toy-prior", **fields) -> Path:
        data, model = name.split("-")
        record = {"name": name, "model_name": model, "data_name": data, "reference_posterior_name": name}
        return self.json(f"posteriors/{name}.json", record | fields)

    def reference(self, name: str, names, draws) -> Path:
        path = f"reference_posteriors/draws/draws/{name}.json.zip"
        return self.zip(path, {f"{name}.json": json.dumps(as_chains(names, draws))})

    def database(self) -> PosteriorDatabase:
        return PosteriorDatabase(self.root, builtin=False)


@pytest.fixture
def layer(tmp_path) -> Layer:
    """A layer with nothing in it."""
    return Layer(tmp_path / "layer")


@pytest.fixture
def make_layer(tmp_path):
    """``name -> Layer``, for databases of several layers."""
    return lambda name: Layer(tmp_path / name)


@pytest.fixture
def toy(layer) -> Layer:
    """A layer with the posterior ``toy-prior``: program, data and reference draws."""
    layer.posterior(dimensions={"mu": 1, "tau": 1, "theta": 2})
    layer.text("models/stan/prior.stan", PROGRAM)
    layer.json("data/data/toy.json", DATA)
    layer.reference("toy-prior", NAMES, exact_draws())
    return layer


@pytest.fixture(scope="session")
def posteriordb() -> PosteriorDatabase:
    """posteriordb over the built-in database, from ``POSTERIORDB_PATH`` or beside the repository."""
    beside = REPOSITORY.parent / "shared/posteriordb"
    layers = [] if os.environ.get("POSTERIORDB_PATH") or not beside.is_dir() else [beside]
    database = PosteriorDatabase(*layers)
    if "nes2000-nes" not in database.names():
        pytest.skip("posteriordb is not at hand: set POSTERIORDB_PATH")
    return database
