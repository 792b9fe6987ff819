"""How chains run together: the choice, what it refuses, and that nothing is executed unreported."""

import json
from dataclasses import dataclass, field, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.benchmarks.specs import from_config, parse_spec
from essper.models import Target, standard_gaussian
from essper.models.target import Density
from essper.samplers import (
    HMC,
    NUTS,
    Budget,
    Cost,
    DelayedRejectionGeneralizedHMC,
    DelayedRejectionHMC,
    Info,
    Kernel,
    Run,
    TrajectoryLength,
    WindowedAdaptation,
)
from essper.samplers.adaptation import Tuning
from essper.samplers.driver import run_kernel
from essper.samplers.layouts import GROUP, choose_layout, group_sizes, idle_lanes, masks_its_steps
from essper.samplers.metrics import make_metric
from stan_programs import gaussian_posterior, rejecting_posterior

SHORT = TrajectoryLength(max_num_integration_steps=16)
FIXED = WindowedAdaptation(metric="identity", step_size=0.9)
"""Nothing to adapt, which leaves little to compile."""
CHAINS = 3
UNEQUAL = {
    "DR-HMC": DelayedRejectionHMC(trajectory=SHORT, adaptation=FIXED),
    "DR-HMC K=2 time always, adapted": DelayedRejectionHMC(
        stages=2, reduction=4.0, length="time", retry="always", trajectory=SHORT
    ),
    "DR-G-HMC": DelayedRejectionGeneralizedHMC(stages=2, adaptation=FIXED),
}


def run(sampler, target: Target, gradients: int = 1000, seed: int = 0) -> Run:
    return sampler.run(jax.random.key(seed), target, Budget(gradients), chains=CHAINS)


def spent(run: Run) -> np.ndarray:
    return np.asarray(run.warmup.gradients) + np.asarray(run.sampling.gradients)


@dataclass(frozen=True)
class Wandering:
    """Walks along the gradient for as many steps as each chain likes; claims nothing of its density."""

    says_so: bool = True
    execution: str = "auto"
    adaptation: WindowedAdaptation = field(default_factory=lambda: FIXED)

    equal_steps: ClassVar[bool] = False
    run = run_kernel

    def kernel(self, density: Density, tuning: Tuning) -> Kernel:
        def step(key, x):
            steps = jax.random.randint(key, (), 1, 20)

            def body(i, x):
                active = (i < steps) if self.says_so else None
                return x + 1e-3 * density.value_and_grad(x, active)[1]

            x = jax.lax.fori_loop(0, steps, body, x)
            return x, Info(Cost(gradients=steps), jnp.float64(1.0), jnp.bool_(False), {})

        return Kernel(lambda key, x: (x, Cost()), step, lambda x: x)


@pytest.mark.parametrize("name", UNEQUAL)
def test_masked_chains_execute_what_they_report(name):
    sampler = replace(UNEQUAL[name], execution="masked")
    done = run(sampler, rejecting_posterior())
    assert done.layout == "masked"
    assert done.executed is not None
    assert done.executed.failed > 0
    assert len(np.unique(done.info.cost.gradients)) > 1  # or there is nothing to mask
    assert done.executed.gradients == spent(done).sum()
    assert done.warnings == ()
    assert np.isfinite(done.draws).all()


def test_without_a_mask_the_same_draws_cost_more():
    masked, lockstep = (
        run(replace(UNEQUAL["DR-HMC"], execution=execution), rejecting_posterior())
        for execution in ("masked", "lockstep")
    )
    assert lockstep.layout == "lockstep"
    assert masked.draws.shape[1] > 20
    assert masked.draws.tobytes() == lockstep.draws.tobytes()
    assert lockstep.executed is not None
    executed = lockstep.executed.gradients / spent(lockstep).sum()
    (warning,) = lockstep.warnings
    assert "chains of unequal steps ran in lockstep" in warning
    at_least = float(warning.split("at least ")[1].split()[0])
    assert 1.05 < at_least < executed + 0.01


@pytest.mark.parametrize("sampler", [UNEQUAL["DR-HMC"], HMC(trajectory=SHORT)], ids=["DR-HMC", "HMC"])
def test_chains_that_share_nothing_draw_alike_in_every_layout(sampler):
    # To rounding: a batched sum may add in another order. A few draws, before the chains drift apart.
    sampler = replace(sampler, adaptation=replace(FIXED, step_size=0.4))
    masked, alone = (
        run(replace(sampler, execution=execution), gaussian_posterior(), 200)
        for execution in ("masked", "independent")
    )
    np.testing.assert_allclose(masked.draws[:, :5], alone.draws[:, :5], rtol=1e-9)
    np.testing.assert_array_equal(masked.info.cost.gradients[:, :5], alone.info.cost.gradients[:, :5])


def test_hmc_with_lengths_of_their_own_executes_what_it_reports():
    target = gaussian_posterior()
    tuning = Tuning(jnp.float64(0.2), make_metric(jnp.ones(3)))
    kernel = HMC(trajectory=TrajectoryLength(jitter=0.9)).kernel(target.density, tuning)
    assert target.counter is not None
    keys = jax.random.split(jax.random.key(0), 8)
    states, _ = jax.vmap(kernel.init)(keys, jnp.ones((8, 3)))
    states = jax.block_until_ready(states)._replace(iteration=jnp.arange(8, dtype=jnp.int32))
    before = target.counter.read().gradients
    _, info = jax.block_until_ready(jax.jit(jax.vmap(kernel.step))(keys, states))
    assert len(np.unique(info.cost.gradients)) > 3
    assert target.counter.read().gradients - before == info.cost.gradients.sum()


def test_any_kernel_that_says_what_it_wants_can_be_masked():
    for execution in ("masked", "independent", "lockstep"):
        done = run(Wandering(execution=execution), gaussian_posterior(), 300)
        assert done.executed is not None
        assert done.layout == execution
        assert (done.executed.gradients > 1.1 * spent(done).sum()) == (execution == "lockstep")
        assert execution == "lockstep" or done.executed.gradients == spent(done).sum()
    with pytest.raises(ValueError, match="a step of Wandering does not say of every evaluation"):
        run(Wandering(says_so=False, execution="masked"), gaussian_posterior())


def test_whether_a_kernel_can_be_masked_is_found_by_tracing():
    assert all(masks_its_steps(sampler, 3) for sampler in (*UNEQUAL.values(), HMC(), Wandering()))
    assert not any(masks_its_steps(sampler, 3) for sampler in (NUTS(), Wandering(says_so=False)))


STAN, JAX = gaussian_posterior, lambda: standard_gaussian(3)
"""A density that can leave evaluations out, and one that cannot."""


@pytest.mark.parametrize(
    ("platform", "target", "sampler", "layout"),
    [
        ("cpu", STAN, HMC(), "lockstep"),
        ("cpu", JAX, HMC(), "lockstep"),
        ("cpu", STAN, DelayedRejectionHMC(), "masked"),
        ("cpu", STAN, DelayedRejectionGeneralizedHMC(), "masked"),
        ("cpu", JAX, DelayedRejectionHMC(), "independent"),
        ("cpu", STAN, NUTS(), "independent"),
        ("cpu", JAX, NUTS(), "independent"),
        ("cpu", STAN, Wandering(says_so=False), "independent"),
        ("gpu", JAX, HMC(), "lockstep"),
        ("gpu", JAX, DelayedRejectionHMC(), "lockstep"),
        ("gpu", JAX, NUTS(), "lockstep"),
    ],
)
def test_rule(monkeypatch, platform, target, sampler, layout):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    assert choose_layout(sampler, target()) == layout


@pytest.mark.parametrize("execution", ["lockstep", "independent"])
@pytest.mark.parametrize("sampler", [HMC(), NUTS(max_num_doublings=4)], ids=["HMC", "NUTS"])
def test_asked_for(sampler, execution):
    done = run(replace(sampler, adaptation=FIXED, execution=execution), gaussian_posterior(), 400)
    assert done.layout == execution
    assert done.executed is not None
    assert done.executed.gradients >= spent(done).sum()


@pytest.mark.parametrize(
    ("sampler", "target", "why"),
    [
        (NUTS(execution="masked"), STAN, "a step of NUTS does not say of every evaluation"),
        (
            DelayedRejectionHMC(execution="masked"),
            JAX,
            r"the density of .*gaussian.* \(jax\) cannot leave out",
        ),
    ],
)
def test_mask_that_nobody_heeds_is_refused(sampler, target, why):
    with pytest.raises(ValueError, match=rf"execution='masked' is not possible: {why}.*give 'independent'"):
        run(sampler, target())


def test_word_that_is_no_layout():
    with pytest.raises(ValueError, match="execution='sideways': give one of auto, lockstep, masked"):
        run(Wandering(execution="sideways"), gaussian_posterior())


def test_spec_has_it():
    spec = parse_spec("drhmc[execution=masked]")
    assert spec.sampler == DelayedRejectionHMC(execution="masked")
    assert spec.label == "drhmc[execution=masked]"
    assert from_config("drhmc", json.loads(json.dumps(spec.config))) == spec
    with pytest.raises(ValueError, match="execution='sideways': give one of auto, lockstep, masked"):
        parse_spec("nuts[execution=sideways]")


def test_lanes_that_idle():
    equal, unequal = np.full((4, 50), 7), np.array([[1, 5], [3, 5]])
    assert idle_lanes("lockstep", equal) == idle_lanes("lockstep", np.zeros((2, 3), int)) == ()
    (sentence,) = idle_lanes("lockstep", unequal)
    assert "at least 1.14 evaluations per one reported" in sentence  # 2 · (3 + 5) / 14
    assert idle_lanes("masked", unequal) == idle_lanes("independent", unequal) == ()


def test_many_chains_make_groups_of_nearly_one_size(monkeypatch):
    assert group_sizes("lockstep", GROUP) == [GROUP]
    assert group_sizes("masked", 2 * GROUP + 1) == [43, 43, 43]
    assert group_sizes("lockstep", GROUP + 1) == [33, 32]
    assert group_sizes("independent", 3) == [1, 1, 1]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert group_sizes("lockstep", 1000) == [1000]


def test_groups_account_for_every_chain(monkeypatch):
    sampler = HMC(trajectory=SHORT)
    several = sampler.run(jax.random.key(0), gaussian_posterior(), Budget(300), chains=GROUP + 1)
    assert several.executed is not None
    assert several.executed.gradients == spent(several).sum()
    assert several.draws.shape[0] == len(spent(several)) == GROUP + 1
    assert len(np.unique(several.draws[:, -1], axis=0)) == GROUP + 1
    assert np.ndim(several.tuning["step_size"]) == 0
    monkeypatch.setenv("ESSPER_THREADS", "1")
    again = sampler.run(jax.random.key(0), gaussian_posterior(), Budget(300), chains=GROUP + 1)
    assert several.draws.tobytes() == again.draws.tobytes()


def test_lockstep_without_a_counter_says_what_is_known():
    done = run(Wandering(execution="lockstep"), standard_gaussian(3), 300)
    assert done.executed is None
    assert len(done.warnings) == 1
