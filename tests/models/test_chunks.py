"""Densities evaluated in chunks, and how many points a chunk has."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import chunk_tuning
from essper.models.chunk_tuning import tuned_chunk
from essper.models.chunks import chunked, default_chunk
from essper.models.target import Target
from essper.samplers import HMC, Budget, DelayedRejectionHMC
from essper.samplers.layouts import choose_layout
from jax import lax

CHUNKS = (1, 2, 7, 64, None)
POINTS = jnp.asarray(np.random.default_rng(0).normal(size=(10, 3)))


def log_density(x):
    return jnp.log(x[0] + 4.0) - jnp.cosh(x[1:]).sum() * x[0]  # not finite below -4


def expected(points):
    value, gradient = jax.vmap(jax.value_and_grad(log_density))(points)
    good = np.isfinite(value)
    return np.where(good, value, -np.inf), np.where(good[:, None], gradient, 0.0)


def executions(chunk):
    """A density that tells of every point that is executed, and the list of what it told."""
    told = []

    def telling(x):
        jax.debug.callback(lambda y: told.append(float(y)), x[0])
        return log_density(x)

    return chunked(telling, chunk), told


@pytest.mark.parametrize("chunk", CHUNKS)
def test_any_chunk_gives_what_vmap_gives(chunk):
    points = POINTS.at[3, 0].set(-5.0)
    density = chunked(log_density, chunk)
    value, gradient = expected(points)
    assert np.isneginf(value).sum() == 1
    got = jax.jit(jax.vmap(lambda x: (*density.value_and_grad(x), density.log_density(x))))(points)
    for found, wanted in zip(got, (value, gradient, value), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-13)
    one = jax.jit(density.value_and_grad)
    for k in (0, 3):
        np.testing.assert_allclose(one(points[k])[0], value[k], rtol=1e-13)
        np.testing.assert_allclose(one(points[k])[1], gradient[k], rtol=1e-13)


@pytest.mark.parametrize("chunk", [1, 4, None])
def test_nested_vmaps_are_one_batch(chunk):
    density, told = executions(chunk)
    nested = jax.jit(jax.vmap(jax.vmap(density.value_and_grad), in_axes=1, out_axes=1))
    value, gradient = nested(POINTS.reshape(2, 5, 3))
    flat_value, flat_gradient = expected(POINTS)
    np.testing.assert_allclose(value, flat_value.reshape(2, 5), rtol=1e-13)
    np.testing.assert_allclose(gradient, flat_gradient.reshape(2, 5, 3), rtol=1e-13)
    jax.effects_barrier()
    padding = 0 if chunk is None else -10 % chunk
    assert len(told) == 10 + padding  # chunks of the ten, not of each five


def test_program_holds_a_chunk_and_not_the_batch():
    density = chunked(log_density, 4)
    shapes = str(jax.make_jaxpr(jax.vmap(density.value_and_grad))(jnp.ones((400, 3))))
    assert "scan" in shapes
    assert "f64[4,2] = cosh" in shapes
    assert "f64[400,2] = cosh" not in shapes
    assert "f64[400,2] = cosh" in str(
        jax.make_jaxpr(jax.vmap(chunked(log_density, None).value_and_grad))(jnp.ones((400, 3)))
    )


def test_value_is_differentiable_as_often_as_the_function():
    density = chunked(log_density, 4)
    np.testing.assert_allclose(jax.grad(density.log_density)(POINTS[0]), jax.grad(log_density)(POINTS[0]))
    hessians = jax.jit(jax.vmap(jax.hessian(density.log_density)))(POINTS)
    exact = jax.jit(jax.vmap(jax.hessian(log_density)))(POINTS)
    np.testing.assert_allclose(hessians, exact, rtol=1e-12)
    one, tangent = POINTS[0], jnp.ones(3)
    got = jax.jit(lambda x, v: jax.jvp(lambda x: density.value_and_grad(x)[1], (x,), (v,))[1])(one, tangent)
    np.testing.assert_allclose(got, exact[0] @ tangent, rtol=1e-12)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_masked_points(chunk):
    density, told = executions(chunk)
    evaluate = jax.jit(jax.vmap(density.value_and_grad))
    full_value, full_gradient = expected(POINTS)
    for wanted in ([], [0, 3, 4, 9], [8], range(10)):
        mask = np.isin(np.arange(10), list(wanted))
        value, gradient = evaluate(POINTS, mask)
        np.testing.assert_allclose(value, np.where(mask, full_value, -np.inf), rtol=1e-13)
        np.testing.assert_allclose(gradient, np.where(mask[:, None], full_gradient, 0.0), rtol=1e-13)
        jax.effects_barrier()
        width = min(chunk or 10, 10)
        assert len(told) == width * -(-mask.sum() // width)  # as few chunks as the wanted points fill
        told.clear()


def test_masks_and_points_broadcast():
    density = chunked(log_density, 4)
    assert density.masked is not None
    full_value, full_gradient = expected(POINTS)
    mask = np.arange(10) % 3 == 0
    value, gradient = jax.jit(jax.vmap(density.value_and_grad, (None, 0)))(POINTS[2], mask)
    np.testing.assert_allclose(value, np.where(mask, full_value[2], -np.inf), rtol=1e-13)
    np.testing.assert_allclose(gradient, np.where(mask[:, None], full_gradient[2], 0.0), rtol=1e-13)
    value, _ = jax.jit(jax.vmap(density.value_and_grad, (0, None)))(POINTS, True)
    np.testing.assert_allclose(value, full_value, rtol=1e-13)
    grid = jax.vmap(jax.vmap(density.value_and_grad, (None, 0)), (0, None))
    value, _ = jax.jit(grid)(POINTS, mask)
    np.testing.assert_allclose(value, np.where(mask, full_value[:, None], -np.inf), rtol=1e-13)


def test_one_point_that_is_not_wanted_is_not_executed():
    density, told = executions(4)
    evaluate = jax.jit(density.value_and_grad)
    assert float(evaluate(POINTS[0], False)[0]) == -np.inf
    jax.effects_barrier()
    assert not told
    np.testing.assert_allclose(evaluate(POINTS[0], True)[0], expected(POINTS)[0][0], rtol=1e-13)
    jax.effects_barrier()
    assert len(told) == 1


def test_loops_of_unequal_length_execute_what_is_asked_for():
    density, told = executions(1)
    lengths = np.array([3, 11, 1, 7, 0, 5])

    def walk(x, steps):
        return lax.fori_loop(0, steps, lambda i, x: x + 1e-3 * density.value_and_grad(x, i < steps)[1], x)

    jax.block_until_ready(jax.jit(jax.vmap(walk))(POINTS[:6], lengths))
    jax.effects_barrier()
    assert len(told) == lengths.sum()


def test_densities_of_one_function_share_programs_and_one_trace():
    traced = []

    def counted(x):
        traced.append(None)
        return log_density(x)

    counted = jax.jit(counted)
    density = chunked(counted, 4)
    assert jax.tree.structure(density) == jax.tree.structure(chunked(counted, 4))
    assert jax.tree.structure(density) != jax.tree.structure(chunked(counted, 8))
    assert jax.tree.structure(density) != jax.tree.structure(chunked(log_density, 4))
    for size in (3, 5, 9):
        # What is lowered only has been traced to the end, and takes no time to compile.
        jax.jit(jax.vmap(density.value_and_grad)).lower(POINTS[:size])
        jax.jit(jax.vmap(density.value_and_grad)).lower(POINTS[:size], np.ones(size, bool))
        jax.jit(jax.vmap(density.log_density)).lower(POINTS[:size])
    assert len(traced) == 1


def test_masked_layout_of_the_driver():
    target = Target(
        name="quadratic",
        dim=3,
        density=chunked(lambda x: -0.5 * (x**2).sum(), 2),
        param_names=("a", "b", "c"),
        constrain=np.asarray,
        digest="quadratic",
    )
    assert choose_layout(DelayedRejectionHMC(), target) == "masked"
    run = HMC(execution="masked").run(jax.random.key(0), target, Budget(2_000), chains=5)
    assert run.layout == "masked"
    assert np.all(np.abs(run.draws.mean((0, 1))) < 0.5)
    assert np.all(np.abs(run.draws.std((0, 1)) - 1) < 0.3)


def test_chunk_of_nothing_is_refused():
    with pytest.raises(ValueError, match="chunk=0"):
        chunked(log_density, 0)


# -- the rule -------------------------------------------------------------------------------------


def data():
    return jnp.linspace(-1, 1, 1000)


def wide(x):
    return -((data() - x[0]) ** 2).sum() - jnp.exp(x[1] * data()).sum()


def narrow(x):
    def body(state, y):
        state = 0.5 * state + x[0] * y
        return state, -(state**2)

    return lax.scan(body, 0.0, data())[1].sum()


def product(x):
    return -jnp.sum(jnp.exp(np.ones((300, 2)) @ x))


def waiting(x):
    @jax.custom_jvp
    def search(y):
        return lax.while_loop(lambda s: s > 1.0, lambda s: s / 2, y)

    search.defjvp(lambda primals, tangents: (search(*primals), tangents[0]))
    return -search(x[0] ** 2)


@pytest.mark.parametrize(("function", "chunk"), [(wide, 1), (product, 16), (narrow, 64), (waiting, 1)])
def test_rule_reads_the_program(function, chunk):
    assert default_chunk(function, 2) == chunk


def test_rule_leaves_batches_whole_on_accelerators(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert default_chunk(wide, 2) is None
    assert tuned_chunk(wide, 2, np.zeros((1, 2))).chunk is None


# -- tuning ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ESSPER_CACHE", str(tmp_path))
    return tmp_path / "chunks"


def stopwatch(monkeypatch, costs):
    """Measurements that come out as ``costs``, by chunk, from 4 on; returns the chunks that were compiled."""
    tried = []
    monkeypatch.setattr(chunk_tuning, "default_chunk", lambda function, dim: 4)

    def compiled(function, chunk, batch):
        tried.append(chunk)
        return lambda: len(batch) * costs[chunk]

    monkeypatch.setattr(chunk_tuning, "_compiled", compiled)
    return tried


@pytest.mark.parametrize(
    ("costs", "best"),
    [
        ({1: 1, 4: 2, 16: 3, 64: 4, None: 6}, 1),
        ({1: 3, 4: 2, 16: 3, 64: 1, None: 5}, 64),  # behind a slower one
        ({1: 6, 4: 5, 16: 4, 64: 3, None: 1}, None),
    ],
)
def test_search_finds_the_fastest(monkeypatch, folder, costs, best):
    asked = stopwatch(monkeypatch, costs)
    found = tuned_chunk(wide, 2, np.zeros((1, 2)), width=256)
    assert found.chunk == best
    assert asked == [4, 1, 16, 64, None]
    assert found.microseconds == {chunk: pytest.approx(1e6 * costs[chunk]) for chunk in asked}


def test_search_ends_after_its_time(monkeypatch, folder):
    asked = stopwatch(monkeypatch, dict.fromkeys((1, 4), 1.0))
    monkeypatch.setattr(chunk_tuning, "SEARCH_SECONDS", 0.0)
    assert tuned_chunk(wide, 2, np.zeros((1, 2)), width=256).chunk == 4
    assert asked == [4]


def test_small_batches_have_no_larger_chunks(monkeypatch, folder):
    asked = stopwatch(monkeypatch, {1: 3, 4: 2, 16: 1, None: 0.5})
    assert tuned_chunk(wide, 2, np.zeros((1, 2)), width=20).chunk is None
    assert asked == [4, 1, 16, None]


def test_what_was_found_is_found_again(monkeypatch, folder):
    asked = stopwatch(monkeypatch, {1: 3, 4: 2, 16: 4, 64: 4, None: 5})
    first = tuned_chunk(wide, 2, np.zeros((1, 2)), digest="one", width=256)
    assert (first.chunk, len(asked)) == (4, 5)
    again = tuned_chunk(wide, 2, np.zeros((1, 2)), digest="one", width=256)
    assert again == first._replace(seconds=0.0)
    assert len(asked) == 5
    tuned_chunk(wide, 2, np.zeros((1, 2)), digest="one", width=512)
    tuned_chunk(wide, 2, np.zeros((1, 2)), digest="two", width=256)
    with jax.enable_x64(False):
        tuned_chunk(wide, 2, np.zeros((1, 2)), digest="one", width=256)
    assert len(asked) == 20
    assert len(list(folder.iterdir())) == 4


def test_of_two_searches_the_first_to_end_counts(monkeypatch, folder):
    costs = {1: 3, 4: 2, 16: 4, 64: 4, None: 5}
    stopwatch(monkeypatch, costs)
    tuned_chunk(wide, 2, np.zeros((1, 2)), digest="one", width=256)
    (path,) = folder.iterdir()
    record = json.loads(path.read_text())
    search = chunk_tuning._search

    def slow(*arguments):
        path.write_text(json.dumps(record | {"chunk": 256}))  # by another process, in the meantime
        return search(*arguments)

    monkeypatch.setattr(chunk_tuning, "_search", slow)
    path.unlink()
    assert tuned_chunk(wide, 2, np.zeros((1, 2)), digest="one", width=256).chunk == 256
    assert list(folder.iterdir()) == [path]


def test_search_measures(folder):
    found = tuned_chunk(wide, 2, np.zeros((2, 2)), width=32)
    assert found.chunk in found.microseconds
    assert found.seconds > 0
    assert all(0 < microseconds < 1e6 for microseconds in found.microseconds.values())
