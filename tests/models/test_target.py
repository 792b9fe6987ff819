"""Targets written in JAX: the contract that Stan's keep too."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
from essper.models import from_log_density
from essper.models.target import digest_of, jax_density, unconstrained_target


def barely_defined(_, x):
    return jnp.where(x[0] > 0, jnp.sqrt(x[0]), jnp.nan)


def test_density_that_is_not_finite_is_a_failure():
    density = jax_density(barely_defined, ())
    value, gradient = density.value_and_grad(jnp.array([4.0]))
    assert (float(value), float(gradient[0])) == (2.0, 0.25)
    for x in (-1.0, 0.0):
        value, gradient = density.value_and_grad(jnp.array([x]))
        assert (float(value), float(gradient[0])) == (-np.inf, 0.0)
    assert float(density.log_density(jnp.array([-1.0]))) == -np.inf


def test_density_is_a_pytree_whose_functions_are_static():
    density = jax_density(barely_defined, jnp.float64(3.0))
    leaves, structure = jax.tree.flatten(density)
    assert leaves == [3.0]
    assert structure == jax.tree.structure(jax_density(barely_defined, jnp.float64(4.0)))


def test_targets_of_one_log_density_share_a_compiled_program():
    traced = []

    def scaled(scale, x):
        traced.append(None)
        return -scale * (x**2).sum()

    evaluate = jax.jit(lambda density, x: (density.log_density(x), density.value_and_grad(x)[0]))
    values = [evaluate(jax_density(scaled, jnp.float64(scale)), jnp.ones(3)) for scale in (1.0, 2.0)]
    assert np.asarray(values).tolist() == [[-3.0, -3.0], [-6.0, -6.0]]
    assert len(traced) == 2  # once for the value, once for the gradient
    evaluate(jax_density(lambda scale, x: scaled(scale, x), jnp.float64(1.0)), jnp.ones(3))
    assert len(traced) == 4  # another function is another program


def test_a_log_density_goes_with_its_target():
    def use_once():
        data = np.zeros(100)
        target = from_log_density("fleeting", 2, lambda x: -(x**2).sum() + data.sum())
        assert float(target.log_density(jnp.ones(2))) == -2.0  # jit's own cache, a bounded one, is left out
        return weakref.ref(data)

    data = use_once()
    gc.collect()
    assert data() is None


def test_target_of_a_function():
    target = from_log_density("parabola", 2, lambda x: -(x**2).sum())
    assert target.param_names == ("x[1]", "x[2]")
    assert float(target.log_density(jnp.array([1.0, 2.0]))) == -5.0
    np.testing.assert_array_equal(target.value_and_grad(jnp.array([1.0, 2.0]))[1], [-2.0, -4.0])
    np.testing.assert_array_equal(target.constrain(np.ones((3, 2))), np.ones((3, 2)))
    assert target.counter is None


def test_digest_depends_on_all_that_the_density_depends_on():
    density = jax_density(barely_defined, ())

    def digest(*args, **kwargs):
        return unconstrained_target(*args, **kwargs).digest

    plain = digest("name", 1, density)
    others = [
        digest("name", 2, density),
        digest("other", 1, density),
        digest("name", 1, density, settings="s"),
    ]
    assert plain == digest("name", 1, density)
    assert len({plain, *others}) == 4
    assert digest_of("ab", "c") != digest_of("a", "bc")
