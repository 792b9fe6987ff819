"""The trained network of the Gibbs diffusion reproduction: a measurement whose result is its parameters."""

from __future__ import annotations

import base64
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ...models.gaussian_field import GaussianField
from ...models.target import digest_of
from ...samplers.diffusion.network import TrainedMean, Training, excess_loss, load, save, train
from .ensemble import Stopped
from .laboratory import Measurement

PLACES = tuple((phi, level) for phi in (-1.0, 0.0, 1.0) for level in (0.04, 0.1, 0.3))
"""φ and noise levels where the network's error is looked at."""
SIMULATIONS = 256
"""Per place."""


@dataclass(frozen=True)
class Trained:
    """A network, and what tells it from others."""

    mean: TrainedMean
    digest: str

    @classmethod
    def of(cls, field: GaussianField, training: Training, result: Mapping[str, Any]) -> Trained:
        """The network of a training's result."""
        content = base64.b64decode(result["parameters"])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.eqx"
            path.write_bytes(content)
            return cls(load(path, field, training), digest_of("network", content))


def training_measurement(field: GaussianField, training: Training) -> Measurement:
    """Train it: parameters in base64, and its excess loss at `PLACES`. It cannot be stopped half-way."""

    def compute(key: Array, stop: threading.Event) -> dict[str, Any]:
        if stop.is_set():
            raise Stopped
        mean = train(field, training)
        error = jax.jit(lambda phi, level: excess_loss(mean, field, phi, level, key, SIMULATIONS))
        excess = [float(error(*jnp.asarray(place))) for place in PLACES]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.eqx"
            save(path, mean)
            content = path.read_bytes()
        return {"parameters": base64.b64encode(content).decode(), "excess": excess}

    setting = {"field": repr(field), "training": asdict(training)}
    return Measurement(f"training, {training.steps} steps", setting, training.seed, compute)


def training_note(training: Training, result: Mapping[str, Any]) -> str:
    """What was trained, and how well."""
    found = ", ".join(
        f"{100 * excess:.2g} % at φ = {phi:g}, σ = {level:g}"
        for (phi, level), excess in zip(PLACES, result["excess"], strict=True)
    )
    return (
        f"The network is trained on {training.steps} × {training.batch} simulations by denoising score"
        " matching; it is not told the spectra. Squared error of its E[x | x_t] beyond the smallest possible"
        f" one: {found}."
    )
