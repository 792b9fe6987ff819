"""Random programs agree with Stan, or are refused: never another number, never another exception."""

from typing import Literal

import jax
import numpy as np
from against_stan import stan_values_and_gradients
from essper.models.stan_source import StanDataError, load_model, read_program
from essper.models.stan_to_jax import UnsupportedStanError, lower
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from random_programs import random_data, random_program

TOLERANCE = 1e-8
EXAMPLES = 12
SCALES = np.array([[1.0], [1.0], [0.3]])
"""Of the points, one each."""


def outcome(text, data) -> Literal["agrees", "refused", "no oracle"]:
    """What holding a program against Stan comes to; fails where the two differ."""
    program = read_program(text, "random")
    try:
        model = load_model(program, data, "stanli").model
    except StanDataError:  # stanli lacks something that Stan has
        return "no oracle"
    points = SCALES * np.random.default_rng(0).normal(size=(len(SCALES), model.param_unc_num()))
    values, gradients = stan_values_and_gradients(model, points)
    try:
        lowered = lower(program, data)
        got = jax.vmap(jax.value_and_grad(lowered.log_density))(points)
    except UnsupportedStanError:
        return "refused"
    got_values, got_gradients = map(np.asarray, got)
    np.testing.assert_array_equal(np.isfinite(got_values), np.isfinite(values))
    finite = np.isfinite(values)
    # Stan keeps what a local variable adds to a density even where it holds nothing but data: a constant.
    differences = (got_values - values)[finite]
    assert (np.ptp(differences) if len(differences) else 0) <= TOLERANCE * max(1, *np.abs(values[finite]), 1)
    for gradient, ours in zip(gradients[finite], got_gradients[finite], strict=True):
        if np.isfinite(gradient).all():
            assert np.abs(ours - gradient).max() <= TOLERANCE * max(1, np.abs(gradient).max())
    return "agrees"


def test_random_programs_agree_with_stan_or_are_refused():
    outcomes = []

    @seed(0)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.randoms(use_true_random=False))
    def examine(random):
        data = random_data(random)
        outcomes.append(outcome(random_program(random, data["N"], statements=3), data))

    examine()
    assert outcomes.count("agrees") >= EXAMPLES // 2
