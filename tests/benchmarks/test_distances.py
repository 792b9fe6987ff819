"""Distances to a reference: against scipy, closed forms, and a Stein kernel made by differentiation."""

import essper.models  # noqa: F401  (float64)
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.benchmarks import distances
from scipy.stats import wasserstein_distance

COVARIANCE = np.array([[4.0, 1.5, 0.0], [1.5, 1.0, 0.2], [0.0, 0.2, 0.5]])
PRECISION = np.linalg.inv(COVARIANCE)


def gaussian(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact draws and their scores."""
    draws = np.random.default_rng(seed).multivariate_normal(np.ones(3), COVARIANCE, n)
    return draws, -(draws - 1) @ PRECISION


@pytest.mark.parametrize(("n", "m"), [(100, 100), (60, 100), (97, 41), (1, 8)])
def test_wasserstein_is_scipys(n, m):
    random = np.random.default_rng(n)
    x, y = random.normal(size=(n, 4)).round(1), random.exponential(size=(m, 4)).round(1)  # with ties
    expected = [wasserstein_distance(a, b) for a, b in zip(x.T, y.T, strict=True)]
    assert distances.wasserstein(x, y) == pytest.approx(expected, rel=1e-12)


def test_weights_are_copies():
    """Weighted by 3, a draw counts as three of it do: W₁ = ∫|F − G| by brute force."""
    random = np.random.default_rng(5)
    x, y = random.normal(size=(30, 2)), random.normal(1, 2, size=(50, 2))
    times = random.integers(0, 4, 30)
    weight, copies = times / times.sum(), np.repeat(x, times, axis=0)
    found = distances.wasserstein(x, y, weight)
    grid = np.linspace(-10, 10, 200_001)
    for column, value in enumerate(found):
        f, g = (
            np.searchsorted(np.sort(sample[:, column]), grid, side="right") / len(sample)
            for sample in (copies, y)
        )
        assert value == pytest.approx(np.sum(np.abs(f - g)) * 1e-4, abs=1e-3)
    reference = y[None]
    weighted = distances.weighted_marginals(x.reshape(3, 10, 2), weight, reference)
    repeated = distances.wasserstein_distances(copies[None], reference, reference)
    assert weighted == pytest.approx(repeated.marginal)


def test_draws_that_are_not_finite_have_no_distance():
    x = np.ones((5, 2))
    x[2, 1] = np.nan
    found = distances.wasserstein(x, np.zeros((3, 2)))
    assert found[0] == 1
    assert np.isnan(found[1])


def test_a_shift_is_its_size_in_standard_deviations_of_the_reference():
    reference = np.random.default_rng(0).normal([5, -3], [2, 10], (4, 500, 2))
    sd = reference.std((0, 1))
    found = distances.wasserstein_distances(reference + 0.3 * sd, reference, reference)
    assert found.marginal == pytest.approx([0.3, 0.3])
    # A shift by δ is |θ·δ| along θ; in the plane the mean of |cos| is 2/π.
    assert found.sliced == pytest.approx(0.3 * np.sqrt(2) * 2 / np.pi, rel=0.1)
    again = distances.wasserstein_distances(reference + 0.3 * sd, reference, reference)
    assert again.sliced == found.sliced  # the directions are no accident


def test_the_floor_shrinks_as_noise_does():
    def floor(n: int) -> float:
        reference = np.random.default_rng(n).normal(size=(10, n, 5))
        return distances.wasserstein_distances(*distances.halves(reference), reference).sliced

    assert floor(1600) / floor(100) == pytest.approx(1 / 4, rel=0.35)


def test_halves_are_disjoint_and_by_chain():
    draws = np.arange(5 * 6).reshape(5, 6, 1)
    first, second = distances.halves(draws)
    assert (first.shape, second.shape) == ((2, 6, 1), (3, 6, 1))
    assert not set(first.ravel()) & set(second.ravel())
    first, second = distances.halves(draws[:1])
    assert [*first.ravel(), *second.ravel()] == list(range(6))


def test_thinning_is_even_and_takes_as_many_of_every_chain():
    draws = np.arange(4 * 1001).reshape(4, 1001, 1)
    assert distances.thinned(draws, 12).ravel().tolist() == [
        c * 1001 + d for c in range(4) for d in (0, 500, 1000)
    ]
    assert len(distances.thinned(draws, 5)) == 4
    assert distances.thinned(draws, 2).ravel().tolist() == [1000, 4003]
    assert distances.thinned(draws[:, :3]).shape == (12, 1)


def test_the_stein_kernel_is_the_operator_applied_to_both_arguments():
    def base(x, y):
        return (1 + jnp.sum((x - y) ** 2)) ** -0.5

    def score(x):
        return -jnp.sinh(x) + 0.3 * x[::-1]

    def operated(x, y):
        by_x, by_y = jax.grad(base, 0), jax.grad(base, 1)
        mixed = jnp.trace(jax.jacfwd(by_x, 1)(x, y))
        return base(x, y) * score(x) @ score(y) + score(x) @ by_y(x, y) + score(y) @ by_x(x, y) + mixed

    x = jnp.asarray(np.random.default_rng(0).normal(size=(7, 3)))
    expected = jax.jit(jax.vmap(jax.vmap(operated, (None, 0)), (0, None)))(x, x)
    found = distances.stein_kernel(np.asarray(x), np.asarray(jax.vmap(score)(x)))
    assert found == pytest.approx(np.asarray(expected), rel=1e-10, abs=1e-12)


def test_the_discrepancy_of_exact_draws_is_zero_within_its_error_and_of_others_positive():
    reference = gaussian(200, 1000)
    exact = [distances.stein_discrepancy(*gaussian(100, seed), *reference) for seed in range(50)]
    z = np.array([one.squared / one.error for one in exact])
    assert abs(z.mean()) * np.sqrt(len(z)) < 4
    assert z.std() == pytest.approx(1, rel=0.4)  # which is what the error claims
    draws, _ = gaussian(1000, 0)
    for others in (draws + np.array([0.5, 0, 0]), 1 + 1.3 * (draws - 1)):
        found = distances.stein_discrepancy(others, -(others - 1) @ PRECISION, *reference)
        assert found.squared > 20 * found.error
        assert found.value == pytest.approx(np.sqrt(found.squared))


def test_the_discrepancy_does_not_depend_on_units_or_directions():
    (draws, scores), (reference, theirs) = gaussian(50, 0), gaussian(80, 1)
    change = np.array([[2.0, 0.0, 1.0], [0.0, 1e-3, 0.0], [1.0, 0.0, -30.0]])
    moved = (draws @ change, scores @ np.linalg.inv(change).T)
    moved_reference = (reference @ change, theirs @ np.linalg.inv(change).T)
    expected = distances.stein_discrepancy(draws, scores, reference, theirs)
    assert distances.stein_discrepancy(*moved, *moved_reference) == pytest.approx(expected, rel=1e-8)


def test_a_reference_without_an_invertible_covariance_is_refused():
    draws, scores = gaussian(50, 0)
    with pytest.raises(ValueError, match="3 reference draws have no invertible covariance in 3 dimensions"):
        distances.stein_discrepancy(draws, scores, draws[:3], scores[:3])
    flat = draws.copy()
    flat[:, 1] = 0
    with pytest.raises(ValueError, match="cannot be inverted"):
        distances.stein_discrepancy(draws, scores, flat, scores)
