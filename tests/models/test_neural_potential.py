"""The neural potential: its network, its prior's scale, its gradient, and its sum over rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models.factorization import TOLERANCES, partition_errors
from essper.models.neural_potential import (
    DOMAIN,
    SCALE,
    Network,
    morse,
    neural_potential,
    simulated_energies,
)
from jax.test_util import check_grads
from scipy import stats

NETWORK = Network((4, 3))
X = np.linspace(*DOMAIN, 11)
ENERGIES = simulated_energies(np.random.default_rng(1), X, 0.1)
POINTS = np.random.default_rng(2).standard_normal((3, NETWORK.dim))


def by_hand(theta: np.ndarray, x: float) -> float:
    """The network, unit by unit, with the parameters taken by their names."""
    named = dict(zip(NETWORK.param_names, theta, strict=True))
    low, high = DOMAIN
    values, inputs = [2 * (x - low) / (high - low) - 1], 1
    for layer, outputs in enumerate((4, 3, 1), 1):
        sums = [
            sum(named[f"w{layer}[{i + 1},{j + 1}]"] * v for j, v in enumerate(values)) / inputs**0.5
            + named[f"b{layer}[{i + 1}]"]
            for i in range(outputs)
        ]
        values, inputs = [float(np.tanh(SCALE * s)) if layer < 3 else SCALE * s for s in sums], outputs
    return values[0]


def test_the_network_is_what_its_parameters_names_say() -> None:
    assert NETWORK.dim == len(NETWORK.param_names) == 8 + 15 + 4
    for theta in POINTS:
        got = NETWORK(jnp.asarray(theta), jnp.asarray(X))
        np.testing.assert_allclose(got, [by_hand(theta, x) for x in X], rtol=1e-12)


def test_the_log_density_is_that_of_prior_and_energies_up_to_a_constant() -> None:
    target = neural_potential(ENERGIES, 0.2, NETWORK)

    def reference(theta: np.ndarray) -> float:
        curve = [by_hand(theta, x) for x in X]
        return stats.norm.logpdf(theta).sum() + stats.norm.logpdf(ENERGIES.energy, curve, 0.2).sum()

    got = [float(target.log_density(jnp.asarray(theta))) for theta in POINTS]
    np.testing.assert_allclose(np.diff(got), np.diff([reference(theta) for theta in POINTS]), rtol=1e-10)


def test_the_gradient_is_that_of_finite_differences() -> None:
    target = neural_potential(ENERGIES, 0.2, NETWORK)
    check_grads(target.log_density, (jnp.asarray(POINTS[0]),), order=1, modes=["rev"], rtol=1e-5)


def test_batches_sum_to_the_whole() -> None:
    target = neural_potential(ENERGIES, 0.2, NETWORK)
    assert target.likelihood is not None
    assert (target.likelihood.n, target.likelihood.rows) == (11, "energies")
    errors = partition_errors(target.likelihood, target.log_density, POINTS)
    assert errors.value < TOLERANCES.value
    assert errors.gradient < TOLERANCES.gradient


@pytest.mark.parametrize("width", [2, 200])
def test_the_priors_scale_does_not_depend_on_the_width(width: int) -> None:
    network, x = Network((width,)), np.array([-0.7, 0.55, 3.0])
    theta = jax.random.normal(jax.random.key(0), (20_000, network.dim))
    got = np.asarray(jax.vmap(lambda one: network(one, jnp.asarray(x)))(theta)).std(axis=0)
    inputs = (2 * x - sum(DOMAIN)) / (DOMAIN[1] - DOMAIN[0])
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    activity = np.tanh(SCALE * np.sqrt(inputs**2 + 1)[:, None] * nodes) ** 2 @ weights / weights.sum()
    np.testing.assert_allclose(got, SCALE * np.sqrt(activity + 1), rtol=0.025)


def test_targets_of_one_network_share_their_programs() -> None:
    other = simulated_energies(np.random.default_rng(9), X, 0.1)
    one, two = (neural_potential(e, 0.1, Network((4, 3))).likelihood for e in (ENERGIES, other))
    assert jax.tree.structure(one) == jax.tree.structure(two)
    assert jax.tree.structure(one) != jax.tree.structure(neural_potential(other, 0.1).likelihood)


def test_the_curve_is_morses() -> None:
    np.testing.assert_allclose(morse(np.array([0.0, 50.0, -np.log(2)])), [-1, 0, 0], atol=1e-12)
    x = np.zeros(40_000)
    energy = simulated_energies(np.random.default_rng(3), x, 0.3).energy
    assert abs(energy.mean() + 1) < 5 * 0.3 / 200
    assert abs(energy.std() / 0.3 - 1) < 0.02


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="noise=0"):
        neural_potential(ENERGIES, 0)
    for hidden in ((), (3, 0)):
        with pytest.raises(ValueError, match="at least one unit"):
            Network(hidden)
