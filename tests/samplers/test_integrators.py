"""The leapfrog map is reversible, preserves volume and is of second order; lengths are as described."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import funnel
from essper.models.target import Density
from essper.samplers import TrajectoryLength
from essper.samplers.integrators import PhasePoint, flip, log_joint, trajectory, van_der_corput
from essper.samplers.metrics import make_metric

TARGET = funnel(3)
_ROOT = np.array([[1.0, 0.0, 0.0], [0.4, 1.2, 0.0], [-0.3, 0.5, 0.8]])
METRICS = {
    "diagonal": make_metric(jnp.array([0.5, 1.0, 2.0])),
    "dense": make_metric(jnp.array(_ROOT @ _ROOT.T)),
}
START = jnp.array([0.3, -0.8, 0.5]), jnp.array([0.7, 0.2, -1.1])


def point(position, momentum):
    return PhasePoint(position, momentum, *TARGET.value_and_grad(position))


@pytest.fixture(params=METRICS)
def metric(request):
    return METRICS[request.param]


def test_trajectory_then_flip_is_an_involution(metric):
    start = point(*START)

    def there(p):
        return flip(trajectory(TARGET.density, metric, p, jnp.float64(0.3), 20))

    end = there(start)
    assert float(jnp.abs(end.position - start.position).max()) > 0.1
    for a, b in zip(there(end), start, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_trajectory_preserves_volume(metric):
    def flow(both):
        end = trajectory(TARGET.density, metric, point(both[:3], both[3:]), jnp.float64(0.4), 5)
        return jnp.concatenate([end.position, end.momentum])

    jacobian = jax.jacfwd(flow)(jnp.concatenate(START))
    np.testing.assert_allclose(np.linalg.det(jacobian), 1.0, rtol=1e-10)


def test_energy_error_is_of_second_order(metric):
    start = point(*START)

    def error(steps):
        end = trajectory(TARGET.density, metric, start, jnp.float64(0.5 / steps), steps)
        return abs(float(log_joint(metric, end) - log_joint(metric, start)))

    errors = [error(steps) for steps in (16, 32, 64)]
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 4.0, rtol=0.05)


def test_end_carries_its_own_evaluation_and_one_step_costs_one_gradient():
    calls = []

    def fused(_, x):
        jax.debug.callback(lambda: calls.append(1))
        return TARGET.value_and_grad(x)

    density = Density(fused, lambda _, x: TARGET.log_density(x), ())
    start = point(*START)
    end = jax.jit(lambda p, n: trajectory(density, METRICS["diagonal"], p, jnp.float64(0.1), n))(start, 7)
    jax.effects_barrier()
    assert len(calls) == 7
    value, gradient = TARGET.value_and_grad(end.position)
    np.testing.assert_allclose(end.log_density, value, rtol=1e-12)
    np.testing.assert_allclose(end.gradient, gradient, rtol=1e-12)


def test_undefined_energy_is_zero_density():
    for value in (np.nan, np.inf, -np.inf):
        undefined = point(*START)._replace(log_density=jnp.float64(value))
        assert float(log_joint(METRICS["diagonal"], undefined)) == -np.inf
    endless = point(*START)._replace(momentum=jnp.array([np.inf, 0.0, 0.0]))
    assert float(log_joint(METRICS["diagonal"], endless)) == -np.inf


def test_a_failed_evaluation_does_not_break_reversibility():
    # A wall: zero density beyond it, and the gradient 0 there by contract.
    def fused(_, x):
        inside = x[0] < 1
        return jnp.where(inside, -0.5 * x @ x, -jnp.inf), jnp.where(inside, -x, 0.0)

    wall = Density(fused, lambda _, x: fused(_, x)[0], ())
    x = jnp.array([0.9, 0.0])
    start = PhasePoint(x, jnp.array([1.0, 0.5]), *wall.value_and_grad(x))
    metric = make_metric(jnp.ones(2))
    end = flip(trajectory(wall, metric, start, jnp.float64(0.3), 4))
    assert float(end.log_density) == -np.inf
    back = flip(trajectory(wall, metric, end, jnp.float64(0.3), 4))
    np.testing.assert_allclose(back.position, start.position, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(back.momentum, start.momentum, rtol=1e-12)


def test_van_der_corput():
    np.testing.assert_array_equal(
        van_der_corput(jnp.arange(7)), [0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875]
    )
    far = np.asarray(van_der_corput(jnp.arange(1 << 14)))
    assert 0 < far.min() < far.max() < 1
    assert len(np.unique(far)) == len(far)


def test_lengths_are_jittered_around_the_time():
    length = TrajectoryLength(integration_time=1.0, jitter=0.5)
    steps = np.asarray(length.steps(jnp.arange(255), jnp.float64(0.02)))
    assert (steps.min(), steps.max()) == (26, 75)
    np.testing.assert_allclose(steps.mean(), 50.5, atol=0.1)  # rounded up


def test_fixed_number_of_steps():
    length = TrajectoryLength(num_integration_steps=10, jitter=0.0)
    np.testing.assert_array_equal(length.steps(jnp.arange(9), jnp.float64(0.3)), 10)


@pytest.mark.parametrize(("step_size", "expected"), [(1e-12, 128), (1e12, 1)])
def test_lengths_are_bounded(step_size, expected):
    assert int(TrajectoryLength().steps(jnp.int32(5), jnp.float64(step_size))) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"integration_time": 0.0}, r"integration_time=0\.0"),
        ({"integration_time": np.nan}, "integration_time=nan"),
        ({"num_integration_steps": 0}, "num_integration_steps=0"),
        ({"jitter": 1.0}, r"jitter=1\.0"),
        # a trajectory without a step costs nothing, and a run would never spend its budget
        ({"max_num_integration_steps": 0}, "max_num_integration_steps=0"),
    ],
)
def test_lengths_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        TrajectoryLength(**settings)


def test_a_number_of_steps_is_not_capped():
    length = TrajectoryLength(num_integration_steps=500, jitter=0.0)
    assert int(length.steps(jnp.int32(0), jnp.float64(0.1))) == 500
