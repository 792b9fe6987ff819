"""The solver of differential equations: exact solutions, scipy's solver, derivatives, batches, failures."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import from_stan
from essper.models.stan_to_jax import ode
from essper.models.stan_to_jax.errors import NotBatchable, UnsupportedStanError
from essper.models.stan_to_jax.values import INT, REAL, VECTOR, Level, Type, Value, integer, real
from scipy.integrate import solve_ivp

REALS, INTS = Type("real", 1), Type("int", 1)
NOTHING = [Value(REALS, np.zeros(0)), Value(INTS, np.zeros(0, np.int64))]


def system(function: Callable) -> Callable[[Sequence[Value]], Value]:
    """A right-hand side as the interpreter gives it, from ``function(t, y, *arguments)``."""

    def right_hand_side(values: Sequence[Value]) -> Value:
        result = function(*[value.data for value in values])
        return Value(values[1].type, jnp.stack(result))

    return right_hand_side


OSCILLATOR = system(lambda t, y, omega: [y[1], -(omega**2) * y[0]])
LOTKA_VOLTERRA = system(
    lambda t, y, q, *_: [(q[0] - q[1] * y[1]) * y[0], (q[3] * y[0] - q[2]) * y[1]],
)


def states(name: str, right_hand_side, initial, time, times, *others: Value):
    kind = REALS if name.startswith("integrate") else VECTOR
    values = [Value(kind, initial), Value(REAL, time), Value(REALS, times), *others]
    return ode.integrate(name, right_hand_side, values)


def test_linear_system_and_all_its_derivatives() -> None:
    """The oscillator's exact solution, by initial state, initial time, output times and frequency."""
    times = np.array([0.5, 1.0, 4.0, 20.0])

    def solution(y0, t0, ts, omega):
        return states("ode_rk45", OSCILLATOR, y0, t0, ts, Value(REAL, omega)).data

    def exact(y0, t0, ts, omega):
        angle = omega * (ts - t0)
        position = y0[0] * jnp.cos(angle) + y0[1] / omega * jnp.sin(angle)
        speed = -y0[0] * omega * jnp.sin(angle) + y0[1] * jnp.cos(angle)
        return jnp.stack([position, speed], -1)

    point = jnp.array([0.7, -0.4]), jnp.asarray(0.2), jnp.asarray(times), jnp.asarray(1.3)
    np.testing.assert_allclose(jax.jit(solution)(*point), exact(*point), rtol=1e-9, atol=1e-10)
    for mode in (jax.jacrev, jax.jacfwd):
        found = jax.jit(mode(solution, argnums=(0, 1, 2, 3)))(*point)
        expected = jax.jit(mode(exact, argnums=(0, 1, 2, 3)))(*point)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


def test_decay_over_many_magnitudes() -> None:
    """Small values have relative accuracy as long as they are above the absolute tolerance."""
    decay = system(lambda t, y, rate: [-rate * y[0]])

    def logarithm(rate):
        times = np.array([1.0, 5.0, 15.0])
        return jnp.log(
            states("ode_bdf", decay, np.ones(1), np.float64(0), times, Value(REAL, rate)).data[:, 0]
        )

    np.testing.assert_allclose(jax.jit(logarithm)(1.0), [-1.0, -5.0, -15.0], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(logarithm))(1.0), [-1.0, -5.0, -15.0], rtol=1e-5)


TIMES = np.arange(1.0, 21.0)


def lotka_volterra(q):
    theta, initial = Value(REALS, q[:4]), q[4:]
    return states("integrate_ode_rk45", LOTKA_VOLTERRA, initial, np.float64(0), TIMES, theta, *NOTHING).data


PREDATION = np.array([0.55, 0.028, 0.8, 0.024, 33.0, 6.0])


def scipy_lotka_volterra(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """States and sensitivities to the six numbers, from the coupled system written out by hand."""
    a, b, c, d, *initial = q

    def coupled(t, z):
        u, v = z[:2]
        jacobian = np.array([[a - b * v, -b * u], [d * v, d * u - c]])
        by_parameter = np.array([[u, -u * v, 0, 0, 0, 0], [0, 0, -v, u * v, 0, 0]])
        rates = jacobian @ z[2:].reshape(2, 6) + by_parameter
        return np.concatenate([[(a - b * v) * u, (d * u - c) * v], rates.ravel()])

    start = np.concatenate([initial, np.eye(2, 6, 4).ravel()])
    found = solve_ivp(coupled, (0, 20), start, "DOP853", t_eval=TIMES, rtol=1e-13, atol=1e-13).y.T
    return found[:, :2], found[:, 2:].reshape(-1, 2, 6)


def test_lotka_volterra_and_its_sensitivities() -> None:
    expected, sensitivities = scipy_lotka_volterra(PREDATION)
    np.testing.assert_allclose(jax.jit(lotka_volterra)(PREDATION), expected, rtol=1e-8)
    jacobian = jax.jit(jax.jacrev(lotka_volterra))(PREDATION)
    np.testing.assert_allclose(jacobian, sensitivities, rtol=1e-7, atol=1e-7 * np.abs(sensitivities).max())


def test_a_batch_is_its_members() -> None:
    """Each has its own steps, though the slowest takes many times more of them."""

    def log_density(q):
        return -jnp.sum(jnp.log(lotka_volterra(q)) ** 2)

    points = PREDATION * np.array([[1.0], [0.3], [1.5], [3.0]])
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(log_density)))(points)
    alone = jax.jit(jax.value_and_grad(log_density))
    for point, value, gradient in zip(points, values, gradients, strict=True):
        expected, expected_gradient = alone(point)
        np.testing.assert_allclose(value, expected, rtol=1e-11)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-9)


def test_what_is_data_alone_is_solved_while_tracing() -> None:
    @jax.jit
    def inside(x):
        found = lotka_volterra(PREDATION)
        assert isinstance(found, np.ndarray)
        return x + found[-1, 0]

    np.testing.assert_allclose(inside(0.0), scipy_lotka_volterra(PREDATION)[0][-1, 0], rtol=1e-8)


def test_a_discontinuity_is_stepped_over() -> None:
    """A dose at time 1: the step size falls there and recovers."""
    dosing = system(lambda t, y, rate: [jnp.where(t < 1, rate, 0.0) - y[0]])

    def amount(rate):
        values = states("ode_adams", dosing, np.zeros(1), np.float64(0), np.array([3.0]), Value(REAL, rate))
        return values.data[0, 0]

    value, slope = jax.jit(jax.value_and_grad(amount))(2.0)
    expected = (1 - np.exp(-1.0)) * np.exp(-2.0)
    np.testing.assert_allclose([value, slope], [2 * expected, expected], rtol=1e-8)


@pytest.mark.parametrize(
    ("times", "initial"),
    [([1.0, 0.5], 1.0), ([0.0, 1.0], 1.0), ([-1.0, 1.0], 1.0), ([1.0, 2.0], np.nan), ([1.0, 2.0], np.inf)],
)
def test_what_stan_rejects_is_nan(times: list[float], initial: float) -> None:
    grow = system(lambda t, y, rate: [rate * y[0]])

    def last(rate):
        values = (np.array([initial]), np.float64(0), np.array(times), Value(REAL, rate))
        return states("ode_rk45", grow, *values).data[-1, 0]

    assert np.isnan(jax.jit(last)(0.1))


def test_repeated_output_times() -> None:
    grow = system(lambda t, y, rate: [rate * y[0]])
    times = np.array([1.0, 1.0, 2.0])

    @jax.jit
    def solution(rate):
        return states("ode_ckrk", grow, np.ones(1), np.float64(0), times, Value(REAL, rate)).data

    found = solution(0.5)
    np.testing.assert_allclose(found[:, 0], np.exp(0.5 * times), rtol=1e-9)


def test_an_explosion_and_too_many_steps_end_in_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    explosion = system(lambda t, y, rate: [rate * y[0] ** 2])  # y = 1 / (1 − rate t)
    stiff = system(lambda t, y, rate: [-rate * (y[0] - jnp.cos(t))])
    monkeypatch.setattr(ode, "MAX_STEPS", 500)

    def last(right_hand_side, rate):
        values = (np.ones(1), np.float64(0), np.array([0.5, 2.0]), Value(REAL, rate))
        return states("ode_bdf", right_hand_side, *values).data[:, 0]

    found = jax.jit(lambda rate: last(explosion, rate))(1.0)
    np.testing.assert_allclose(found[0], 2.0, rtol=1e-9)
    assert np.isnan(found[1])
    np.testing.assert_allclose(jax.jit(lambda rate: last(stiff, rate))(100.0)[1], np.cos(2.0), atol=0.02)
    assert np.isnan(jax.jit(lambda rate: last(stiff, rate))(1e5)).all()


def test_smaller_tolerances_are_used_and_larger_ones_are_not() -> None:
    def error(relative: float, absolute: float) -> float:
        arguments = [real(relative), real(absolute), integer(10), Value(REAL, jnp.asarray(1.0))]
        times = np.array([30.0])
        start = np.array([1.0, 0.0]), np.float64(0)
        found = states("ode_rk45_tol", OSCILLATOR, *start, times, *arguments).data[0]
        return float(np.abs(found - np.array([np.cos(30.0), -np.sin(30.0)])).max())

    coarse = error(0.1, 0.1)
    assert coarse == error(ode.RELATIVE_TOLERANCE, ode.ABSOLUTE_TOLERANCE) < 1e-9
    assert error(1e-13, 1e-13) < 0.1 * coarse


def test_types_of_the_result() -> None:
    theta = Value(REALS, PREDATION[:4])
    arrays = states(
        "integrate_ode_bdf", LOTKA_VOLTERRA, PREDATION[4:], np.float64(0), TIMES[:3], theta, *NOTHING
    )
    assert arrays.type == Type("real", 2)
    assert arrays.shape == (3, 2)
    vectors = states("ode_bdf", OSCILLATOR, np.ones(2), np.float64(0), np.arange(1.0, 4.0), real(1.0))
    assert vectors.type == Type("vector", 1)
    assert not ode.known("ode_euler")


def test_what_is_not_supported() -> None:
    values = [np.ones(2), np.float64(0), np.arange(1.0, 4.0)]
    tolerances = [Value(REAL, jnp.asarray(1e-3)), real(1e-3), integer(9)]
    with pytest.raises(UnsupportedStanError, match="tolerance"):
        states("ode_rk45_tol", OSCILLATOR, *values, *tolerances, real(1.0))
    with pytest.raises(UnsupportedStanError, match="int that depends"):
        states("ode_rk45", OSCILLATOR, *values, Value(INT, jnp.asarray(1)))
    rows = Value(REAL, jnp.ones(2), Level(None, 2, np.zeros(2, np.int64)))
    with pytest.raises(NotBatchable):
        states("ode_rk45", OSCILLATOR, *values, rows)


PROGRAM = """
functions {
  vector two_pools(real t, vector y, array[] real k, data real inflow) {
    vector[2] rate;
    rate[1] = inflow - k[1] * y[1] + k[3] * y[2];
    rate[2] = k[2] * y[1] - k[3] * y[2] * (1 + 0.1 * sin(t));
    return rate;
  }
}
data { int N; array[N] real t; array[N] vector[2] z; }
parameters { array[3] real<lower=0> k; vector<lower=0>[2] y0; }
model {
  array[N] vector[2] y = ode_SOLVER_tol(two_pools, y0, -0.5, t, 1e-11, 1e-11, 1000000, k, 0.7);
  for (n in 1:N) z[n] ~ normal(y[n], 0.1);
}
"""


POOL_TIMES = np.array([0.1, 0.4, 1.0, 3.0, 8.0])
OBSERVED = np.random.default_rng(0).normal(1.0, 0.3, (5, 2))
POOLS = system(
    lambda t, y, k, inflow: [
        inflow - k[0] * y[0] + k[2] * y[1],
        k[1] * y[0] - k[2] * y[1] * (1 + 0.1 * jnp.sin(t)),
    ]
)


def pools_density(solver: str):
    @jax.value_and_grad
    def log_density(free):
        k, y0 = jnp.exp(free[:3]), jnp.exp(free[3:])
        values = (y0, np.float64(-0.5), POOL_TIMES, real(1e-11), real(1e-11), integer(1000000))
        y = states(f"ode_{solver}_tol", POOLS, *values, Value(REALS, k), real(0.7)).data
        return -0.5 * jnp.sum(((OBSERVED - y) / 0.1) ** 2) + jnp.sum(free)

    return log_density


@pytest.fixture(scope="module")
def compiled_pools():
    return jax.jit(pools_density("rk45"))


@pytest.mark.parametrize("solver", ["rk45", "bdf", "ckrk"])
def test_against_stan_at_tight_tolerances(solver: str, compiled_pools: Callable) -> None:
    data = {"N": 5, "t": POOL_TIMES.tolist(), "z": OBSERVED.tolist()}
    model = from_stan(PROGRAM.replace("SOLVER", solver), data).model
    # All solvers are one program, which is compiled once.
    point = jnp.zeros(5)
    programs = [
        re.sub("0x[0-9a-f]+", "", str(jax.make_jaxpr(pools_density(s))(point))) for s in ("rk45", solver)
    ]
    assert programs[0] == programs[1]
    for point in np.random.default_rng(1).normal(size=(3, 5)):
        value, gradient = compiled_pools(point)
        expected, expected_gradient = model.log_density_gradient(point, propto=True, jacobian=True)
        np.testing.assert_allclose(value, expected, rtol=1e-7)
        scale = np.abs(expected_gradient).max()
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-7, atol=1e-7 * scale)
