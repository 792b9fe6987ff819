"""What a Gibbs sampler is given that makes no sense is refused by name, before or after it has run."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from essper.models import Blocks, Conditional, correlated_gaussian
from essper.samplers import Budget, Gibbs, HMCUpdate, MetropolisUpdate, SliceUpdate

TARGET = correlated_gaussian(2, 0.5)


def run(draw, start=None):
    blocks = Blocks({"mine": Conditional(draw, size=2)}, **({} if start is None else {"start": start}))
    return Gibbs().run(jax.random.key(0), replace(TARGET, blocks=blocks), Budget(100), chains=2)


@pytest.mark.parametrize(
    "draw",
    [
        lambda key, i, x, extra: (x[:1], extra),
        lambda key, i, x, extra: (x.astype(jnp.float32), extra),
        lambda key, i, x, extra: x,
        lambda key, i, x, extra: (x, extra | {"labels": jnp.zeros(3)}),
    ],
    ids=["shape", "type", "no extra", "another extra"],
)
def test_conditionals_that_do_not_return_what_they_are_given(draw):
    with pytest.raises(ValueError, match="the conditional 'mine' of correlated_gaussian has to return"):
        run(draw)


def test_what_is_in_extra_has_its_shape_from_the_start():
    kept = run(
        lambda key, i, x, extra: (x, {"labels": extra["labels"] + 1.0}),
        lambda key, x: {"labels": jnp.zeros(3)},
    )
    assert kept.info.extra["labels"].shape == (*kept.draws.shape[:2], 3)


def test_draws_that_are_no_numbers_are_named():
    found = run(lambda key, i, x, extra: (x.at[0].set(jnp.nan).at[1].add(1.0), extra))
    assert found.warnings == (
        "the coordinates 0 have draws that are not finite: what does their conditional return?",
    )


@pytest.mark.parametrize("given", [{"size": 0}, {"draws": 0}])
def test_a_conditional_has_a_block_and_a_cost(given):
    with pytest.raises(ValueError, match="give 1 or more"):
        Conditional(lambda key, i, x, extra: (x, extra), **given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gibbs(updates=()), "give a tuple of one or more updates"),
        (lambda: Gibbs(updates=(SliceUpdate((0, 1)),), exact=False), "generic and exact"),
        (lambda: Gibbs(scan="weighted", weights=(float("inf"), 1.0)), "positive numbers"),
        (lambda: HMCUpdate(num_integration_steps=0), "num_integration_steps=0"),
        (lambda: HMCUpdate(target_acceptance=2.0), "target_acceptance=2.0"),
        (lambda: MetropolisUpdate(target_acceptance=0.0), "target_acceptance=0.0"),
        (lambda: SliceUpdate((0,), width=0.0), "width=0.0"),
    ],
)
def test_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_updates_are_a_tuple():
    one: Any = SliceUpdate((0, 1))
    with pytest.raises(ValueError, match="give a tuple of one or more updates"):
        Gibbs(updates=one)


@pytest.mark.parametrize("coordinates", [[0, 1], 0])
def test_coordinates_are_a_tuple(coordinates):
    with pytest.raises(ValueError, match="give a tuple of one or more coordinates"):
        Gibbs(updates=(SliceUpdate(coordinates),)).bound(TARGET)
