"""Stan programs and a library that behaves as a test needs."""

import ctypes
import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

TOY_SOURCE = Path(__file__).with_name("toy_model.cc")


@pytest.fixture(scope="session")
def programs():
    """Stan programs and data, by what they are for."""
    return SimpleNamespace(
        # dim 3, data distinguish two models
        regression="""
data { int N; vector[N] x; vector[N] y; }
parameters { real a; real b; real<lower=0> sigma; }
model { a ~ normal(0, 1); b ~ normal(0, 1); sigma ~ exponential(1); y ~ normal(a + b * x, sigma); }
""",
        first={"N": 3, "x": [0.0, 1.0, 2.0], "y": [0.1, 0.9, 2.3]},
        second={"N": 2, "x": [0.5, -1.0], "y": [4.0, -2.0]},
        # dim 1, rejects above 1, not finite below -1
        rejecting="""
parameters { real x; }
model { if (x > 1) reject("x is ", x); target += x < -1 ? positive_infinity() : -square(x); }
""",
        # at 0 a finite value with a gradient that is not: 0 · ∞ in the chain rule
        kinked="parameters { real x; } model { target += inv(inv(x)); }",
        denormal="parameters { real x; } model { target += 1e-310 * x; }",
        shaped="""
data { int K; }
parameters { matrix[2, K] A; simplex[K] s; real<lower=0> tau; }
transformed parameters { vector[2] m = A * s; if (tau > 100) reject("tau is ", tau); }
model { to_vector(A) ~ normal(0, 1); tau ~ exponential(1); }
generated quantities { real unused = tau; }
""",
    )


@pytest.fixture(params=["ffi", "callback"])
def ffi(request):
    """Both ways of calling Stan, which have to agree in everything but speed."""
    return request.param


def toy_command(*flags: str) -> list[str]:
    names = ("MAJOR", "MINOR", "PATCH")
    numbers = [f"-D{n}={v}" for n, v in zip(names, version("bridgestan").split("."), strict=False)]
    compiler = os.environ.get("CXX") or shutil.which("c++") or "g++"
    return [compiler, "-std=c++17", "-O1", "-shared", "-fPIC", "-pthread", *numbers, *flags, str(TOY_SOURCE)]


@pytest.fixture
def toy(tmp_path):
    """Builds the toy model into a library of its own: ``toy(threads=...) -> path, controls``."""

    def build(*, threads: bool = True, name: str = "toy"):
        path = tmp_path / f"{name}_model.so"
        flags = ["-DTHREADS"] if threads else []
        subprocess.run([*toy_command(*flags), "-o", str(path)], check=True)
        controls = ctypes.CDLL(str(path))
        controls.toy_hold.argtypes = [ctypes.c_bool]
        return path, controls

    return build


@pytest.fixture
def fake_bridgestan(tmp_path):
    """A folder that BridgeStan's build accepts as its sources; what it builds is the toy model."""
    folder = tmp_path / "bridgestan"
    folder.mkdir()
    recipe = " ".join(toy_command("-DTHREADS"))
    (folder / "Makefile").write_text(
        "%_model.so: %.stan\n"
        "\t@test '$(STAN_THREADS)' = true\n"
        "\t@if grep -q wrong $<; then echo 'Semantic error: wrong' >&2; exit 1; fi\n"
        f"\t@{recipe} -o $@\n"
    )
    return folder
