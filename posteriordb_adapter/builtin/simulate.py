"""The simulated data sets of the built-in database.

Run as ``python -m essper.posteriordb_adapter.builtin.simulate``.

Each is drawn from its model at chosen parameters, with sizes and parameters such that the posterior
has one mode and is well identified. The names differ from posteriordb's, whose own data therefore
never hide behind these.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from ..files import write_atomically
from ..posterior import data_json
from . import DATABASE

SEED = 20250601
DIGITS = 4
"""Significant digits of the data: that files do not depend on the last bit of a platform's exp."""

Data = dict[str, Any]


def simulated_nes(rng: np.random.Generator) -> Data:
    n = 400
    data = {
        "real_ideo": rng.integers(1, 8, n),
        "race_adj": rng.choice([1.0, 1.5, 2.0], n, p=[0.75, 0.15, 0.1]),
        "educ1": rng.integers(1, 5, n),
        "gender": rng.integers(1, 3, n),
        "income": rng.integers(1, 6, n),
    }
    age = rng.integers(1, 5, n)
    slopes = np.array([0.55, -1.1, 0.25, -0.05, 0.15])
    mean = 1.8 + np.stack(list(data.values()), -1) @ slopes + np.array([0.0, -0.2, -0.1, 0.3])[age - 1]
    party = np.clip(np.rint(rng.normal(mean, 1.8)), 1, 7)
    return {"N": n, "partyid7": party.astype(int), **data, "age_discrete": age}


def simulated_garch(rng: np.random.Generator) -> Data:
    n, mu, alpha0, alpha1, beta1, sigma1 = 200, 5.0, 1.2, 0.4, 0.3, 1.5
    y, variance = np.empty(n), sigma1**2
    for t in range(n):
        y[t] = rng.normal(mu, np.sqrt(variance))
        variance = alpha0 + alpha1 * (y[t] - mu) ** 2 + beta1 * variance
    return {"T": n, "y": y, "sigma1": sigma1}


def simulated_ar(rng: np.random.Generator) -> Data:
    n, beta = 200, np.array([0.5, 0.25, 0.1, -0.1, -0.2])
    y = list(rng.normal(0.5, 0.3, len(beta)))
    while len(y) < n:
        y.append(0.2 + beta @ y[: -len(beta) - 1 : -1] + rng.normal(0, 0.2))
    return {"K": len(beta), "T": n, "y": np.array(y)}


def simulated_kidiq(rng: np.random.Generator) -> Data:
    n = 400
    iq, high_school = rng.normal(100, 15, n).clip(65, 145), rng.random(n) < 0.75
    score = rng.normal(26 + 0.6 * iq + high_school * (30 - 0.25 * iq), 18)
    return {
        "N": n,
        "kid_score": np.rint(score.clip(0, 200)).astype(int),
        "mom_iq": iq,
        "mom_hs": high_school.astype(int),
    }


def simulated_mesquite(rng: np.random.Generator) -> Data:
    n = 46
    diam1 = rng.lognormal(0.6, 0.35, n)
    diam2 = diam1 * rng.lognormal(-0.25, 0.2, n)
    canopy = rng.lognormal(0.1, 0.35, n)
    total = canopy * rng.lognormal(0.25, 0.12, n)
    density, group = rng.choice([1, 2, 3, 4, 5], n, p=[0.55, 0.2, 0.1, 0.1, 0.05]), np.arange(n) >= n // 2
    shape = 0.4 * np.log(diam1 * diam2 * canopy) + 0.4 * np.log(diam1 * diam2) - 0.4 * np.log(diam1 / diam2)
    mean = 5.3 + shape + 0.4 * np.log(total) + 0.1 * np.log(density) + 0.6 * group
    return {
        "N": n,
        "weight": rng.lognormal(mean, 0.33),
        "diam1": diam1,
        "diam2": diam2,
        "canopy_height": canopy,
        "total_height": total,
        "density": density,
        "group": group.astype(int),
    }


def simulated_hmm(rng: np.random.Generator) -> Data:
    n, theta, mu = 100, np.array([[0.75, 0.25], [0.15, 0.85]]), np.array([3.0, 9.0])
    state = [0]
    for _ in range(n - 1):
        state.append(rng.choice(2, p=theta[state[-1]]))
    return {"N": n, "K": 2, "y": rng.normal(mu[state], 1)}


def simulated_mixture(rng: np.random.Generator) -> Data:
    n, mu, sigma = 300, np.array([-2.5, 2.5]), np.array([0.8, 1.2])
    component = (rng.random(n) > 0.4).astype(int)
    return {"N": n, "y": rng.normal(mu[component], sigma[component])}


def simulated_gp(rng: np.random.Generator) -> Data:
    x = np.arange(-10, 11, 2.0)
    kernel = 1.5**2 * np.exp(-0.5 * ((x[:, None] - x) / 5.5) ** 2)
    f = 2.0 + np.linalg.cholesky(kernel + 1e-10 * np.eye(len(x))) @ rng.standard_normal(len(x))
    return {"N": len(x), "x": x, "y": rng.normal(f, 0.7), "k": rng.poisson(np.exp(f))}


def simulated_hare_lynx(rng: np.random.Generator) -> Data:
    n, theta, start, sigma = 20, (0.55, 0.028, 0.8, 0.024), np.array([30.0, 6.0]), 0.2

    def growth(_, z):
        return [z[0] * (theta[0] - theta[1] * z[1]), z[1] * (theta[3] * z[0] - theta[2])]

    ts = np.arange(1.0, n + 1)
    z = solve_ivp(growth, (0, n), start, t_eval=ts, rtol=1e-9, atol=1e-9).y.T
    return {
        "N": n,
        "ts": ts,
        "y_init": start * rng.lognormal(0, sigma, 2),
        "y": z * rng.lognormal(0, sigma, z.shape),
    }


def simulated_regression(rng: np.random.Generator) -> Data:
    n, d = 100, 5
    x = rng.normal(0, 1, (n, d))
    return {"N": n, "D": d, "X": x, "y": rng.normal(x @ np.array([1.0, -0.5, 2.0, 0.0, 1.5]), 1.2)}


def simulated_earnings(rng: np.random.Generator) -> Data:
    n = 300
    height = np.rint(rng.normal(66.5, 3.8, n))
    return {"N": n, "earn": rng.normal(20 + 1.2 * (height - 66.5), 12), "height": height}


def simulated_surgical(rng: np.random.Generator) -> Data:
    patients = np.rint(np.geomspace(40, 900, 16)).astype(int)
    rng.shuffle(patients)
    log_odds = rng.normal(-2.2, 0.6, len(patients))
    deaths = rng.binomial(patients, 1 / (1 + np.exp(-log_odds)))
    return {"N": len(patients), "n": patients, "r": deaths}


SIMULATORS: tuple[Callable[[np.random.Generator], Data], ...] = (
    simulated_nes,
    simulated_garch,
    simulated_ar,
    simulated_kidiq,
    simulated_mesquite,
    simulated_hmm,
    simulated_mixture,
    simulated_gp,
    simulated_hare_lynx,
    simulated_regression,
    simulated_earnings,
    simulated_surgical,
)


def simulate(simulator: Callable[[np.random.Generator], Data]) -> str:
    """One data set as the JSON text of its file; the same on every call."""
    # Seeded by name, so that a data set does not change when another is added before it.
    rng = np.random.default_rng([SEED, *simulator.__name__.encode()])
    return data_json({name: _plain(value) for name, value in simulator(rng).items()})


def _plain(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype.kind == "i":
        return array.tolist()
    rounded = [float(f"{number:.{DIGITS}g}") for number in array.flat]
    whole = [int(number) if number.is_integer() else number for number in rounded]
    return np.array(whole, dtype=object).reshape(array.shape).tolist()


def main(database: Path = DATABASE) -> None:
    """Write every simulated data set into a database."""
    for simulator in SIMULATORS:
        path = database / "data/data" / f"{simulator.__name__}.json"
        write_atomically(path, simulate(simulator).encode())


if __name__ == "__main__":
    main()
