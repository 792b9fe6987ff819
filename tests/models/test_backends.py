"""One Stan program by both backends: the same target but for what evaluates it; and what is refused."""

import dataclasses

import essper.models.stan_to_jax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.models import (
    LoweredTarget,
    LoweringMismatch,
    StanDataError,
    StanProgramError,
    from_stan,
    resolve_backend,
    verification,
)
from essper.models.stan_to_jax import UnsupportedStanError

POINTS = np.random.default_rng(0).normal(size=(4, 3))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """What earlier runs verified decides nothing here; the compiled handler stays where it is."""
    monkeypatch.setattr(verification, "cache_dir", lambda: tmp_path)
    return tmp_path


def lowered(*arguments, **options) -> LoweredTarget:
    target = from_stan(*arguments, backend="jax", **options)
    assert isinstance(target, LoweredTarget)
    return target


def test_backends_differ_in_nothing_but_the_density(programs):
    stan = from_stan(programs.regression, programs.first, backend="bridgestan", name="line")
    jaxs = lowered(programs.regression, programs.first, name="line")
    for field in ("name", "dim", "param_names", "digest"):
        assert getattr(jaxs, field) == getattr(stan, field)
    np.testing.assert_array_equal(jaxs.constrain(POINTS), stan.constrain(POINTS))
    assert jaxs.backend == "jax (lowered, float64)"
    assert repr(jaxs) == "Target('line', dim=3, backend='jax (lowered, float64)')"
    assert jaxs.counter is None
    assert jaxs.model.name() == stan.model.name()
    for x in POINTS:
        value, gradient = jax.jit(jaxs.value_and_grad)(jnp.asarray(x))
        expected_value, expected_gradient = stan.model.log_density_gradient(x)
        np.testing.assert_allclose(value, expected_value, rtol=1e-12)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-12)
    assert jaxs.agreement is not None
    assert jaxs.agreement.compared == verification.POINTS
    assert jaxs.agreement.gradient_error < 1e-12


def test_rejections_are_minus_infinity_with_zero_gradient(programs):
    target = lowered(programs.rejecting)
    value, gradient = jax.vmap(target.value_and_grad)(jnp.array([[0.5], [2.0], [-0.5], [-3.0]]))
    np.testing.assert_array_equal(value, [-0.25, -np.inf, -0.25, -np.inf])
    np.testing.assert_array_equal(gradient[:, 0], [-1.0, 0.0, 1.0, 0.0])


def test_auto_is_stan_on_a_cpu_and_jax_elsewhere(monkeypatch):
    assert resolve_backend() == "bridgestan"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert resolve_backend("auto") == resolve_backend("auto", "float32") == "jax"
    assert resolve_backend("bridgestan") == "bridgestan"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "jax", "ffi": "callback"}, "the backend 'jax' has no ffi='callback'"),
        ({"backend": "jax", "parallel": False}, "the backend 'jax' has no parallel=False"),
        (
            {"backend": "bridgestan", "precision": "float32"},
            "'bridgestan' computes in float64: float32 needs",
        ),
        ({"precision": "float32"}, r"'auto' \(here 'bridgestan'\) computes in float64"),
        ({"chunk": 8}, r"'auto' \(here 'bridgestan'\) has no chunk=8"),
        ({"backend": "jax", "precision": "float16"}, "precision='float16' is not supported"),
        ({"backend": "jax", "chunk": 0}, "chunk=0"),
    ],
)
def test_options_of_another_backend_are_refused(programs, options, message):
    with pytest.raises(ValueError, match=message):
        from_stan(programs.regression, programs.first, **options)


UNKNOWN_BOUND = """parameters {
  real x;
}
model {
  int n = x > 0 ? 1 : 2;
  for (i in 1:n) target += -square(x);
}
"""


def test_what_is_not_lowered_is_named_with_its_place(tmp_path):
    path = tmp_path / "unusual.stan"
    path.write_text(UNKNOWN_BOUND)
    with pytest.raises(
        UnsupportedStanError, match=r"unusual\.stan:6:\d+: .*backend='bridgestan' runs"
    ) as caught:
        lowered(path)
    assert isinstance(caught.value, StanProgramError)
    assert from_stan(path, backend="bridgestan").dim == 1


def test_stan_decides_what_is_valid(programs, toy):
    with pytest.raises(StanProgramError, match="Stan rejects the program"):
        lowered("parameters { real x; } model { x ~ nomal(0, 1); }")
    with pytest.raises(StanDataError, match="does not accept its data"):
        lowered(programs.regression, {"N": 3, "x": [0.0], "y": [0.0]})
    path, _ = toy(name="compiled")
    with pytest.raises(StanProgramError, match="compiled library, which cannot be lowered"):
        lowered(path)


@pytest.fixture
def sabotaged(monkeypatch):
    """Makes the lowering compute ``change(x)`` more than it should."""
    honest = essper.models.stan_to_jax.lower

    def sabotage(change):
        def lower(*arguments, **options):
            result = honest(*arguments, **options)
            right = result.log_density
            object.__setattr__(result, "log_density", lambda x: right(x) + change(x))
            return result

        monkeypatch.setattr(essper.models.stan_to_jax, "lower", lower)

    return sabotage


@pytest.mark.parametrize(
    "change",
    [
        lambda x: 1e-6 * x[0],
        lambda x: 1e-6 * (x**2).sum(),
        lambda x: jnp.where(x[0] > -1e9, jnp.nan, 0.0),
        lambda x: jax.lax.stop_gradient(1e-6 * x[0]),
    ],
)
def test_another_density_is_never_handed_out(programs, sabotaged, change):
    sabotaged(change)
    for _ in range(2):  # a failure is not remembered as a success
        with pytest.raises(LoweringMismatch, match=r"not Stan's(.|\n)*bridgestan='build'"):
            lowered(programs.regression, programs.first)
    assert lowered(programs.regression, programs.first, verify=False).agreement is None


def test_constants_do_not_matter(programs, sabotaged):
    sabotaged(lambda x: 3.0)
    assert lowered(programs.regression, programs.first).agreement is not None


def test_a_verification_is_remembered_until_program_data_or_lowering_change(programs, monkeypatch, own_cache):
    compared = []
    honest = verification.compare_densities
    monkeypatch.setattr(
        verification, "compare_densities", lambda *a, **k: compared.append(a) or honest(*a, **k)
    )
    first = lowered(programs.regression, programs.first)
    again = lowered(programs.regression, programs.first)
    assert len(compared) == 1
    assert first.agreement == again.agreement
    lowered(programs.regression, programs.second)
    assert len(compared) == 2
    lowered(programs.regression, programs.first, precision="float32")
    assert len(compared) == 3
    monkeypatch.setattr(verification, "lowering_version", lambda: "another")
    lowered(programs.regression, programs.first)
    assert len(compared) == 4
    for file in (own_cache / verification.FOLDER).iterdir():
        file.write_text('{"gradient_errors": ')
    lowered(programs.regression, programs.first)  # a file that was cut off counts for nothing
    assert len(compared) == 5


def test_a_density_without_a_finite_point_is_said_not_to_be_compared():
    program = "parameters { real x; } model { target += negative_infinity() + x; }"
    for _ in range(2):
        with pytest.warns(UserWarning, match="'nowhere' has NOT been compared"):
            agreement = lowered(program, name="nowhere").agreement
        assert agreement is not None
        assert agreement.compared == 0


def test_points_of_finite_density_are_found_by_halving():
    narrow = 'parameters { real x; } model { if (abs(x) > 1e-3) reject("x is ", x); target += -square(x); }'
    model = from_stan(narrow).model
    points = verification.finite_points(model, 5)
    assert points.shape == (5, 1)
    assert (np.abs(points) <= 1e-3).all()
    assert len(np.unique(points)) == 5


def test_single_precision_is_measured_and_keeps_the_callers_type(programs):
    target = lowered(programs.regression, programs.first, precision="float32")
    value, gradient = jax.jit(target.value_and_grad)(jnp.asarray(POINTS[0]))
    assert value.dtype == gradient.dtype == np.float64
    expected = target.model.log_density_gradient(POINTS[0])[1]
    error = np.max(np.abs(gradient - expected)) / np.max(np.abs(expected))
    assert 1e-10 < error < 1e-4
    assert target.agreement is not None
    assert 1e-10 < target.agreement.gradient_error < 1e-4
    assert target.backend == "jax (lowered, float32)"


def test_without_float64_mode_only_single_precision_is_lowered(programs):
    with jax.enable_x64(False):
        with pytest.raises(RuntimeError, match="precision='float64' needs JAX's float64 mode"):
            lowered(programs.regression, programs.first)
        target = lowered(programs.regression, programs.first, precision="float32")
        value, gradient = target.value_and_grad(jnp.zeros(3))
        assert value.dtype == gradient.dtype == np.float32
        assert target.constrain(POINTS).dtype == np.float64


def test_a_chunk_is_the_one_asked_for(programs):
    target = lowered(programs.regression, programs.first, chunk=2)
    assert target.chunk == 2
    value, _ = jax.vmap(target.value_and_grad)(jnp.asarray(POINTS))
    assert value == pytest.approx([target.model.log_density(x) for x in POINTS])


def test_tolerances_are_looser_for_odes_and_single_precision(programs):
    from essper.models.stan_source import read_program

    plain = read_program(programs.regression, None)
    ode = read_program(programs.regression + "// ode_rk45(f, y)", None)
    assert verification.tolerance_for(plain) == verification.tolerance_for(ode) == 1e-8
    solves = dataclasses.replace(plain, complete="model { y = ode_bdf_tol (f, y0, 0, ts, 1e-6, 1e-6, 100); }")
    assert verification.tolerance_for(solves) == verification.ODE_TOLERANCE
    assert verification.tolerance_for(plain, "float32") == verification.FLOAT32_TOLERANCE


def test_single_precision_that_is_too_coarse_is_refused():
    program = "parameters { real x; } model { target += -square((1e9 + x) - 1e9); }"
    assert lowered(program).agreement is not None
    with pytest.raises(LoweringMismatch, match="float32 may be too coarse for it: use precision='float64'"):
        lowered(program, precision="float32")
