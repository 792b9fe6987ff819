"""Programs: compiled once per signature, and few kept."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from essper.samplers import timing
from essper.samplers.timing import Clock, Program


@pytest.fixture
def two_are_kept(monkeypatch):
    monkeypatch.setattr(timing, "KEPT", 2)
    monkeypatch.setattr(timing, "_RECENT", timing._Recent())


def compilations(program, *args):
    """How many a call takes: 0 or 1."""
    clock = Clock()
    program(clock, *args)
    return int(clock.compile_seconds > 0)


def test_a_signature_is_compiled_once():
    program = Program(lambda x: 2 * x)
    assert [compilations(program, jnp.ones(n)) for n in (1, 2, 1, 2)] == [1, 1, 0, 0]
    assert compilations(Program(lambda x: 2 * x), jnp.ones(1)) == 1


def test_what_was_used_longest_ago_is_forgotten(two_are_kept):
    program, other = Program(lambda x: 2 * x), Program(lambda x: 3 * x)
    calls = [(program, 1), (other, 1), (program, 1), (other, 2), (program, 1), (other, 1)]
    assert [compilations(which, jnp.ones(n)) for which, n in calls] == [1, 1, 0, 1, 0, 1]
    assert np.array_equal(other(Clock(), jnp.ones(2)), [3.0, 3.0])


def test_a_forgotten_program_leaves_memory(two_are_kept):
    """Also JAX must not hold it: thousands do not fit into a process."""
    client = jax.devices()[0].client
    arguments = [jnp.ones(n) for n in range(1, 21)]
    before = len(client.live_executables())
    program = Program(lambda x: jnp.sin(x))
    assert sum(compilations(program, x) for x in arguments) == 20
    gc.collect()
    assert len(client.live_executables()) <= before + timing.KEPT
