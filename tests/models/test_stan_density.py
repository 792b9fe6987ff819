"""What a compiled program gets from Stan, by the FFI and by the callback."""

import gc
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import counter, counts
from essper.models import Counts, from_stan, last_error
from jax import lax

POINTS = np.random.default_rng(0).normal(size=(6, 3))


@pytest.fixture
def pair(programs, ffi):
    """Two models of one dimension."""
    return tuple(from_stan(programs.regression, data, ffi=ffi) for data in (programs.first, programs.second))


def stan_gradients(target, points):
    values, gradients = zip(*(target.model.log_density_gradient(p) for p in points), strict=True)
    return np.array(values), np.array(gradients)


def assert_same(got, expected):
    """Equal to the last bit."""
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(a), b)


def test_values_and_gradients_are_stans_to_the_last_bit(pair):
    target = pair[0]
    compiled = jax.jit(target.value_and_grad)
    for point in POINTS:
        assert_same(compiled(point), target.model.log_density_gradient(point))
        assert_same(target.value_and_grad(point), target.model.log_density_gradient(point))
        assert float(target.log_density(point)) == target.model.log_density(point)


def test_differentiation_costs_one_fused_evaluation(pair):
    target = pair[0]
    compiled = jax.jit(jax.value_and_grad(target.log_density))
    counter(target).reset()
    assert_same(compiled(POINTS[0]), target.model.log_density_gradient(POINTS[0]))
    assert counts(target) == Counts(gradients=1, densities=0, failed=0)
    _, gradient = target.model.log_density_gradient(POINTS[0])
    np.testing.assert_array_equal(jax.grad(lambda x: 3 * target.log_density(x))(POINTS[0]), 3 * gradient)
    assert counts(target) == Counts(2, 0, 0)
    jax.block_until_ready(target.log_density(POINTS[0]))
    assert counts(target) == Counts(2, 1, 0)


def test_vmap_over_points(pair):
    target = pair[1]
    expected = stan_gradients(target, POINTS)
    assert_same(jax.vmap(target.value_and_grad)(POINTS), expected)
    assert_same(jax.jit(jax.vmap(jax.value_and_grad(target.log_density)))(POINTS), expected)
    values = [target.model.log_density(p) for p in POINTS]
    np.testing.assert_array_equal(jax.vmap(target.log_density)(POINTS), values)


def test_vmap_over_models_and_both(pair):
    fused = pair[0].density.fused
    ids = jnp.stack([t.density.operand for t in pair])
    by_model = [stan_gradients(t, POINTS) for t in pair]

    # models batched, one point
    got = jax.vmap(fused, in_axes=(0, None))(ids, POINTS[2])
    assert_same(got, [np.stack([m[i][2] for m in by_model]) for i in (0, 1)])

    # lane by lane, the models alternating
    got = jax.vmap(fused)(jnp.tile(ids, 3), POINTS)
    assert_same(got, [np.stack([by_model[k % 2][i][k] for k in range(6)]) for i in (0, 1)])

    # every model at every point, in both nestings; then a third axis along which only points run
    models_outside = jax.vmap(jax.vmap(fused, (None, 0)), (0, None))
    points_outside = jax.vmap(jax.vmap(fused, (0, None)), (None, 0))
    expected = [np.stack([m[i] for m in by_model]) for i in (0, 1)]
    assert_same(jax.jit(models_outside)(ids, POINTS), expected)
    assert_same(jax.jit(points_outside)(ids, POINTS), [e.swapaxes(0, 1) for e in expected])
    halves = jax.vmap(models_outside, (None, 0))(ids, POINTS.reshape(2, 3, 3))
    assert_same(halves, [np.stack([e[:, :3], e[:, 3:]]) for e in expected])


def test_model_id_is_an_operand_of_one_executable(ffi, programs):
    first = from_stan(programs.regression, programs.first, ffi=ffi)
    second = from_stan(programs.regression, programs.second, ffi=ffi)
    traced = []

    @jax.jit
    def compiled(density, x):
        traced.append(density)
        return density.value_and_grad(x)

    assert_same(compiled(first.density, POINTS[0]), first.model.log_density_gradient(POINTS[0]))
    assert_same(compiled(second.density, POINTS[0]), second.model.log_density_gradient(POINTS[0]))
    dead = first.density
    del first
    gc.collect()
    assert_same(compiled(second.density, POINTS[1]), second.model.log_density_gradient(POINTS[1]))
    third = from_stan(programs.regression, programs.first, ffi=ffi)  # takes no slot that was used
    assert_same(compiled(third.density, POINTS[1]), third.model.log_density_gradient(POINTS[1]))
    assert len(traced) == 1
    with pytest.raises(Exception, match="has been freed"):
        jax.block_until_ready(compiled(dead, POINTS[1]))
    assert int(third.density.operand) != int(dead.operand)


@pytest.mark.parametrize("wrong", [-1, 1 << 40])
def test_unknown_model_is_an_error(pair, wrong):
    density = pair[0].density
    with pytest.raises(Exception, match="there is no Stan model with id"):
        jax.block_until_ready(density.fused(jnp.asarray(wrong), jnp.zeros(3)))
    with pytest.raises(Exception, match="there is no Stan model with id"):
        jax.block_until_ready(density.value(jnp.asarray(wrong), jnp.zeros(3)))


def test_freed_model_is_an_error(programs, ffi):
    density = from_stan(programs.regression, programs.first, ffi=ffi).density
    gc.collect()
    with pytest.raises(Exception, match="has been freed"):
        jax.block_until_ready(density.value_and_grad(jnp.zeros(3)))


def test_wrong_dimension_is_an_error(pair):
    with pytest.raises(Exception, match=r"a point has 2 coordinates, but model .* has dimension 3"):
        jax.block_until_ready(pair[0].value_and_grad(jnp.zeros(2)))
    with pytest.raises(ValueError, match=r"use jax\.vmap"):
        pair[0].value_and_grad(jnp.zeros((2, 3)))


def test_shapes_that_do_not_broadcast_are_an_error(programs):
    target = from_stan(programs.regression, programs.first, ffi="ffi")
    shapes = (jax.ShapeDtypeStruct((4,), np.float64), jax.ShapeDtypeStruct((4, 3), np.float64))
    call = jax.ffi.ffi_call("essper_stan_value_and_grad", shapes)
    for ids, points in [((3,), (4, 3)), ((4,), (2, 3)), ((), (4, 3)), ((1,), (3,)), ((1, 1), (4, 3))]:
        ids = jnp.full(ids, target.density.operand)
        with pytest.raises(Exception, match="cannot be broadcast"):
            jax.block_until_ready(call(ids, jnp.zeros(points)))


def test_empty_batches_evaluate_nothing(pair):
    counter(pair[0]).reset()
    value, gradient = jax.vmap(pair[0].value_and_grad)(jnp.zeros((0, 3)))
    assert value.shape == (0,)
    assert gradient.shape == (0, 3)
    assert counts(pair[0]) == Counts(0, 0, 0)


def test_failures_are_minus_infinity_with_zero_gradient(programs, ffi):
    target = from_stan(programs.rejecting, ffi=ffi)
    assert last_error(target) == ""
    points = jnp.array([[0.5], [2.0], [-0.5], [-3.0]])
    value, gradient = jax.vmap(target.value_and_grad)(points)
    np.testing.assert_array_equal(value, [-0.25, -np.inf, -0.25, -np.inf])
    np.testing.assert_array_equal(gradient[:, 0], [-1.0, 0.0, 1.0, 0.0])
    assert counts(target) == Counts(gradients=4, densities=0, failed=2)
    assert last_error(target) == "the log density is not finite"
    np.testing.assert_array_equal(jax.vmap(target.log_density)(points), value)
    assert counts(target) == Counts(4, 4, 4)
    jax.block_until_ready(target.log_density(points[1]))
    assert last_error(target) == "x is 2"
    np.testing.assert_array_equal(jax.grad(target.log_density)(points[1]), [0.0])


def test_gradient_that_is_not_finite_fails_though_the_value_is(programs, ffi):
    target = from_stan(programs.kinked, ffi=ffi)
    value, gradient = target.model.log_density_gradient(np.zeros(1))
    assert np.isfinite(value)  # what the test is about
    assert not np.isfinite(gradient).all()
    assert_same(target.value_and_grad(jnp.zeros(1)), (-np.inf, np.zeros(1)))
    assert counts(target) == Counts(1, 0, 1)
    assert last_error(target) == "the gradient is not finite"


def test_counters_in_compiled_loops(pair):
    def loop(density, x, n):
        def body(_, x):
            value, gradient = density.value_and_grad(x)
            return x + 1e-3 * gradient + 0 * density.log_density(x) + 0 * value

        return lax.fori_loop(0, n, body, x)

    for target in pair:
        counter(target).reset()
    jax.block_until_ready(jax.jit(loop)(pair[0].density, jnp.ones(3), 50))
    jax.block_until_ready(jax.jit(jax.vmap(loop, (None, 0, None)))(pair[1].density, jnp.ones((4, 3)), 50))
    assert counts(pair[0]) == Counts(50, 50, 0)
    assert counts(pair[1]) == Counts(200, 200, 0)
    counter(pair[1]).reset()
    assert counts(pair[1]) == Counts(0, 0, 0)


def test_counters_and_results_from_several_threads(pair):
    target = pair[0]

    @jax.jit
    def run(density, x):
        return lax.scan(lambda x, _: (x + 1e-3 * density.value_and_grad(x)[1], None), x, length=200)[0]

    starts = jnp.asarray(POINTS[:4])
    expected = [np.asarray(run(target.density, x)) for x in starts]
    counter(target).reset()
    results = {}

    def chain(k):
        results[k] = np.asarray(run(target.density, starts[k]))

    threads = [threading.Thread(target=chain, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    np.testing.assert_array_equal([results[k] for k in range(4)], expected)
    assert counts(target) == Counts(800, 0, 0)


def test_denormal_numbers_survive(programs):
    target = from_stan(programs.denormal, ffi="ffi")
    value, gradient = target.model.log_density_gradient(np.array([2.0]))
    assert 0 < value < np.finfo(float).tiny
    got = jax.jit(target.value_and_grad)(jnp.array([2.0]))
    assert_same(got, (value, gradient))


def test_single_precision_points_are_evaluated_in_double(pair):
    point = POINTS[0].astype(np.float32)
    value, gradient = pair[0].value_and_grad(jnp.asarray(point))
    assert value.dtype == gradient.dtype == np.float64
    assert_same((value, gradient), pair[0].model.log_density_gradient(point.astype(float)))
    assert jax.grad(pair[0].log_density)(jnp.asarray(point)).dtype == np.float32
