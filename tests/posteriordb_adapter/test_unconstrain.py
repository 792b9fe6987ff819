"""Reference draws on the unconstrained scale."""

import numpy as np
import pytest
from conftest import DATA, NAMES, PROGRAM, exact_draws
from essper.models import from_log_density, from_stan
from essper.posteriordb_adapter import (
    ReferenceDraws,
    UnmappedReference,
    in_support,
    names_to_keep,
    to_unconstrained,
)


@pytest.fixture(scope="module")
def target():
    return from_stan(PROGRAM, DATA, name="prior")


def truth(draws) -> np.ndarray:
    return np.concatenate([draws[..., :1], np.log(draws[..., 1:2]), draws[..., 2:4]], -1)


def reference(names, draws=None) -> ReferenceDraws:
    return ReferenceDraws("toy", NAMES, exact_draws(2, 50) if draws is None else draws).select(names)


@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        NAMES[:4][::-1],  # the model's own, in another order
        ("theta[2]", "theta[1]", "tau", "mu"),  # z from theta
        ("z[2]", "mu", "tau", "theta[1]", "theta[2]"),  # z[1] is missing: all of z is solved for
    ],
)
def test_draws_go_to_where_they_came_from(target, names):
    x, mapped, reason = to_unconstrained(target, reference(names))
    assert mapped.all()
    assert reason == ""
    np.testing.assert_allclose(x, truth(exact_draws(2, 50)), rtol=1e-9, atol=1e-9)


def test_a_map_that_is_not_affine_is_solved():
    program = """
    parameters {real a; real b;}
    transformed parameters {real s = exp(b) + b + a;}
    model {b ~ std_normal();}
    """
    target = from_stan(program, name="curved")
    x = np.random.default_rng(2).standard_normal((2, 50, 2))
    draws = ReferenceDraws("r", ("a", "s"), target.constrain(x)[..., [0, 2]])
    np.testing.assert_allclose(to_unconstrained(target, draws).draws, x, atol=1e-5)


def test_what_is_not_determined_is_named(target):
    with pytest.raises(UnmappedReference, match=r"does not determine z of 'prior': 1 values"):
        to_unconstrained(target, reference(("mu", "tau", "theta[1]")))
    with pytest.raises(UnmappedReference, match="mu, tau, z"):
        to_unconstrained(target, reference(("theta[1]",)))


def test_a_missing_variable_without_influence_is_named():
    program = "parameters {real a; real b;} transformed parameters {real s = a; real t = 2 * a;} model {}"
    target = from_stan(program, name="blind")
    draws = ReferenceDraws(
        "r", ("a", "s", "t"), np.random.default_rng(0).standard_normal((1, 9, 1)) * [1, 1, 2]
    )
    moved = ReferenceDraws("r", draws.names, draws.draws + np.array([0, 1, 2]))
    for given in (draws, moved):
        with pytest.raises(UnmappedReference, match="does not determine b of 'blind'"):
            to_unconstrained(target, given)


def test_transformed_parameters_that_cannot_come_out_are_an_error():
    program = "parameters {real a; real b;} transformed parameters {real s = b; real t = b;} model {}"
    target = from_stan(program, name="torn")
    draws = np.random.default_rng(0).standard_normal((1, 9, 3))
    with pytest.raises(UnmappedReference, match="no values of them give its draws"):
        to_unconstrained(target, ReferenceDraws("r", ("a", "s", "t"), draws))


def test_draws_outside_of_the_support_are_reported(target):
    draws = exact_draws(2, 50)
    draws[1, 3, 1], draws[0, 7, 1] = -1.0, 0.0  # tau: outside, and on the boundary
    x, mapped, reason = to_unconstrained(target, reference(NAMES[:4], draws))
    assert np.argwhere(~mapped).tolist() == [[0, 7], [1, 3]]
    assert np.isfinite(x[mapped]).all()
    assert reason
    accepts = in_support(target, NAMES[:4])
    np.testing.assert_array_equal(accepts(draws[1, :, :4]), mapped[1])
    assert not accepts(draws[1, 3:4, :4]).any()


def test_targets_without_a_stan_model_are_told_apart():
    gaussian = from_log_density("gaussian", 1, lambda x: -0.5 * x @ x, param_names=("mu",))
    with pytest.raises(UnmappedReference, match="has no Stan model"):
        to_unconstrained(gaussian, reference(("mu",)))


def test_references_keep_the_models_own_parameters(target):
    assert names_to_keep(target, {"mu": 1}) == NAMES[:4]
    assert names_to_keep(target, {"theta": 2}) == NAMES
