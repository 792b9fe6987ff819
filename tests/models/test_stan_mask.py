"""Evaluations that are left out where their result is not wanted, by the FFI and by the callback."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import counter, counts
from essper.models import Counts, from_stan, last_error, standard_gaussian
from jax import lax

POINTS = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)))
SOME = np.array([True, False, True, True, False, False])


@pytest.fixture
def target(programs, ffi):
    found = from_stan(programs.regression, programs.first, ffi=ffi)
    counter(found).reset()
    return found


def masked(density, x, active):
    return density.value_and_grad(x, active)


def assert_masked(got, full, mask):
    """To the last bit what is computed without a mask, or (−inf, 0) where it is False."""
    np.testing.assert_array_equal(got[0], np.where(mask, full[0], -np.inf))
    np.testing.assert_array_equal(got[1], np.where(np.asarray(mask)[..., None], full[1], 0.0))


def test_only_active_lanes_are_executed(target):
    batch = jax.jit(jax.vmap(masked, (None, 0, 0)))
    full = jax.jit(jax.vmap(target.value_and_grad))(POINTS)
    for mask in (SOME, ~SOME, np.ones(6, bool), np.zeros(6, bool)):
        jax.block_until_ready(full)
        counter(target).reset()
        assert_masked(batch(target.density, POINTS, mask), full, mask)
        assert counts(target) == Counts(int(mask.sum()), 0, 0)


@pytest.mark.parametrize("compiled", [False, True])
def test_one_point(target, compiled):
    evaluate = jax.jit(masked) if compiled else masked
    full = jax.block_until_ready(target.value_and_grad(POINTS[0]))
    counter(target).reset()
    assert_masked(evaluate(target.density, POINTS[0], False), full, False)
    assert counts(target) == Counts(0, 0, 0)
    assert_masked(evaluate(target.density, POINTS[0], True), full, True)
    assert counts(target) == Counts(1, 0, 0)


def test_points_and_masks_broadcast(target):
    density = target.density
    full = jax.block_until_ready(jax.vmap(target.value_and_grad)(POINTS))

    def check(got, full, mask, executed):
        assert_masked(jax.block_until_ready(got), full, mask)
        assert counts(target) == Counts(executed, 0, 0)
        counter(target).reset()

    counter(target).reset()
    # one mask for all points, one point under many masks
    for flag in (True, False):
        got = jax.jit(jax.vmap(masked, (None, 0, None)))(density, POINTS, flag)
        check(got, full, np.full(6, flag), 6 * flag)
    same = tuple(np.broadcast_to(x[2], (6, *x[2].shape)) for x in full)
    check(jax.jit(jax.vmap(masked, (None, None, 0)))(density, POINTS[2], SOME), same, SOME, 3)

    # nested, each operand along one axis of its own, in both orders; then both along both axes
    table = np.broadcast_to(SOME[:, None], (6, 6))
    repeated = tuple(np.broadcast_to(x, (6, *x.shape)) for x in full)
    masks_outside = jax.vmap(jax.vmap(masked, (None, 0, None)), (None, None, 0))
    check(jax.jit(masks_outside)(density, POINTS, SOME), repeated, table, 18)
    points_outside = jax.vmap(jax.vmap(masked, (None, None, 0)), (None, 0, None))
    swapped = tuple(x.swapaxes(0, 1) for x in repeated)
    check(jax.jit(points_outside)(density, POINTS, SOME), swapped, table.T, 18)
    halves = jax.jit(jax.vmap(jax.vmap(masked, (None, 0, 0)), (None, 0, 0)))
    by_half = tuple(np.asarray(x).reshape(2, 3, *x.shape[1:]) for x in full)
    check(halves(density, POINTS.reshape(2, 3, 3), SOME.reshape(2, 3)), by_half, SOME.reshape(2, 3), 3)


def test_models_differ_between_lanes(programs, ffi):
    pair = [from_stan(programs.regression, d, ffi=ffi) for d in (programs.first, programs.second)]
    operands = jnp.tile(jnp.stack([t.density.operand for t in pair]), 3)
    values, gradients = zip(
        *(pair[k % 2].model.log_density_gradient(np.asarray(POINTS[k])) for k in range(6)), strict=True
    )
    function = pair[0].density.masked
    assert function is not None
    got = jax.vmap(function)(operands, POINTS, jnp.asarray(SOME))
    assert_masked(got, (np.array(values), np.array(gradients)), SOME)
    assert [counts(t).gradients for t in pair] == [2, 1]


def test_failures_among_masked_lanes(programs, ffi):
    target = from_stan(programs.rejecting, ffi=ffi)
    points = jnp.array([[2.0], [0.5], [-3.0], [2.0], [-0.5]])
    mask = np.array([False, True, True, False, True])
    value, gradient = jax.vmap(masked, (None, 0, 0))(target.density, points, mask)
    np.testing.assert_array_equal(value, [-np.inf, -0.25, -np.inf, -np.inf, -0.25])
    np.testing.assert_array_equal(gradient[:, 0], [0.0, -1.0, 0.0, 0.0, 1.0])
    assert counts(target) == Counts(gradients=3, densities=0, failed=1)
    assert last_error(target) == "the log density is not finite"  # x = 2, which throws, was left out


def test_loops_of_unequal_length_execute_what_each_lane_asks_for(target):
    lengths = np.array([3, 11, 1, 7, 0, 5])

    def walk(density, x, steps):
        def body(i, x):
            return x + 1e-3 * density.value_and_grad(x, i < steps)[1]

        return lax.fori_loop(0, steps, body, x)

    ends = jax.block_until_ready(jax.jit(jax.vmap(walk, (None, 0, 0)))(target.density, POINTS, lengths))
    assert counts(target) == Counts(int(lengths.sum()), 0, 0)
    alone = [jax.jit(walk)(target.density, *lane) for lane in zip(POINTS, lengths, strict=True)]
    np.testing.assert_allclose(ends, alone, rtol=1e-14)
    jax.block_until_ready(alone)
    assert counts(target) == Counts(2 * int(lengths.sum()), 0, 0)


def test_masks_that_do_not_broadcast_are_an_error(programs):
    target = from_stan(programs.regression, programs.first, ffi="ffi")
    shapes = (jax.ShapeDtypeStruct((4,), np.float64), jax.ShapeDtypeStruct((4, 3), np.float64))
    call = jax.ffi.ffi_call("essper_stan_masked_value_and_grad", shapes)
    ids = jnp.full((4,), target.density.operand)
    for shape in [(3,), (), (1, 1), (4, 1)]:
        with pytest.raises(Exception, match=r"a mask .* cannot be broadcast"):
            jax.block_until_ready(call(ids, jnp.zeros((4, 3)), jnp.ones(shape, bool)))


def test_densities_written_in_jax_compute_all_lanes():
    density = standard_gaussian(3).density
    assert density.masked is None
    full = jax.vmap(density.value_and_grad)(POINTS)
    got = jax.vmap(masked, (None, 0, 0))(density, POINTS, SOME)
    for a, b in zip(got, full, strict=True):
        np.testing.assert_array_equal(a, b)


LANES = np.random.default_rng(1).normal(size=(24, 2))
LANES[[3, 17], 0] = 101.0  # throws
LANES[8, 0] = -101.0  # gradient not finite
EVERY_THIRD = np.arange(24) % 3 != 1
assert EVERY_THIRD[[3, 8, 17]].all()


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has nothing to split")
def test_active_lanes_are_split_over_threads(toy):
    path, controls = toy()
    target = from_stan(path, ffi="ffi")
    batch = jax.jit(jax.vmap(masked, (None, 0, 0)))
    full = jax.block_until_ready(jax.jit(jax.vmap(target.value_and_grad))(LANES))
    controls.toy_pause(30_000)
    jax.block_until_ready(batch(target.density, LANES, EVERY_THIRD))  # measures what one takes
    controls.toy_most_active()
    counter(target).reset()
    got = jax.block_until_ready(batch(target.density, LANES, EVERY_THIRD))
    assert controls.toy_most_active() > 1
    assert_masked(got, full, EVERY_THIRD)
    assert counts(target) == Counts(gradients=16, densities=0, failed=3)

    # two lanes are far from each other in the batch, and still two pieces of work
    ends = np.isin(np.arange(24), [0, 23])
    assert_masked(jax.block_until_ready(batch(target.density, LANES, ends)), full, ends)
    assert controls.toy_most_active() == 2
    assert counts(target).gradients == 18
    alone = np.arange(24) == 5
    assert_masked(jax.block_until_ready(batch(target.density, LANES, alone)), full, alone)
    assert controls.toy_most_active() == 1


def test_masked_batches_of_models_that_are_not_thread_safe_take_turns(toy, ffi):
    path, controls = toy(threads=False)
    target = from_stan(path, ffi=ffi)
    batch = jax.jit(jax.vmap(masked, (None, 0, 0)))
    full = jax.block_until_ready(jax.jit(jax.vmap(target.value_and_grad))(LANES))
    controls.toy_pause(500)
    controls.toy_most_active()
    counter(target).reset()
    for _ in range(2):
        assert_masked(jax.block_until_ready(batch(target.density, LANES, EVERY_THIRD)), full, EVERY_THIRD)
    assert controls.toy_most_active() == 1
    assert counts(target) == Counts(32, 0, 6)
