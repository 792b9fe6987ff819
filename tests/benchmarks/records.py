"""Records of cells that never ran, for the tests of what is made of records."""

import hashlib
from typing import Any

import numpy as np

TRUST_NEITHER = "neither the draws nor importance weights can be trusted"
VERSIONS = {"essper": "0.1.0", "jax": "0.10.0", "python": "3.12.3"}


def make_record(
    posterior: str = "eight_schools-eight_schools_noncentered",
    sampler: str = "nuts",
    seed: int = 0,
    status: str = "ok",
    ess: float = 2000.0,
    **changes: Any,
) -> dict[str, Any]:
    """A record whose figures follow from the least bulk ESS, `ess`, at 20000 + 80000 gradients.

    `changes` replace top-level entries (None among them). An approximate sampler has no ESS per cost.
    """
    gradient_free = changes.pop("gradient_free", False)
    approximate = changes.get("approximate", False)
    biased = status == "biased"
    record = _identity(posterior, sampler, seed, status) | {
        "layout": "independent",
        "backend": "bridgestan (stanli 0.24.0, ffi)",
        "lowering": None,
        "dim": 10,
        "draws": 2500,
        "cost": {
            "warmup": _cost(20000, gradient_free),
            "sampling": _cost(80000, gradient_free),
            "per_chain": {"warmup": [5000] * 4, "sampling": [20000] * 4},
            "spent": {"warmup": 20000, "sampling": 80000},
            "executed": {
                "gradients": 0 if gradient_free else 100000,
                "densities": 100000 if gradient_free else 0,
                "failed": 0,
            },
        },
        "timing": {"compile": 2.5, "warmup": 0.8, "sampling": 3.2, "metrics": 0.4},
        "diagnostics": {
            "rhat_max": 1.08 if status == "not converged" else 1.002 + 0.001 * seed,
            "rhat_worst": "tau",
            "ess_bulk_min": ess,
            "ess_bulk_worst": "tau",
            "divergences": 3 if biased else 0,
            "acceptance": 0.8,
            "step_size": [0.31, 0.29, 0.3, 0.33],
            "integration_time": None,
            "stuck_chains": 0,
        },
        "efficiency": _efficiency(ess, gradient_free, approximate),
        "bias": {
            "max_abs_z": 9.25 if biased else 1.75 + 0.25 * seed,
            "worst": "sd of tau",
            "threshold": 4.1,
            "comparisons": 50,
            "passed": not biased,
        },
        "reference": {
            "name": posterior,
            "source": "posteriordb",
            "draws": 10000,
            "digest": "0" * 16,
            "compared": ["mu", "tau"],
            "not_compared": [],
        },
        "error_curve": make_curve(seed, max(ess, 1.0), 0.03 if biased else 0.0),
        "distances": _distances(0.3 if biased else 0.03, (1000 / max(ess, 1.0)) ** 0.5),
        "accuracy": make_accuracy(0.4 if biased else 0.04, floor=0.03),
        "variational": None,
        "gradients_to_b2": {"threshold": 0.01, "mean": 9000.0, "square": None if biased else 12000.0},
        "parameters": _parameters(ess),
        "warnings": [],
    }
    if status == "unverified":
        record |= dict.fromkeys(
            ("bias", "reference", "error_curve", "gradients_to_b2", "distances", "accuracy")
        )
        compared = [field for field in record["parameters"] if field.startswith(("reference_", "z_"))]
        record["parameters"] |= {field: [None, None] for field in compared}
    return record | changes


def make_failure(
    posterior: str = "eight_schools-eight_schools_noncentered",
    sampler: str = "nuts",
    seed: int = 0,
    message: str = "BridgeStan could not be loaded",
    **changes: Any,
) -> dict[str, Any]:
    """The record of a run that raised: it has no more than an identity and an error."""
    error = {"type": "RuntimeError", "message": message, "traceback": f"Traceback …\nRuntimeError: {message}"}
    return _identity(posterior, sampler, seed, "failed") | {"error": error} | changes


def make_curve(seed: int, ess: float, floor: float) -> dict[str, Any]:
    gradients = np.geomspace(5500, 25000, 12)
    wiggle = np.exp(0.3 * np.sin(np.arange(12) + 2 * seed))
    error = wiggle * 8000 / (ess * gradients**0.9) + floor
    both = {"average": (0.4 * error).tolist(), "maximum": error.tolist()}
    square = {over: [2 * value for value in values] for over, values in both.items()}
    return {
        "gradients": gradients.round().tolist(),
        "b2_mean": both,
        "b2_square": square,
        "noise_floor": 1e-4,
    }


def make_accuracy(size: float, floor: float | None = None) -> dict[str, Any]:
    """Errors of estimates; without the noise beside them where ``floor`` is None."""

    def beside(*names: str) -> dict[str, Any]:
        return {} if floor is None else {"floor": dict.fromkeys(names, floor)}

    sizes = {"average": size / 2, "maximum": size, "worst": "tau", **beside("average", "maximum")}
    shares = ("average", "minimum", "maximum")
    return {
        "mean": sizes,
        "sd": sizes | {"ratio": 1 - size},
        "quantiles": sizes | {"worst": "q95 of tau"},
        "coverage": {
            level: {name: (1 - size) * int(level) / 100 for name in shares} | beside(*shares)
            for level in ("50", "90")
        },
    }


def make_fits(khat: float = 0.35, w1: float = 0.02, elbo: float = -31.5) -> dict[str, Any]:
    """The part of a record that is about four variational fits, ``w1`` being that of the weighted draws."""
    usable = khat <= 0.67
    return {
        "elbo": [elbo - 0.02, elbo, elbo, elbo + 0.02],
        "elbo_error": [0.012] * 4,
        "khat": {
            "values": [khat - 0.2, khat, khat - 0.1, khat - 0.1],
            "maximum": khat,
            "threshold": 0.67,
            "usable": usable,
            "reason": None,
        },
        "weight_ess": [730.0, 640.5, 700.0, 690.0],
        "converged": [True, True, True, False],
        "learning_rate": [0.01, 0.1, 0.01, 0.01],
        "learning_rates": [0.01, 0.1],
        "grid_elbo": [[-31.6, -32.0], [-33.0, -31.75], [-31.6, None], [-31.6, -32.0]],
        "steps": [[2000, 500], [500, 2000], [2000, 500], [2400, 500]],
        "resampled": {
            "mean": [4.4, 3.6],
            "sd": [3.3, 3.2],
            "q05": [-1.0, 0.2],
            "q50": [4.4, 2.7],
            "q95": [9.8, 9.9],
            "accuracy": make_accuracy(0.05),
            "w1": {"average": w1 / 2, "maximum": w1, "worst": "tau"},
        },
        "note": None if usable else f"k-hat {khat:.2f} is above 0.67: {TRUST_NEITHER}",
    }


def _identity(posterior: str, sampler: str, seed: int, status: str) -> dict[str, Any]:
    name = sampler.split("[")[0]
    return {
        "schema": 1,
        "digest": hashlib.sha256(f"{posterior} {sampler} {seed}".encode()).hexdigest()[:16],
        "status": status,
        "error": None,
        "posterior": posterior,
        "sampler": {"name": name, "label": sampler, "config": {"label": sampler, "target_acceptance": 0.8}},
        "approximate": False,
        "seed": seed,
        "chains": 4,
        "budget": 100000,
        "bridgestan": "auto",
        "backend": "bridgestan",
        "digests": {"target": "a" * 16},
        "precision": "float64",
        "platform": "cpu",
        "versions": VERSIONS,
        "environment": {"platform": "Linux", "cpu": "a processor", "cores": 2},
        "created": f"2026-01-0{1 + seed % 9}T12:00:00+00:00",
    }


def _cost(evaluations: int, gradient_free: bool) -> dict[str, int]:
    gradients = 0 if gradient_free else evaluations
    return {
        "gradients": gradients,
        "densities": evaluations if gradient_free else 0,
        "datum_gradients": 0,
        "conditional_draws": 0,
        "communications": 0,
    }


def _distances(size: float, times: float) -> dict[str, Any]:
    return {
        "w1": {
            "average": size / 2,
            "maximum": size if size > 0.1 else size * times,
            "worst": "tau",
            "floor": {"average": 0.01, "maximum": 0.02},
        },
        "sliced_w1": {"value": size / 3, "floor": 0.015, "projections": 100},
        "ksd": {
            "value": size / 4,
            "floor": 0.04,
            "squared": size**2 / 16,
            "squared_error": 0.0016,
            "draws": 1000,
            "reason": None,
        },
    }


def _efficiency(ess: float, gradient_free: bool, approximate: bool) -> dict[str, Any]:
    least = {
        "ess_bulk": ess,
        "ess_tail": 0.8 * ess,
        "ess_mean": 1.1 * ess,
        "ess_square": 0.7 * ess,
        "ess_bulk_per_gradient": None if gradient_free else ess / 80000,
        "ess_bulk_per_gradient_with_warmup": None if gradient_free else ess / 100000,
        "ess_square_per_gradient": None if gradient_free else 0.7 * ess / 80000,
        "ess_tail_per_gradient": None if gradient_free else 0.8 * ess / 80000,
        "ess_bulk_per_second": ess / 3.2,
        "ess_bulk_per_density": ess / 80000 if gradient_free else None,
        "ess_bulk_per_evaluation": ess / 80000,
        "ess_bulk_per_evaluation_with_warmup": ess / 100000,
    }
    axis = {"axis": "density" if gradient_free else "gradient"}
    return axis | {
        name: dict.fromkeys(("min", "median"))
        if value is None or (approximate and "_per_" in name)
        else {"min": value, "median": 1.5 * value}
        for name, value in least.items()
    }


def _parameters(ess: float) -> dict[str, list[Any]]:
    names = ["mu", "tau"]
    fields = ("mean", "sd", "mcse_mean", "reference_mean", "reference_sd")
    z = ("z_mean", "z_sd", "z_q05", "z_q50", "z_q95")
    return (
        {"name": names, "rhat": [1.001, 1.002]}
        | {field: [4.4, 3.3] for field in fields}
        | {field: [1.5 * ess, ess] for field in ("ess_bulk", "ess_tail", "ess_mean", "ess_square")}
        | {field: [0.4, -1.2] for field in z}
    )
