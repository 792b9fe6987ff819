"""The comparison of a density with Stan's, against a stand-in for Stan whose errors are known."""

import jax.numpy as jnp
import numpy as np
import pytest
from essper.models.agreement import Agreement, compare_densities, joined

POINTS = np.random.default_rng(0).normal(size=(5, 2))


class Parabola:
    """−x²/2 as a ``bridgestan.StanModel`` gives it; throws right of ``wall``."""

    def __init__(self, wall: float = np.inf, sensitivity: float = 0.0) -> None:
        self.wall, self.sensitivity, self.calls = wall, sensitivity, 0

    def log_density_gradient(self, x):
        if x[0] > self.wall:
            raise RuntimeError("x is too large\n")
        self.calls += 1
        return -(x @ x) / 2, -x * (1 + self.sensitivity * (-1) ** self.calls)


def ours(scale: float = 1.0, constant: float = 0.0, wall: float = np.inf, slope: float = 1.0):
    """The same with a gradient of another size, another constant, another slope of the value."""

    def value_and_grad(x):
        value = constant - slope * (x @ x) / 2
        return jnp.where(x[0] > wall, -jnp.inf, value), -scale * x

    return value_and_grad


def test_one_density_up_to_a_constant_agrees():
    found = compare_densities(ours(constant=1e6), Parabola(), POINTS)
    assert (found.compared, found.rejected, found.disputed) == (5, 0, 0)
    assert found.gradient_error == 0.0
    assert found.value_error < 1e-9  # 1e6 takes digits away
    assert found.within(1e-8)


def test_errors_are_relative_to_stans_largest_coordinate():
    found = compare_densities(ours(scale=1 + 1e-6), Parabola(), POINTS)
    assert found.gradient_errors == pytest.approx([1e-6] * 5, rel=1e-6)
    assert not found.within(1e-8)
    assert found.within(1e-5)


def test_a_value_of_another_shape_is_found_though_the_gradient_is_right():
    found = compare_densities(ours(slope=1.01), Parabola(), POINTS)
    assert found.gradient_error == 0.0
    squares = (POINTS**2).sum(1) / 2
    expected = 0.01 * np.abs(squares - squares.min()) / np.maximum(1.0, squares)
    assert found.value_errors == pytest.approx(expected.tolist(), rel=1e-6)
    assert not found.within(1e-8)


def test_only_one_of_two_finite_is_no_agreement():
    wall = float(np.median(POINTS[:, 0]))
    beyond = int((POINTS[:, 0] > wall).sum())
    here = compare_densities(ours(), Parabola(wall), POINTS)
    assert (here.compared, here.disputed, here.reason) == (5 - beyond, beyond, "x is too large")
    there = compare_densities(ours(wall=wall), Parabola(), POINTS)
    assert (there.compared, there.disputed, there.reason) == (5 - beyond, beyond, "")
    both = compare_densities(ours(wall=wall), Parabola(wall), POINTS)
    assert (both.compared, both.rejected, both.disputed) == (5 - beyond, beyond, 0)
    assert [found.within(1e-3) for found in (here, there, both)] == [False, False, True]
    assert here.within(beyond / 5)  # solvers of an ODE may differ about a few points


def test_what_stans_own_rounding_explains_is_agreement_up_to_a_limit():
    # Stan's gradient changes by 2e-8 when nothing but rounding does: a difference of 5e-8 says nothing.
    found = compare_densities(ours(scale=1 + 5e-8), Parabola(sensitivity=1e-8), POINTS)
    assert found.largest_rounding == pytest.approx(2e-8, rel=1e-3)
    assert found.within(1e-8)
    assert not compare_densities(ours(scale=1 + 5e-7), Parabola(sensitivity=1e-8), POINTS).within(1e-8)
    assert not compare_densities(ours(scale=1.001), Parabola(sensitivity=1e-3), POINTS).within(1e-8)


def test_the_last_digit_is_that_of_the_precision():
    double = compare_densities(ours(), Parabola(), POINTS)
    single = compare_densities(ours(), Parabola(), POINTS, precision="float32")
    assert double.largest_rounding < 1e-15
    assert 1e-8 < single.largest_rounding < 1e-6


def test_a_number_that_is_none_is_within_no_tolerance():
    assert not Agreement((np.nan,), (0.0,), (0.0,)).within(np.inf)


def test_joined_agreements_are_as_good_as_the_worst():
    good = compare_densities(ours(), Parabola(), POINTS)
    bad = compare_densities(ours(scale=2.0), Parabola(), POINTS)
    both = joined([good, bad])
    assert (both.compared, both.gradient_error) == (10, bad.gradient_error)
    assert not both.within(1e-8)


def test_no_points_are_no_agreement_and_no_disagreement():
    found = compare_densities(ours(), Parabola(), np.zeros((0, 2)))
    assert (found.compared, found.gradient_error, found.value_error) == (0, 0.0, 0.0)
    assert found.within(0.0)
