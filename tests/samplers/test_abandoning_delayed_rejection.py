"""Abandoned trajectories: the same from both ends, invariant, and DR-HMC where nothing is abandoned."""

from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import funnel
from essper.samplers import (
    AbandoningDelayedRejectionHMC,
    DelayedRejectionHMC,
    TrajectoryLength,
    abandoning_delayed_rejection,
)
from essper.samplers.abandoning_delayed_rejection import bounded_trajectory
from essper.samplers.adaptation import Tuning
from essper.samplers.integrators import PhasePoint, flip, log_joint, trajectory
from essper.samplers.metrics import make_metric, sample_momentum
from invariance import drift, funnel_functions

DIM = 5
FUNNEL = funnel(DIM)
METRIC = make_metric(jnp.linspace(0.5, 2.0, DIM))
LENGTH = TrajectoryLength(num_integration_steps=4, jitter=0.0)


def tuning(step_size: float) -> Tuning:
    return Tuning(step_size=jnp.asarray(step_size, float), metric=METRIC)


def phase_points(n: int, seed: int) -> PhasePoint:
    key, other = jax.random.split(jax.random.key(seed))
    assert FUNNEL.exact is not None
    positions = FUNNEL.exact(key, n)
    momenta = jax.vmap(lambda k: sample_momentum(k, METRIC))(jax.random.split(other, n))
    return PhasePoint(positions, momenta, *jax.vmap(FUNNEL.value_and_grad)(positions))


def bounded(point: PhasePoint, energy_range: float = 2.0) -> tuple[PhasePoint, jax.Array]:
    return bounded_trajectory(
        FUNNEL.density, METRIC, point, jnp.float64(0.6), jnp.int32(6), jnp.float64(energy_range)
    )


def test_a_trajectory_is_given_up_from_one_end_if_and_only_if_from_the_other():
    starts = phase_points(4000, 0)
    whole = jax.vmap(lambda x: flip(trajectory(FUNNEL.density, METRIC, x, jnp.float64(0.6), 6)))(starts)
    there, spent = jax.vmap(bounded)(starts)
    back, _ = jax.vmap(bounded)(whole)
    kept, kept_back = np.isfinite(there.log_density), np.isfinite(back.log_density)
    # The way back may overflow where the way there was given up early; that is given up too.
    np.testing.assert_array_equal(kept, kept_back)
    assert 0.2 < kept.mean() < 0.8
    np.testing.assert_allclose(flip(back).position[kept], starts.position[kept], rtol=1e-6, atol=1e-8)
    assert (np.asarray(spent)[kept] == 6).all()
    assert np.asarray(spent)[~kept].mean() < 4


def test_its_energies_are_those_of_the_whole_trajectory():
    start = jax.tree.map(lambda leaf: leaf[3], phase_points(10, 1))
    energies, point = [float(log_joint(METRIC, start))], start
    for _ in range(6):
        point = trajectory(FUNNEL.density, METRIC, point, jnp.float64(0.6), 1)
        energies.append(float(log_joint(METRIC, point)))
    width = max(energies) - min(energies)
    assert np.isfinite(bounded(start, width * 1.001)[0].log_density)
    assert not np.isfinite(bounded(start, width * 0.999)[0].log_density)


@pytest.mark.parametrize("retry", ["always", "probabilistic"])
def test_nothing_abandoned_is_delayed_rejection_draw_for_draw(retry):
    ours = AbandoningDelayedRejectionHMC(
        energy_range=float("inf"), spread=1.0, trajectory=LENGTH, retry=retry
    ).kernel(FUNNEL.density, tuning(0.8))
    plain = DelayedRejectionHMC(trajectory=LENGTH, retry=retry).kernel(FUNNEL.density, tuning(0.8))
    state, _ = ours.init(jax.random.key(0), jnp.ones(DIM))
    other, step, other_step, stages = state, jax.jit(ours.step), jax.jit(plain.step), set()
    for key in jax.random.split(jax.random.key(1), 60):
        state, info = step(key, state)
        other, other_info = other_step(key, other)
        np.testing.assert_array_equal(state.position, other.position)
        assert info.cost.gradients == other_info.cost.gradients
        stages.add(int(info.extra["accepted_stage"]))
    assert stages >= {1, 2}


def drift_of(**settings) -> float:
    sampler = AbandoningDelayedRejectionHMC(
        **{"trajectory": LENGTH, "energy_range": 2.0, "grace": 0, **settings}
    )
    found = drift(sampler.kernel(FUNNEL.density, tuning(0.8)), FUNNEL, funnel_functions)
    assert found.acceptance < 0.6
    return found.worst


@pytest.mark.parametrize(
    "settings",
    [{}, {"retry": "always", "length": "time", "reduction": 2.0}],
    ids=["default", "always time"],
)
def test_invariance(settings):
    assert drift_of(**settings) < 4


def one_sided(density, metric, start, step_size, num_steps, energy_range):
    """Gives up where the energy has risen above the start's: from the other end it may not have."""
    energy = log_joint(metric, start)

    def body(i, carry):
        point, rise = carry
        point = trajectory(density, metric, point, step_size, 1)
        return point, jnp.maximum(rise, energy - log_joint(metric, point))

    end, rise = jax.lax.fori_loop(0, num_steps, body, (start, jnp.zeros_like(energy)))
    kept = rise <= energy_range
    return end._replace(log_density=jnp.where(kept, end.log_density, -jnp.inf)), num_steps


def test_catches_a_limit_on_the_rise_of_the_energy_alone():
    with patch.object(abandoning_delayed_rejection, "bounded_trajectory", one_sided):
        assert drift_of(energy_range=0.3) > 5


def test_nothing_is_abandoned_in_the_grace_at_the_start():
    sampler = AbandoningDelayedRejectionHMC(
        stages=1, energy_range=1e-9, grace=3, spread=1.0, trajectory=LENGTH
    )
    kernel = sampler.kernel(FUNNEL.density, tuning(0.1))
    state, _ = kernel.init(jax.random.key(0), jnp.ones(DIM))
    step, spent, moved = jax.jit(kernel.step), [], []
    for key in jax.random.split(jax.random.key(1), 6):
        before = state.position
        state, info = step(key, state)
        spent.append(int(info.cost.gradients))
        moved.append(bool((state.position != before).any()))
    assert spent == [4, 4, 4, 1, 1, 1]
    assert moved == [True, True, True, False, False, False]


def test_lengths_span_the_spread_on_both_sides():
    sampler = AbandoningDelayedRejectionHMC(
        trajectory=TrajectoryLength(num_integration_steps=8, jitter=0.0), spread=4.0, energy_range=1e9
    )
    kernel = sampler.kernel(FUNNEL.density, tuning(1e-4))
    state, _ = kernel.init(jax.random.key(0), jnp.ones(DIM))
    step, lengths = jax.jit(kernel.step), []
    for key in jax.random.split(jax.random.key(1), 64):
        state, info = step(key, state)
        lengths.append(int(info.extra["num_integration_steps"]))
    assert (min(lengths), max(lengths)) == (2, 31)
    assert 7 <= np.median(lengths) <= 9  # log-uniform: as many below N as above


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"energy_range": 0.0}, "energy_range=0"),
        ({"grace": -1}, "grace=-1"),
        ({"spread": 0.5}, r"spread=0\.5"),
        ({"stages": 0}, "stages=0"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        AbandoningDelayedRejectionHMC(**settings)
